"""Looking at what a queue holds, without taking it.

AMQP has no way to look: what is seen was delivered, and goes back when the channel closes. A consumer is the least
harmful one. All that it got goes back in order and in one go, however it ends; what `basic.get` took goes back in any
order, and takes a round trip and a write to disk for each message.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from unimsg.adapter import Wire
from unimsg.mailbox import PAGE, PAGE_BYTES, pages
from unimsg_rabbitmq.connection import Connection, Link, answered, close_channel
from unimsg_rabbitmq.errors import BROKEN
from unimsg_rabbitmq.transport import ChannelEvents
from unimsg_rabbitmq.wire import wire_of

FIRST = 20
"""Messages of the first page: what the others may hold is known from the largest that was seen."""
TAKEN = 1.0
"""Seconds without a message, after which RabbitMQ is asked whether any wait at all."""
QUIET = 0.2
"""The same when all came that waited. What a receiver held that has just been closed comes a little later."""
BACK = 1.0
"""Seconds for what was seen to be there for others again. It goes back in any case."""


async def look(connection: Connection, queue: str, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
    """As `Operations.browse`. Others do not get what was shown before it ends. Raises aiormq's errors and TimeoutError.

    A consumer for each page, all on one channel: RabbitMQ sends each so many messages as it may hold, and no bytes
    limit that.
    """
    seen = _Seen()
    async with asyncio.timeout(timeout):
        link = await connection.get()
        channel = await link.channel(seen)
    shown, size = 0, FIRST
    try:
        async with asyncio.timeout(timeout):
            waiting = await _count(channel, queue)
        while shown < limit:
            most = min(limit - shown, size)
            async with asyncio.timeout(timeout):
                await answered(channel.basic_qos(prefetch_count=most))
                await answered(channel.basic_consume(queue, _unused))
                wires = await _page(link, queue, seen, most, waiting - shown)
            shown += len(wires)
            size = min(PAGE, max(1, PAGE_BYTES // max(1, *(len(wire.body) for wire in wires)))) if wires else FIRST
            for page in pages(wires):
                yield page
            if len(wires) < most:
                return
    finally:
        await close_channel(channel)
        if shown:
            await _back(link, queue, max(waiting, shown))


async def _page(link: Link, queue: str, seen: "_Seen", most: int, expected: int) -> list[Wire]:
    """The next `most`, or as many as there are."""
    while not await seen.has(most, TAKEN if len(seen.wires) < expected else QUIET):
        if seen.ended:
            break
        async with link.scratch() as channel:
            if not await _count(channel, queue):  # else they are on their way
                break
    return seen.take()


class _Seen(ChannelEvents):
    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.ended = False
        """The queue was deleted."""
        self._lost: str | None = None
        self._more = asyncio.Event()

    async def has(self, most: int, patience: float) -> bool:
        """Whether so many came, without so long a pause between them."""
        while len(self.wires) < most:
            if self._lost is not None:
                raise aiormq.AMQPConnectionError(self._lost)
            if self.ended:
                return False
            self._more.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._more.wait()
            except TimeoutError:
                return False
        return True

    def take(self) -> list[Wire]:
        taken, self.wires = self.wires, []
        return taken

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        self.wires.append(wire_of(header.properties, body))
        self._more.set()

    def on_cancel(self) -> None:
        self.ended = True
        self._more.set()

    def on_close(self, code: int, text: str) -> None:
        self._lost = text
        self._more.set()


async def _count(channel: AbstractChannel, queue: str) -> int:
    return (await answered(channel.queue_declare(queue, passive=True))).message_count or 0


async def _back(link: Link, queue: str, count: int) -> None:
    """RabbitMQ puts them back a little after it has closed the channel: who looks again at once would miss them."""
    end = asyncio.get_running_loop().time() + BACK
    with suppress(*BROKEN):
        async with link.scratch() as channel:
            while await _count(channel, queue) < count and asyncio.get_running_loop().time() < end:
                pass


async def _unused(_: DeliveredMessage) -> None:
    """aiormq wants a callback; the transport takes the deliveries."""
