"""Looking at what a queue holds, without taking it.

AMQP has no way to look: what is seen was delivered, and goes back when the channel closes. A consumer is the least
harmful one. All that it got goes back in order and in one go, however it ends; what `basic.get` took goes back in any
order, and takes a round trip and a write to disk for each message.
"""

import asyncio
from collections.abc import Sequence

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from unimsg.adapter import Wire
from unimsg_rabbitmq.connection import Link, answered, close_channel
from unimsg_rabbitmq.transport import ChannelEvents
from unimsg_rabbitmq.wire import wire_of

MOST = 65_535
"""AMQP has 16 bits for the number of messages that a consumer may hold."""
TAKEN = 1.0
"""Seconds without a message, after which others must have taken what is missing of those that waited."""
QUIET = 0.2
"""The same when all came that waited. What a receiver held that has just been closed comes a little later."""
BACK = 1.0
"""Seconds for what was seen to be there for others again. It goes back in any case."""


async def look(link: Link, queue: str, limit: int) -> Sequence[Wire]:
    """The first messages that wait, 65,535 at most. Others do not get them meanwhile. Raises aiormq's errors."""
    most = max(1, min(limit, MOST))  # 0 would mean: no limit
    seen = _Seen()
    channel = await link.channel(seen)
    try:
        waiting = (await answered(channel.queue_declare(queue, passive=True))).message_count or 0
        await answered(channel.basic_qos(prefetch_count=most))
        await answered(channel.basic_consume(queue, _unused))
        await seen.until_quiet(waiting, most)
    finally:
        await close_channel(channel)
    if seen.wires:
        await _back(link, queue, max(waiting, len(seen.wires)))
    return seen.wires


class _Seen(ChannelEvents):
    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self._more = asyncio.Event()
        self._ended = False

    async def until_quiet(self, waiting: int, limit: int) -> None:
        """Returns when `limit` came, or when no more is to be expected."""
        while len(self.wires) < limit and not self._ended:
            self._more.clear()
            try:
                async with asyncio.timeout(TAKEN if len(self.wires) < waiting else QUIET):
                    await self._more.wait()
            except TimeoutError:
                return

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        self.wires.append(wire_of(header.properties, body))
        self._more.set()

    def on_cancel(self) -> None:
        self._ended = True
        self._more.set()

    def on_close(self, code: int, text: str) -> None:
        self.on_cancel()


async def _back(link: Link, queue: str, count: int) -> None:
    """RabbitMQ puts them back a little after it has closed the channel: who looks again at once would miss them."""
    end = asyncio.get_running_loop().time() + BACK
    async with link.scratch() as channel:
        while asyncio.get_running_loop().time() < end:
            declared = await answered(channel.queue_declare(queue, passive=True))
            if (declared.message_count or 0) >= count:
                return


async def _unused(_: DeliveredMessage) -> None:
    """aiormq wants a callback; the transport takes the deliveries."""
