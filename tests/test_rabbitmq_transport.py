"""Frames are split rightly however the bytes arrive, and aiormq still gets what is its own."""

import asyncio
import itertools
import struct

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Connection
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat
from unimsg_rabbitmq.transport import (
    HEARTBEAT_FRAME,
    ChannelEvents,
    FrameReader,
    ack_frame,
    requeue_frame,
)
from unimsg_rabbitmq.wire import wire_of

OURS, THEIRS = 3, 4


class Seen(ChannelEvents):
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        self.events.append(("delivery", method.delivery_tag, header.properties.message_id, body))

    def on_return(self, method: Basic.Return, header: ContentHeader) -> None:
        self.events.append(("return", method.routing_key, header.properties.message_id))

    def on_confirm(self, tag: int, multiple: bool, stored: bool) -> None:
        self.events.append(("confirm", tag, multiple, stored))

    def on_cancel(self) -> None:
        self.events.append(("cancel",))

    def on_close(self, code: int, text: str) -> None:
        self.events.append(("close", code, text))


def frame(value: pamqp.frame.FrameTypes, channel: int = OURS) -> bytes:
    return pamqp.frame.marshal(value, channel)


def content(method: pamqp.frame.FrameTypes, id: str, *parts: bytes, channel: int = OURS) -> bytes:
    header = ContentHeader(body_size=sum(map(len, parts)), properties=Basic.Properties(message_id=id))
    return b"".join(frame(each, channel) for each in (method, header, *map(ContentBody, parts)))


def delivery(tag: int) -> Basic.Deliver:
    return Basic.Deliver("consumer", tag, False, "", "queue")


TRAFFIC = [
    (content(delivery(1), "a", b"12", b"345"), ("delivery", 1, "a", b"12345")),
    (content(delivery(2), "b"), ("delivery", 2, "b", b"")),
    (content(Basic.Return(312, "NO_ROUTE", "", "route"), "c", b"x"), ("return", "route", "c")),
    (frame(Basic.Ack(7, True)), ("confirm", 7, True, True)),
    (frame(Basic.Nack(8, False)), ("confirm", 8, False, False)),
]
PASSED_ON = [
    content(delivery(9), "theirs", b"body", channel=THEIRS),
    frame(Channel.OpenOk(), THEIRS),
    frame(Heartbeat(), 0),
    frame(Basic.ConsumeOk("consumer")),
]


def reader_of(seen: Seen, loop: asyncio.AbstractEventLoop) -> FrameReader:
    reader = FrameReader(loop)
    reader.claim(OURS, seen)
    return reader


def passed_on(reader: FrameReader, loop: asyncio.AbstractEventLoop) -> bytes:
    reader.feed_eof()
    return loop.run_until_complete(reader.read(-1))


@given(
    order=st.permutations(range(len(TRAFFIC) + len(PASSED_ON))),
    cuts=st.lists(st.integers(min_value=0, max_value=700)),
)
def test_any_order_and_any_cut(order: list[int], cuts: list[int]) -> None:
    """However frames of ours and of others mix, and wherever the network cuts them."""
    known = [data for data, _ in TRAFFIC] + PASSED_ON
    data = b"".join(known[index] for index in order)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    loop = asyncio.new_event_loop()
    try:
        seen = Seen()
        reader = reader_of(seen, loop)
        for start, end in itertools.pairwise(places):
            reader.feed_data(data[start:end])
        assert seen.events == [TRAFFIC[index][1] for index in order if index < len(TRAFFIC)]
        others = b"".join(known[index] for index in order if index >= len(TRAFFIC))
        # One more heartbeat than was sent tells aiormq that the connection lives.
        got = passed_on(reader, loop)
        assert got.replace(HEARTBEAT_FRAME, b"") == others.replace(HEARTBEAT_FRAME, b"")
        assert got.count(HEARTBEAT_FRAME) == 2
    finally:
        loop.close()


