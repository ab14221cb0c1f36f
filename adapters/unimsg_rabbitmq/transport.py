"""The bytes between aiormq and the broker.

aiormq connects, opens channels, declares and keeps the heartbeat. What comes in masses goes past it, through the
`TransportFactory` that it offers: publishes and settlements are written here, whole frames at a time; deliveries,
confirms and returns are taken out of the stream and given to the channel's `ChannelEvents`. That is for correctness
as much as for speed. aiormq ends a waiting publish with a bare CancelledError when a heartbeat is missed, finds a
returned message by its id alone, leaves a write pending for ever when its writer has died, and hides the text of a
refused handshake; here it is known of each byte whether it left.
"""

import asyncio
import ssl
import struct
from typing import Any

import aiormq
import pamqp.frame
from pamqp.commands import Basic, Channel, Connection
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader
from yarl import URL

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME = struct.Struct(">BHI")
OVERHEAD = FRAME.size + 1
INDEX = struct.Struct(">I")
CONFIRM = struct.Struct(">QB")
SETTLEMENT = struct.Struct(">BHIIQBB")
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
FRAME_END = 0xCE


class ChannelEvents:
    """What the broker says on one channel without being asked. Called while reading: quick, and never raises."""

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None: ...

    def on_return(self, method: Basic.Return, header: ContentHeader) -> None: ...

    def on_confirm(self, tag: int, multiple: bool, stored: bool) -> None: ...

    def on_cancel(self) -> None:
        """The broker ended a consumer: its queue was deleted, or it moved."""

    def on_close(self, code: int, text: str) -> None:
        """The broker closed the channel; or the connection is gone (code 0 unless the broker said why)."""


class Transport(aiormq.TransportFactory):
    """One connection's bytes. aiormq calls `create`, once."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.reader = FrameReader(self._loop)
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Any: aiormq's own parameters, of which this needs none."""
        reader = self.reader
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport, _protocol = await self._loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, ssl=self._context
        )
        self._writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        return reader, self._writer

    def write(self, frames: bytes) -> None:
        """Whole frames: aiormq writes whole frames too, so they never mix."""
        if self._writer is not None:
            self._writer.write(frames)

    async def drain(self) -> None:
        """Waits until there is room to write.

        Raises:
            OSError: the connection is lost.
        """
        if self._writer is not None:
            await self._writer.drain()

    def abort(self) -> None:
        """Closes it at once, whatever the other side does."""
        if self._writer is not None:
            self._writer.transport.abort()


