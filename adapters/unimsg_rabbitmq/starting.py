"""A new subscription that begins in its topic's history.

Its queue exists before it is bound: the history is copied into it first, then it is bound, then what was stored
meanwhile is copied too. What the queue got by itself since it is bound, a second queue gets as well, and tells here:
that is not copied. RabbitMQ binds no two queues at once, so what is sent in the milliseconds between the two may come
twice; and what was on its way when the queue was bound comes a little behind what was sent after it.

A mark says that this has begun and did not end. Who finds it copies again, from the start: twice is better than never.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Protocol
from weakref import WeakValueDictionary

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from unimsg.adapter import Address, Difference, Wanted, Wire
from unimsg.backoff import Backoff
from unimsg.errors import ConnectError, PermissionDenied, PublishError, PublishForbidden, Refused, TopologyError
from unimsg_rabbitmq import history, topology
from unimsg_rabbitmq.connection import CLOSE_TIMEOUT, Link, answered, close_channel
from unimsg_rabbitmq.errors import BROKEN
from unimsg_rabbitmq.options import RabbitOptions
from unimsg_rabbitmq.transport import ChannelEvents
from unimsg_rabbitmq.wire import wire_of

log = logging.getLogger(__name__)
SETTLED = 1.0
"""Seconds for what was routed before the queue was bound to be stored in the stream."""
FEW = 500
"""Messages that are copied in no time: the queue is bound when no more than these are behind."""
MOST_ROUNDS = 10
SEND_TIMEOUT = 30.0


class Send(Protocol):
    """`Adapter.send`."""

    def __call__(
        self, address: Address, messages: Sequence[Wire], *, timeout: float
    ) -> Awaitable[Sequence[PublishError | None]]: ...


class Starts:
    """Of one adapter."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(
        self, link: Link, address: Address, options: RabbitOptions, wanted: Wanted, on_progress: Callable[[], None]
    ) -> None:
        """Makes the subscription, if it does not exist, with what was sent since `wanted.start`. Raises aiormq's
        errors, and those of `Adapter.ensure`."""
        if wanted.start is None or not await _is_open(link, address):
            return
        mark = mark_of(address)
        lock = self._locks.setdefault(mark, asyncio.Lock())  # RabbitMQ keeps other connections out, not other tasks
        async with lock, _alone(link, mark, on_progress) as live:
            if not await _is_open(link, address):
                return
            await topology.make_mark(link, mark)
            await topology.create(link, address, options, kept=wanted.history, bound=False)
            if await topology.exists(link, topology.look_queue(history.stream_of(address))):
                copied = await self._catch_up(link, address, wanted.start, on_progress)
                await live.bind(address)
                await asyncio.sleep(SETTLED)
                await self._copy(link, address, copied, live.ids, on_progress)
            await topology.remove_mark(link, mark)

    async def _catch_up(
        self, link: Link, address: Address, begin: datetime | int, on_progress: Callable[[], None]
    ) -> datetime | int:
        """Copies until little is behind. Returns where the next copying begins."""
        for _ in range(MOST_ROUNDS):
            before = begin
            begin, count = await self._copy(link, address, begin, (), on_progress)
            if count <= FEW or begin == before:
                break
        return begin

    async def _copy(
        self,
        link: Link,
        address: Address,
        begin: datetime | int,
        known: Container[str],
        on_progress: Callable[[], None],
    ) -> tuple[datetime | int, int]:
        """Copies up to the end that the stream has now, but for the known ids. Returns that end, and how many."""
        stream, count = history.stream_of(address), 0
        last = await history.newest(link, stream)
        if last is None or last == begin:
            return begin, 0
        async with aclosing(history.entries(link, stream, begin, last)) as batches:
            async for batch in batches:
                wires = [wire for entry in batch if (wire := entry.wire).id not in known]
                for error in await self._send(address, wires, timeout=SEND_TIMEOUT):
                    if error is not None:
                        raise _failure(address, error) from error
                count += len(wires)
                on_progress()
        return last, count


async def compare(link: Link, address: Address) -> Sequence[Difference]:
    """What `begin` would do for a subscription that exists."""
    if address.subscription is None or not await topology.exists(link, topology.look_exchange(mark_of(address))):
        return []
    return [Difference(f"queue {address.name}", "all of its history", "a part: copying was interrupted")]


def mark_of(address: Address) -> str:
    return f"{address.name}..start"


async def _is_open(link: Link, address: Address) -> bool:
    """Whether the subscription has still to be begun: where the first of its queues exists, all exist."""
    if not await topology.exists(link, topology.look_queue(topology.queues_of(address)[0])):
        return True
    return await topology.exists(link, topology.look_exchange(mark_of(address)))


def _failure(address: Address, error: PublishError) -> Exception:
    match error:
        case PublishForbidden():
            return PermissionDenied(f"RabbitMQ: {address.name}: copying its history into it is not allowed: {error}")
        case Refused():
            return TopologyError(f"RabbitMQ: {address.name} does not take all of its history: {error}")
    return ConnectError(f"RabbitMQ: {address.name}: its history was not copied to the end: {error}", reason="refused")


class _Live(ChannelEvents):
    """The ids of what the subscription gets by itself, through a queue that is gone with this connection."""

    channel: AbstractChannel

    def __init__(self, name: str) -> None:
        self.ids: set[str] = set()
        self._name = name

    async def open(self, link: Link) -> bool:
        """False: another connection has the queue."""
        self.channel = await link.channel(self)
        try:
            await answered(self.channel.queue_declare(self._name, exclusive=True))
        except aiormq.exceptions.ChannelLockedResource:
            return False
        except BaseException:  # cancelled: it may be there, and nobody else would get in as long as this process lives
            await self.aclose(link)
            raise
        return True

    async def aclose(self, link: Link) -> None:
        await close_channel(self.channel)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT), link.scratch() as channel:
                await answered(channel.queue_delete(self._name))
        except BROKEN as error:
            log.debug("deleting %s, which ends with its connection: %r", self._name, error)

    async def bind(self, address: Address) -> None:
        """First the subscription's own queues: what is heard of here, they have."""
        await answered(self.channel.basic_consume(self._name, _unused, no_ack=True))
        for name, key in zip(topology.queues_of(address), topology.binding_keys(address), strict=True):
            await answered(self.channel.queue_bind(name, address.channel, key))
            await answered(self.channel.queue_bind(self._name, address.channel, key))

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        self.ids.add(wire_of(header.properties, body).id)


@asynccontextmanager
async def _alone(link: Link, name: str, on_progress: Callable[[], None]) -> AsyncIterator[_Live]:
    """Waits until no other connection does the same: an exclusive queue is refused to all others."""
    backoff = Backoff()
    live = _Live(name)
    while not await live.open(link):
        on_progress()  # of who has it: it is gone with a connection that is lost
        await asyncio.sleep(backoff.next())
    try:
        yield live
    finally:
        await live.aclose(link)


async def _unused(_: DeliveredMessage) -> None:
    """aiormq wants a callback; the transport takes the deliveries."""