async def test_the_broker_closes_the_channel() -> None:
    """The events are told at once, aiormq too, and what comes after is aiormq's."""
    seen = Seen()
    reader = reader_of(seen, asyncio.get_running_loop())
    close = frame(Channel.Close(404, "NOT_FOUND", 60, 40))
    reader.feed_data(close + frame(Channel.OpenOk()))
    assert seen.events == [("close", 404, "NOT_FOUND")]
    assert await reader.readexactly(len(close)) == close
    assert not reader.lost.done()


async def test_the_broker_ends_a_consumer() -> None:
    seen = Seen()
    reader = reader_of(seen, asyncio.get_running_loop())
    cancel = frame(Basic.Cancel("consumer", True))
    reader.feed_data(cancel)
    assert seen.events == [("cancel",)]
    assert await reader.readexactly(len(cancel)) == cancel


async def test_the_connection_ends() -> None:
    """Each channel hears of it once, with the broker's words if it said any."""
    seen = Seen()
    reader = reader_of(seen, asyncio.get_running_loop())
    reader.feed_data(frame(Connection.Close(320, "CONNECTION_FORCED", 0, 0), 0))
    reader.feed_eof()
    assert seen.events == [("close", 320, "CONNECTION_FORCED")]
    assert reader.lost.result() == "CONNECTION_FORCED"


async def test_alarms_are_seen() -> None:
    reader = FrameReader(asyncio.get_running_loop())
    reader.feed_data(frame(Connection.Blocked("low on memory"), 0))
    assert (reader.blocked, reader.unblocked.is_set()) == ("low on memory", False)
    reader.feed_data(frame(Connection.Unblocked(), 0))
    assert (reader.blocked, reader.unblocked.is_set()) == (None, True)


async def test_another_protocol_is_left_to_aiormq() -> None:
    reader = FrameReader(asyncio.get_running_loop())
    reader.feed_data(b"HTTP/1.1 400 Bad Request\r\n")
    reader.feed_data(b"\r\n")
    assert reader.head == b"HTTP/1.1"
    assert await reader.readexactly(28) == b"HTTP/1.1 400 Bad Request\r\n\r\n"


async def test_properties_that_cannot_be_read() -> None:
    """The body is delivered all the same, or it would come again for ever."""
    seen = Seen()
    reader = reader_of(seen, asyncio.get_running_loop())
    header = ContentHeader(body_size=4, properties=Basic.Properties(headers={"name": "value"}))
    broken = frame(header).replace(b"name", b"\xff\xfe\xff\xfe")
    reader.feed_data(frame(delivery(1)) + broken + frame(ContentBody(b"body")))
    assert seen.events == [("delivery", 1, None, b"body")]


@pytest.mark.parametrize("depth", [50, 400, 490, 1000, 9000])
async def test_headers_nested_without_end(depth: int) -> None:
    """Arrays in arrays, as no program of ours writes them: the body arrives, and the connection lives."""
    seen = Seen()
    reader = reader_of(seen, asyncio.get_running_loop())
    array = b""
    for _ in range(depth):
        array = b"A" + struct.pack(">I", len(array)) + array
    table = b"\x04deep" + array
    properties = struct.pack(">HHQHI", 60, 0, 4, 1 << 13, len(table)) + table
    header = struct.pack(">BHI", 2, OURS, len(properties)) + properties + b"\xce"
    reader.feed_data(frame(delivery(1)) + header + frame(ContentBody(b"body")) + content(delivery(2), "b"))
    assert [event[-1] for event in seen.events] == [b"body", b""]


@pytest.mark.parametrize("depth", [50, 400, 700, 5000])
def test_a_header_nested_too_deeply_is_left_out_or_text(depth: int) -> None:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    read = wire_of(Basic.Properties(message_id="a", headers={"deep": value, "flat": "x"}), b"body")  # type: ignore[dict-item]  # nested lists
    assert (read.id, read.body, read.headers["flat"]) == ("a", b"body", "x")


def test_settlements_are_what_pamqp_writes() -> None:
    assert ack_frame(5, 2**40) == frame(Basic.Ack(2**40, False), 5)
    assert requeue_frame(5, 7) == frame(Basic.Nack(7, False, True), 5)
