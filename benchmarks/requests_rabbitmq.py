"""aio-pika's ways to ask: the tutorial's reply queue, direct reply-to, and its `patterns.RPC`.

The request goes to a durable quorum queue, persistent and mandatory, as in every other row; it is acknowledged when its
reply was sent.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.patterns import RPC

from benchmarks.contestant import Ask, Asking
from benchmarks.raw_rabbitmq import declare, message
from benchmarks.rows import HEADERS, prefetch

DIRECT = "amq.rabbitmq.reply-to"


class AioPikaTutorial(Asking):
    """Tutorial six of aio-pika's documentation: an exclusive queue for the replies, matched by correlation id."""

    confirms: ClassVar[bool] = True
    """aio-pika's default: who asks and who answers wait for the broker's confirmation."""

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        async with (
            await aio_pika.connect_robust(self.url) as answering,
            await aio_pika.connect_robust(self.url) as asking,
        ):
            await self._answer(await answering.channel(publisher_confirms=self.confirms))
            channel = await asking.channel(publisher_confirms=self.confirms)
            waiting: dict[str, asyncio.Future[bytes]] = {}
            reply_to = await self._replies(channel, waiting)

            async def ask(body: bytes) -> bytes:
                id = str(uuid4())
                reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                waiting[id] = reply
                request = message(body, dict(HEADERS))
                request.correlation_id, request.reply_to = id, reply_to
                await channel.default_exchange.publish(request, routing_key=self.channel, mandatory=self.confirms)
                return await reply

            yield ask

    async def _replies(self, channel: AbstractChannel, waiting: dict[str, asyncio.Future[bytes]]) -> str:
        """Begins to receive them; returns the queue's name."""
        queue = await channel.declare_queue(exclusive=True)
        await queue.consume(_taking(waiting), no_ack=True)
        return queue.name

    async def _answer(self, channel: AbstractChannel) -> None:
        await channel.set_qos(prefetch_count=prefetch(50))
        queue = await declare(channel, self.channel)

        async def handle(request: AbstractIncomingMessage) -> None:
            reply = aio_pika.Message(request.body, correlation_id=request.correlation_id)
            await channel.default_exchange.publish(reply, routing_key=request.reply_to or "", mandatory=self.confirms)
            await request.ack()

        await queue.consume(handle)


class AioPikaDirect(AioPikaTutorial):
    """RabbitMQ's direct reply-to: no queue for the replies."""

    async def _replies(self, channel: AbstractChannel, waiting: dict[str, asyncio.Future[bytes]]) -> str:
        queue = await channel.get_queue(DIRECT, ensure=False)
        await queue.consume(_taking(waiting), no_ack=True)
        return DIRECT


class AioPikaDirectUnconfirmed(AioPikaDirect):
    """Nobody waits for confirmations: a request that RabbitMQ refuses is noticed at its deadline only, and a reply that
    it refuses is lost."""

    confirms = False


class AioPikaRpc(Asking):
    """`aio_pika.patterns.RPC`: bodies are pickled, requests are not persistent, and their queue is a classic one."""

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        async with (
            await aio_pika.connect_robust(self.url) as answering,
            await aio_pika.connect_robust(self.url) as asking,
        ):
            channel = await answering.channel()
            await channel.set_qos(prefetch_count=prefetch(50))

            async def echo(*, body: bytes) -> bytes:
                return body

            await (await RPC.create(channel)).register(self.channel, echo, auto_delete=True)
            rpc = await RPC.create(await asking.channel())

            async def ask(body: bytes) -> bytes:
                reply = await rpc.call(self.channel, kwargs={"body": body})
                assert isinstance(reply, bytes)
                return reply

            yield ask


def _taking(waiting: dict[str, asyncio.Future[bytes]]):  # type: ignore[no-untyped-def]  # what `consume` takes
    async def take(reply: AbstractIncomingMessage) -> None:
        waiting.pop(reply.correlation_id or "").set_result(reply.body)

    return take
