"""What a topic keeps: a stream that is bound beside its subscriptions, and read from any moment.

Of a stream, RabbitMQ answers no question that tells its end: the count of its messages is seconds old. But a channel
does what it is asked in order. Once an acknowledgement has given it room and a later question is answered, it has sent
all that it has.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from unimsg.adapter import Address, Wire
from unimsg.backoff import Backoff
from unimsg_rabbitmq import errors
from unimsg_rabbitmq.connection import Connection, Link, answered, close_channel
from unimsg_rabbitmq.delays import Arguments
from unimsg_rabbitmq.transport import ChannelEvents
from unimsg_rabbitmq.wire import wire_of, written

MAX_HISTORY = timedelta(days=3650)
LAG = 0.5
"""Seconds for what was confirmed by most of a cluster to be on the node that is asked."""
SKEW = timedelta(minutes=1)
"""Between RabbitMQ's clock, by which a stream is entered, and the senders', by which a message is old."""
HELD = 200
"""Messages that this process is sent before it asks for more."""
WHOLE_CHUNK = 65_535
"""More messages are in no chunk of a stream, nor can a consumer hold more."""


def stream_of(address: Address) -> str:
    """Of a topic, or of the topic of a subscription."""
    return f"{address.channel}..history"


def arguments_of(history: timedelta) -> Arguments:
    """RabbitMQ deletes whole segments, of 500 MB unless it is told otherwise: what is older may stay for longer."""
    return {"x-queue-type": "stream", "x-max-age": f"{ceil(history.total_seconds())}s"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a stream."""

    offset: int
    tag: int
    properties: Basic.Properties
    body: bytes

    @property
    def wire(self) -> Wire:
        return wire_of(self.properties, self.body)

    def is_since(self, moment: datetime) -> bool:
        """Whether it was sent since then, which only its sender's time tells exactly. What says to be much older was
        sent late, and RabbitMQ knows better."""
        own = written(self.properties)
        return own is None or own >= moment or own < moment - 2 * SKEW


async def read(
    connection: Connection, topic: Address, since: datetime, timeout: float
) -> AsyncGenerator[Sequence[Wire], None]:
    """As `Operations.history`."""
    stream = stream_of(topic)
    try:
        async with asyncio.timeout(timeout):
            link = await connection.get()
            await asyncio.sleep(LAG)
            last = await newest(link, stream)
        if last is None:
            return
        async with aclosing(entries(link, stream, since, last)) as batches:
            while True:
                async with asyncio.timeout(timeout):
                    batch = await anext(batches, None)
                if batch is None:
                    return
                yield [entry.wire for entry in batch]
    except errors.BROKEN as error:
        raise errors.operation_failure(error, "reading the history of", topic) from error


async def newest(link: Link, stream: str) -> int | None:
    """The offset of the newest message; None: there is none. Raises aiormq's errors."""
    backoff = Backoff(0.01, 0.2)
    while not (found := await _peek(link, stream, "last", WHOLE_CHUNK)):
        if not await _peek(link, stream, "first", 1):
            return None
        await asyncio.sleep(backoff.next())  # the last chunk is written, and not yet confirmed: nobody is sent it
    return found[-1].offset


async def _peek(link: Link, stream: str, begin: str, room: int) -> Sequence[Entry]:
    reader = _Reader(link, stream)
    try:
        await reader.open(begin, room)
        return await reader.take()
    finally:
        await reader.aclose()


async def entries(link: Link, stream: str, begin: datetime | int, last: int) -> AsyncGenerator[Sequence[Entry], None]:
    """What is in a stream from a moment, or behind an offset, up to the offset `last`. Raises aiormq's errors."""
    reader = _Reader(link, stream)
    try:
        await reader.open(begin if isinstance(begin, int) else begin - SKEW, HELD)
        some_are_there = isinstance(begin, int) and begin < last
        while batch := await reader.take(wait=some_are_there):
            some_are_there = True
            await reader.make_room(batch)
            wanted = [entry for entry in batch if entry.offset <= last and _is_inside(entry, begin)]
            if wanted:
                yield wanted
            if batch[-1].offset >= last:
                return
    finally:
        await reader.aclose()


def _is_inside(entry: Entry, begin: datetime | int) -> bool:
    return entry.offset > begin if isinstance(begin, int) else entry.is_since(begin)


class _Reader(ChannelEvents):
    """One consumer of a stream, on a channel of its own."""

    def __init__(self, link: Link, stream: str) -> None:
        self._link = link
        self._stream = stream
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._came: list[Entry] = []
        self._ended: str | None = None
        self._more = asyncio.Event()

    async def open(self, begin: str | int | datetime, room: int) -> None:
        self._channel = channel = await self._link.channel(self)
        self._room = room
        await answered(channel.basic_qos(prefetch_count=room))
        if isinstance(begin, datetime):
            begin = begin.astimezone(UTC)
        await answered(channel.basic_consume(self._stream, _unused, arguments={"x-stream-offset": begin}))

    async def take(self, *, wait: bool = False) -> Sequence[Entry]:
        """What has come, and at least one message if there is one; `wait`: there is one."""
        if not self._came and self._channel is not None:
            await answered(self._channel.basic_qos(prefetch_count=self._room))  # any question: see above
        if wait and not self._came:
            self._more.clear()
            await self._more.wait()
        if self._ended is not None:
            raise aiormq.AMQPConnectionError(self._ended)
        came, self._came = self._came, []
        return came

    async def make_room(self, batch: Sequence[Entry]) -> None:
        if self._channel is not None:
            await answered(self._channel.basic_ack(batch[-1].tag, multiple=True))

    async def aclose(self) -> None:
        if self._channel is not None:
            await close_channel(self._channel)

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        offset = (header.properties.headers or {}).get("x-stream-offset")
        if isinstance(offset, int):
            self._came.append(Entry(offset, method.delivery_tag or 0, header.properties, body))
            self._more.set()

    def on_cancel(self) -> None:
        self.on_close(0, "RabbitMQ ended the reading of the stream")

    def on_close(self, code: int, text: str) -> None:
        self._ended = text
        self._more.set()


async def _unused(_: DeliveredMessage) -> None:
    """aiormq wants a callback; the transport takes the deliveries."""
