"""aio-pika as its documentation uses it: robust connection, publisher confirms, a callback that acknowledges."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
    HeadersType,
)
from aio_pika.exceptions import ChannelNotFoundEntity

from benchmarks.arrivals import Arrivals
from benchmarks.contestant import Contestant, Sender
from benchmarks.rows import HEADERS, PARTITIONS, prefetch

PLACES = ("", "..dead", "..retry", "..retry.100ms", *[f"..p{number}" for number in range(PARTITIONS)])
"""What the names of a contestant's queues can end with."""


async def declare(channel: AbstractChannel, name: str) -> AbstractQueue:
    return await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})


def message(body: bytes, headers: HeadersType) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        headers=headers,
        content_type="application/octet-stream",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


class _Sender(Sender):
    def __init__(self, exchange: AbstractExchange, queue: str) -> None:
        self._exchange = exchange
        self._queue = queue

    async def send(self, body: bytes) -> None:
        await self._exchange.publish(message(body, dict(HEADERS)), routing_key=self._queue, mandatory=True)


class AioPika(Contestant):
    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        connection = await aio_pika.connect_robust(self.url)
        async with connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await declare(channel, self.channel)
            yield _Sender(channel.default_exchange, self.channel)

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        async def handle(message: AbstractIncomingMessage) -> None:
            arrivals.note(message.body)
            await message.ack()

        connection = await aio_pika.connect_robust(self.url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=prefetch(concurrency))
            queue = await declare(channel, self.channel)
            tag = await queue.consume(handle)
            await arrivals.complete.wait()
            await queue.cancel(tag)


async def read_back(url: str, name: str, arrivals: Arrivals) -> None:
    """Takes everything out of the queue, as fast as it comes."""

    async def handle(message: AbstractIncomingMessage) -> None:
        arrivals.note(message.body)

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(name)
        await queue.consume(handle, no_ack=True)
        await arrivals.complete.wait()


async def unsettled(url: str, name: str) -> int:
    """Messages that the broker still has, once it has seen the consumers leave."""
    async with await aio_pika.connect(url) as connection:
        return sum([await _left(connection, name + place) for place in PLACES])


async def _left(connection: AbstractConnection, queue: str) -> int:
    channel = await connection.channel()  # one for each: it is closed where there is no such queue
    try:
        while True:
            found = (await channel.declare_queue(queue, passive=True)).declaration_result
            if not found.consumer_count:
                return found.message_count or 0
            await asyncio.sleep(0.05)
    except ChannelNotFoundEntity:
        return 0


async def remove(url: str, name: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for place in PLACES:
            await channel.queue_delete(name + place)  # no error where there is none
