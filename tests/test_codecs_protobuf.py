"""Protobuf: generated classes as bodies, or behind a body type of the program's own."""

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hostile import assert_refused, mutated
from hypothesis import given, settings
from hypothesis import strategies as st

from unimsg import ConfigurationError, DecodeError, EncodeError, Queue
from unimsg.codecs import Protobuf

moments = Queue("orders.place", Timestamp)
structs = Queue("orders.place", Struct)
lists = Queue("orders.place", ListValue)


def struct(**fields: Any) -> Struct:
    made = Struct()
    made.update(fields)
    return made


BODY = struct(name="Ä", count=7, lines=[{"sku": "a"}, {"sku": "b", "on": True}], note=None)


def test_a_generated_class_travels_as_protobuf_by_default() -> None:
    type_, content_type, data = structs.encode(BODY)
    assert content_type == "application/protobuf"
    again = structs.decode(type_, content_type, data)
    assert type(again) is Struct
    assert again == BODY
    assert moments.encode(Timestamp(seconds=1))[2] == b"\x08\x01"


@pytest.mark.parametrize(
    "content_type", [None, "application/x-protobuf", "application/vnd.google.protobuf", "APPLICATION/PROTOBUF; v=1"]
)
def test_other_names_of_the_content_type_are_read(content_type: str | None) -> None:
    assert moments.decode(None, content_type, b"\x08\x05") == Timestamp(seconds=5)


@dataclass(frozen=True)
class Moment:
    """What handlers see."""

    at: datetime


def to_wire(body: Moment) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(body.at)
    return made


def from_wire(wire: Timestamp) -> Moment:
    return Moment(wire.ToDatetime(UTC))


mapped = Queue("orders.place", Moment, codec=Protobuf(Timestamp, to_wire=to_wire, from_wire=from_wire))


def test_a_class_of_the_programs_own_travels_as_a_generated_one() -> None:
    body = Moment(datetime(2026, 1, 2, tzinfo=UTC))
    data = mapped.encode(body)[2]
    assert moments.decode(None, None, data) == to_wire(body)
    assert mapped.decode(None, None, data) == body


def test_a_message_that_cannot_be_mapped_is_refused() -> None:
    far = Timestamp(seconds=2**62).SerializeToString()
    assert "canary" not in assert_refused(mapped, None, far)


def proto2() -> type[Message]:
    """A class of proto2 with a required field."""
    file = descriptor_pb2.FileDescriptorProto(name="tests/needy.proto", package="tests")
    field = file.message_type.add(name="Needy").field.add(name="id", number=1)
    field.type, field.label = field.TYPE_INT32, field.LABEL_REQUIRED
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tests.Needy"))


def nested(depth: int) -> ListValue:
    made = inner = ListValue()
    for _ in range(depth):
        inner = inner.values.add().list_value
        inner.values.add().null_value = NULL_VALUE
    return made


@pytest.mark.parametrize("body", [Timestamp(), {"name": "canary"}, "canary", None, b"", Struct], ids=repr)
def test_a_body_of_another_class_is_refused(body: Any) -> None:
    with pytest.raises(EncodeError, match=r"^orders\.place: .*Struct is wanted") as caught:
        structs.encode(body)
    assert "canary" not in str(caught.value)


def test_a_body_without_a_required_field_is_neither_sent_nor_read() -> None:
    needy = proto2()
    queue: Queue[Message] = Queue("orders.place", needy)
    with pytest.raises(EncodeError, match="misses a required field"):
        queue.encode(needy())
    assert "required" in assert_refused(queue, None, b"")
    assert queue.decode(None, None, b"\x08\x01")


def test_a_body_that_is_too_deep_to_be_read_is_not_sent() -> None:
    assert lists.decode(*lists.encode(nested(40))) == nested(40)
    with pytest.raises(EncodeError, match="deep"):
        lists.encode(nested(60))


@pytest.mark.parametrize("wire", [dict, Message, "Struct", None, Struct()], ids=str)
def test_only_a_generated_class_has_a_protobuf_codec(wire: Any) -> None:
    with pytest.raises(ConfigurationError, match="generated class"):
        Protobuf(wire)


def test_a_mapping_goes_both_ways() -> None:
    with pytest.raises(ConfigurationError, match="both"):
        Protobuf(Timestamp, to_wire=to_wire)  # type: ignore[call-overload]  # the wrong use is the test


# -- hostile bytes


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def deep(levels: int) -> bytes:
    """A list in a list in a list …"""
    parts, size = [], 0
    for _ in range(levels):
        for tag in (b"\x32", b"\x0a"):
            parts.append(tag + varint(size))
            size += len(parts[-1])
    return b"".join(reversed(parts))


HOSTILE = {
    "deep": deep(100_000),
    "groups without end": b"\x0b" * 1_000_000,
    "cut": BODY.SerializeToString()[:-1],
    "a promise of gigabytes": b"\x0a\xff\xff\xff\xff\x07" + b"a" * 100,
    "an endless number": b"\xff" * 1_000_000,
    "tag 0": b"\0",
    "invalid UTF-8": b"\x0a\x06\x0a\x02\xff\xfe\x12\x00",
    "JSON": b'{"name": "canary"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_protobuf_is_refused_fast(name: str) -> None:
    text = assert_refused(lists if name in ("deep", "groups without end") else structs, None, HOSTILE[name])
    assert "canary" not in text


def test_the_largest_body_takes_bounded_memory() -> None:
    """16 MB of messages of two bytes each, in a process that may have no more than a gigabyte. (Protobuf's memory is
    not Python's: nothing here counts it.)"""
    program = (
        "import resource\n"
        "from google.protobuf.struct_pb2 import ListValue\n"
        "from unimsg import Queue\n"
        "queue = Queue('orders.place', ListValue)\n"
        "queue.decode(None, None, b'')\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 1_000_000_000,) * 2)\n"
        "print(len(queue.decode(None, None, b'\\n\\0' * 8_000_000).values))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "8000000", done.stderr


@settings(max_examples=1000, deadline=2000)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_body_or_a_decode_error(data: bytes) -> None:
    for queue in (structs, lists, moments, mapped):
        with suppress(DecodeError):
            queue.decode(None, None, data)


@settings(max_examples=1000, deadline=2000)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 8), st.binary(max_size=12)), min_size=1, max_size=6))
def test_a_body_that_was_tampered_with_is_a_body_or_a_decode_error(edits: list[tuple[int, int, bytes]]) -> None:
    for queue, body in ((structs, BODY), (lists, nested(5))):
        with suppress(DecodeError):
            queue.decode(None, None, mutated(body.SerializeToString(), edits))