class FrameReader(asyncio.StreamReader):
    """Splits what arrives into frames: those of a claimed channel's traffic go to its events, all others to aiormq."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=2**18, loop=loop)
        self._clock = loop.time
        self._rest = b""
        self._is_amqp = True
        self._channels: dict[int, _Assembly] = {}
        self._last_beat = 0.0
        self.last_read = loop.time()
        self.head = b""
        """The first bytes that came."""
        self.close: tuple[int, str] | None = None
        """The code and text with which the broker closed the connection."""
        self.blocked: str | None = None
        """Why the broker takes no messages at present."""
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.lost: asyncio.Future[str] = loop.create_future()
        """Done, with the cause in words, when the connection has ended."""

    def claim(self, number: int, events: ChannelEvents) -> None:
        """From now on the traffic of this channel goes to `events`, until the channel is closed."""
        self._channels[number] = _Assembly(events)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # asyncio's transports give bytes
        self.last_read = self._clock()
        if len(self.head) < OVERHEAD:
            self.head += data[:OVERHEAD]
        if self._is_amqp:
            data = self._split(self._rest + data if self._rest else data)
        if data:
            super().feed_data(data)

    def feed_eof(self) -> None:
        self._end("the connection was closed")
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self._end(f"the connection was lost: {exc}")
        super().set_exception(exc)

    def _split(self, data: bytes) -> bytes:
        """Takes out the frames of claimed channels, keeps a part of a frame for later, returns all else."""
        others: list[bytes] = []
        position = start = 0
        while len(data) - position >= OVERHEAD:
            kind, number, size = FRAME.unpack_from(data, position)
            if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
                self._is_amqp = False  # aiormq says what is wrong with it
                self._rest = b""
                return b"".join((*others, data[start:]))
            end = position + OVERHEAD + size
            if end > len(data):
                break
            if self._takes(kind, number, data, position, end):
                others.append(data[start:position])
                start = end
            position = end
        others.append(data[start:position])
        self._rest = data[position:]
        if start and self.last_read - self._last_beat > 1:
            # aiormq must see life, or it closes a busy connection for want of heartbeats.
            self._last_beat = self.last_read
            others.append(HEARTBEAT_FRAME)
        return b"".join(others)

    def _takes(self, kind: int, number: int, data: bytes, start: int, end: int) -> bool:
        if number == 0:
            if kind == METHOD:
                self._on_connection(INDEX.unpack_from(data, start + FRAME.size)[0], data[start:end])
            return False
        channel = self._channels.get(number)
        if channel is None:
            return False
        if kind == HEADER:
            return channel.on_header(data[start:end])
        if kind == BODY:
            return channel.on_body(data[start + FRAME.size : end - 1])
        index = INDEX.unpack_from(data, start + FRAME.size)[0]
        if index in (Channel.Close.index, Channel.CloseOk.index):
            del self._channels[number]
        return channel.on_method(index, data, start, end)

    def _on_connection(self, index: int, frame: bytes) -> None:
        if index == Connection.Blocked.index:
            method = _method(frame)
            self.blocked = method.reason if isinstance(method, Connection.Blocked) else "alarm"
            self.unblocked.clear()
        elif index == Connection.Unblocked.index:
            self.blocked = None
            self.unblocked.set()
        elif index == Connection.Close.index:
            method = _method(frame)
            if isinstance(method, Connection.Close):
                self.close = (method.reply_code or 0, method.reply_text or "")
                self._end(self.close[1], self.close[0])

    def _end(self, text: str, code: int = 0) -> None:
        if self.lost.done():
            return
        self.lost.set_result(text)
        self.blocked = None
        self.unblocked.set()  # who waits to write finds the connection lost, and gets another
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.events.on_close(code, text)


class _Assembly:
    """Puts the frames of one channel together."""

    __slots__ = ("_body", "_content", "_header", "_missing", "events")

    def __init__(self, events: ChannelEvents) -> None:
        self.events = events
        self._content: Basic.Deliver | Basic.Return | None = None
        self._header = ContentHeader()
        self._body: list[bytes] = []
        self._missing = 0

    def on_method(self, index: int, data: bytes, start: int, end: int) -> bool:
        """True: it was for us only."""
        if index == Basic.Ack.index or index == Basic.Nack.index:
            tag, flags = CONFIRM.unpack_from(data, start + FRAME.size + INDEX.size)
            self.events.on_confirm(tag, bool(flags & 1), index == Basic.Ack.index)
            return True
        if index == Basic.Deliver.index or index == Basic.Return.index:
            method = _method(data[start:end])
            self._content = method if isinstance(method, Basic.Deliver | Basic.Return) else None
            return True
        if index == Basic.Cancel.index:
            self.events.on_cancel()
        elif index == Channel.Close.index:
            method = _method(data[start:end])
            if isinstance(method, Channel.Close):
                self.events.on_close(method.reply_code or 0, method.reply_text or "")
        return False

    def on_header(self, frame: bytes) -> bool:
        if self._content is None:
            return False
        try:
            header = pamqp.frame.unmarshal(frame)[2]
        except Exception:  # noqa: BLE001  # whatever pamqp raises of bytes that others wrote
            # A name that is no UTF-8, a date beyond all calendars, arrays without end: an error here would end the
            # connection, again with each redelivery. The body is delivered without its properties.
            header = ContentHeader(body_size=struct.unpack_from(">Q", frame, FRAME.size + 4)[0])
        if isinstance(header, ContentHeader):
            self._header, self._missing, self._body = header, header.body_size, []
        if not self._missing:
            self._complete()
        return True

    def on_body(self, payload: bytes) -> bool:
        if self._content is None:
            return False
        self._body.append(payload)
        self._missing -= len(payload)
        if self._missing <= 0:
            self._complete()
        return True

    def _complete(self) -> None:
        method, self._content = self._content, None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if isinstance(method, Basic.Deliver):
            self.events.on_delivery(method, self._header, body)
        elif isinstance(method, Basic.Return):
            self.events.on_return(method, self._header)


def ack_frame(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """`multiple`: this one and all before it."""
    return SETTLEMENT.pack(METHOD, channel, 13, Basic.Ack.index, tag, multiple, FRAME_END)


def requeue_frame(channel: int, tag: int) -> bytes:
    return SETTLEMENT.pack(METHOD, channel, 13, Basic.Nack.index, tag, 0b10, FRAME_END)


def _method(frame: bytes) -> pamqp.frame.FrameTypes | None:
    try:
        return pamqp.frame.unmarshal(frame)[2]
    except (PAMQPException, ValueError):
        return None
