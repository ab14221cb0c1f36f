"""Protobuf, Avro and XML on the wire, and bodies that attack who reads them: G8 and G13 as users see them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.struct_pb2 import ListValue
from pydantic_xml import BaseXmlModel, attr, element

from unimsg import DeadLetter, Queue, Service
from unimsg.adapter import Address, Kind
from unimsg.codecs import Avro, Xml
from unimsg_contracts.harness import Foreign
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


@dataclass
class Reading:
    """Travels as Avro. It may hold others of its kind."""

    sensor: str
    raw: bytes = b""
    inner: "list[Reading]" = field(default_factory=list)


READING = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "sensor", "type": "string"},
        {"name": "raw", "type": "bytes"},
        {"name": "inner", "type": {"type": "array", "items": "Reading"}},
    ],
}
AVRO = Avro(Reading, READING)


class Letter(BaseXmlModel, tag="letter"):
    """Travels as XML."""

    to: str = attr()
    text: str = element(tag="text", default="")


def _list(*values: float) -> ListValue:
    made = ListValue()
    made.extend(values)
    return made


def _deep_list() -> bytes:
    """By hand: Protobuf itself would read it again while it is made."""
    data = b""
    for _ in range(100):
        for tag in (b"\x32", b"\x0a"):
            data = tag + _varint(len(data)) + data
    return data


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


HEAD = AVRO.encode(Reading(""))[:10]
LAUGHS = b"".join(b'<!ENTITY e%d "%s">' % (n, b"&e%d;" % (n - 1) * 10) for n in range(1, 12))
HOSTILE = {
    "application/protobuf": [_deep_list(), b"\x0a\xff\xff\xff\xff\x07", b"\xff" * 10_000],
    "application/avro": [
        HEAD + b"\0\0\x02" * 150 + b"\0\0\0" + b"\0" * 150,  # each within the one before it
        HEAD + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a text of exabytes
        HEAD + b"\0\0" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # as many items
        b"\xc3\x01" + b"\0" * 100,  # another schema
    ],
    "application/xml": [
        b'<!DOCTYPE letter [<!ENTITY a "x">]><letter to="Ann"><text>&a;</text></letter>',
        b'<!DOCTYPE letter [<!ENTITY e0 "lol">' + LAUGHS + b']><letter to="&e11;"/>',
        b'<!DOCTYPE letter [<!ENTITY a SYSTEM "file:///etc/passwd">]><letter to="Ann"><text>&a;</text></letter>',
        b"<letter>" * 10_000,
    ],
    "application/json": [b"[" * 100_000 + b"]" * 100_000],
}


@dataclass
class Seen:
    """A queue of one codec, and what its handler got."""

    queue: Queue[Any]  # each of its own body type
    good: Any
    bodies: list[Any] = field(default_factory=list)


def _declared(stage: Stage) -> dict[str, Seen]:
    """By content type."""
    return {
        "application/protobuf": Seen(stage.declare_queue(ListValue), _list(1.5, -2.0)),
        "application/avro": Seen(
            stage.declare_queue(Reading, codec=AVRO), Reading("ü", bytes(range(256)), [Reading("b")])
        ),
        "application/xml": Seen(
            stage.declare_queue(Letter, codec=Xml(Letter)), Letter(to='<Änn> & "Bob"', text="\r\n 😀")
        ),
        "application/json": Seen(stage.declare_queue(list[Any]), ["ü", [1, None]]),
    }


def _handle(service: Service, seen: Seen) -> Callable[[Any], Any]:
    async def handle(body: Any) -> None:
        seen.bodies.append(body)

    handle.__qualname__ = f"handle_{seen.queue.name}"
    return service.handler(seen.queue)(handle)


@guarantee("G13")
async def test_bodies_of_each_codec_arrive_as_they_were_sent(stage: Stage) -> None:
    """Protobuf, Avro, XML and JSON: the body that was sent, of its type, through the bytes that the codec made."""
    declared = _declared(stage)
    service = Service("formats", grace=2.0)
    for seen in declared.values():
        _handle(service, seen)
    async with stage.bus(service) as bus:
        for seen in declared.values():
            await bus.send(seen.queue, seen.good)
        await eventually(
            lambda: all(seen.bodies for seen in declared.values()), stage.recovery, lambda: f"handled {declared}"
        )
    for content_type, seen in declared.items():
        assert seen.bodies == [seen.good], content_type
        assert type(seen.bodies[0]) is type(seen.good), content_type


@guarantee("G8", needs=("foreign",))
async def test_a_hostile_body_is_a_dead_letter_and_the_next_is_handled(stage: Stage) -> None:
    """Of each codec: bodies that nest, promise or expand without end are dead at once, byte by byte as they came."""
    declared = _declared(stage)
    service = Service("formats", grace=2.0)
    for seen in declared.values():
        _handle(service, seen)
    adapter = await stage.adapter()
    letters: dict[str, list[DeadLetter]] = {}
    async with stage.bus(service) as bus:
        for content_type, seen in declared.items():
            address = await stage.ensure(adapter, Address(seen.queue.name, Kind.QUEUE))
            for body in HOSTILE[content_type]:
                await stage.harness.put(address, Foreign(body, content_type=content_type))
            await bus.send(seen.queue, seen.good)

        async def done() -> bool:
            for content_type, seen in declared.items():
                if len(letters.get(content_type, ())) < len(HOSTILE[content_type]):
                    letters[content_type] = [letter async for letter in bus.dead_letters(seen.queue)]
            return all(len(letters[kind]) >= len(HOSTILE[kind]) and declared[kind].bodies for kind in declared)

        await eventually(
            done, stage.recovery, lambda: f"{ {kind: len(found) for kind, found in letters.items()} } dead of {HOSTILE}"
        )
    for content_type, seen in declared.items():
        found = letters[content_type]
        assert {letter.reason for letter in found} == {"undecodable"}, content_type
        assert sorted(letter.message.body for letter in found) == sorted(HOSTILE[content_type]), content_type
        assert seen.bodies == [seen.good], f"{content_type}: a handler saw what was hostile"
