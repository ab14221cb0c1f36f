"""FastStream on RabbitMQ as its documentation uses it, with a durable quorum queue and persistent messages.

`logger=None`: its default logs two lines a message, and would be measured instead.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from benchmarks.arrivals import Arrivals
from benchmarks.contestant import Ask, Asking, Contestant, Sender
from benchmarks.rows import HEADERS, prefetch


def queue(name: str) -> RabbitQueue:
    return RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True)


class _Sender(Sender):
    def __init__(self, broker: RabbitBroker, queue: RabbitQueue) -> None:
        self._broker = broker
        self._queue = queue

    async def send(self, body: bytes) -> None:
        await self._broker.publish(body, self._queue, headers=dict(HEADERS), persist=True, mandatory=True)


class FastStreamRabbit(Contestant):
    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        broker = RabbitBroker(self.url, default_channel=Channel(on_return_raises=True), logger=None)
        async with broker:
            await broker.start()
            await broker.declare_queue(queue(self.channel))
            yield _Sender(broker, queue(self.channel))

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        broker = RabbitBroker(self.url, logger=None)

        @broker.subscriber(
            queue(self.channel),
            channel=Channel(prefetch_count=prefetch(concurrency)),
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )
        async def handle(body: bytes) -> None:
            arrivals.note(body)

        async with broker:
            await broker.start()
            await arrivals.complete.wait()


class FastStreamAsking(Asking):
    """Its `request`: direct reply-to, one at a time."""

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        answering = RabbitBroker(self.url, logger=None)

        @answering.subscriber(
            queue(self.channel), channel=Channel(prefetch_count=prefetch(50)), ack_policy=AckPolicy.NACK_ON_ERROR
        )
        async def answer(body: bytes) -> bytes:
            return body

        asking = RabbitBroker(self.url, logger=None)
        async with answering, asking:
            await answering.start()
            await asking.start()

            async def ask(body: bytes) -> bytes:
                reply = await asking.request(body, queue(self.channel), headers=dict(HEADERS), timeout=30, persist=True)
                answer: bytes = reply.body
                return answer

            yield ask
