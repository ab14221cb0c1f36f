"""aio-pika keeping the order of keys, and trying again what failed: the least that does it without losing anything."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from zlib import crc32

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue, HeadersType
from pamqp.common import FieldTable

from benchmarks.arrivals import Arrivals, FailingOnce, HandlerFailed, InOrder
from benchmarks.contestant import Sender
from benchmarks.raw_rabbitmq import AioPika, declare, message
from benchmarks.rows import HEADERS, PARTITIONS, RETRY_DELAY, key_of, prefetch


class _KeyedSender(Sender):
    def __init__(self, exchange: AbstractExchange, channel: str) -> None:
        self._exchange = exchange
        self._channel = channel

    async def send(self, body: bytes) -> None:
        key = key_of(body)
        queue = partition(self._channel, crc32(key.encode()) % PARTITIONS)
        headers: HeadersType = {**HEADERS, "key": key}
        await self._exchange.publish(message(body, headers), routing_key=queue, mandatory=True)


class AioPikaOrdered(AioPika):
    """Queues that share the keys, so that several processes can share the work; of each, one process has the messages;
    in it a lock for each key. A message is acknowledged before the next one of its key is handled."""

    arrivals = InOrder

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        async with await aio_pika.connect_robust(self.url) as connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await self._declare(channel)
            yield _KeyedSender(channel.default_exchange, self.channel)

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        locks: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)

        async def handle(message: AbstractIncomingMessage) -> None:
            async with locks[message.headers["key"]]:  # the library makes a task of each message, in order
                arrivals.note(message.body)
                await message.ack()

        async with await aio_pika.connect_robust(self.url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=prefetch(concurrency))
            tags = [(queue, await queue.consume(handle)) for queue in await self._declare(channel)]
            await arrivals.complete.wait()
            for queue, tag in tags:
                await queue.cancel(tag)

    async def _declare(self, channel: AbstractChannel) -> list[AbstractQueue]:
        arguments: FieldTable = {"x-queue-type": "quorum", "x-single-active-consumer": True}
        return [
            await channel.declare_queue(partition(self.channel, number), durable=True, arguments=arguments)
            for number in range(PARTITIONS)
        ]


def partition(channel: str, number: int) -> str:
    return f"{channel}..p{number}"


class AioPikaRetrying(AioPika):
    """A copy goes to a queue whose messages come back when their time is over; once it is confirmed, the original is
    acknowledged."""

    arrivals = FailingOnce

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        async with await aio_pika.connect_robust(self.url) as connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.set_qos(prefetch_count=prefetch(concurrency))
            queue = await declare(channel, self.channel)
            waiting = await self._declare_waiting(channel)

            async def handle(received: AbstractIncomingMessage) -> None:
                try:
                    arrivals.note(received.body)
                except HandlerFailed:
                    copy = message(received.body, {**received.headers, "failed": True})
                    await channel.default_exchange.publish(copy, routing_key=waiting.name, mandatory=True)
                await received.ack()

            tag = await queue.consume(handle)
            await arrivals.complete.wait()
            await queue.cancel(tag)

    async def _declare_waiting(self, channel: AbstractChannel) -> AbstractQueue:
        arguments: FieldTable = {
            "x-queue-type": "quorum",
            "x-message-ttl": int(RETRY_DELAY * 1000),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.channel,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # at-least-once needs it
        }
        return await channel.declare_queue(f"{self.channel}..retry", durable=True, arguments=arguments)
