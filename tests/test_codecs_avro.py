"""Avro: single-object encoding, schemas that change, and bytes that would kill a process that reads them."""

from contextlib import suppress
from datetime import UTC, datetime, time
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hostile import assert_refused, mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from unimsg import ConfigurationError, DecodeError, EncodeError, Queue
from unimsg._limits import MAX_DEPTH, MAX_ITEMS
from unimsg.codecs import Avro, Json


class Line(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    id: str
    at: datetime
    total: Decimal
    lines: list[Line] = []
    note: str | None = None
    tags: dict[str, bytes] = {}


LINE = {
    "type": "record",
    "name": "Line",
    "fields": [{"name": "sku", "type": "string"}, {"name": "count", "type": "int"}],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "com.acme",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "lines", "type": {"type": "array", "items": LINE}},
        {"name": "note", "type": ["null", "string"]},
        {"name": "tags", "type": {"type": "map", "values": "bytes"}},
    ],
}
BODY = Order(
    id="Ä-1",
    at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    total=Decimal("-12.50"),
    lines=[Line(sku="a", count=2), Line(sku="b")],
    tags={"raw": b"\xff\0"},
)


class Tree(BaseModel):
    leaves: "list[Tree]" = []


TREE = {"type": "record", "name": "Tree", "fields": [{"name": "leaves", "type": {"type": "array", "items": "Tree"}}]}
CHAIN = {"type": "record", "name": "Chain", "fields": [{"name": "next", "type": ["null", "Chain"]}]}


def channel(body: Any, schema: Any, **how: Any) -> Queue[Any]:
    return Queue("orders.place", body, codec=Avro(body, schema, **how))


def array_of(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def head(schema: Any, body: Any) -> bytes:
    """The first ten bytes of what is written with `schema`."""
    return channel(type(body) if type(body) is not dict else dict[str, Any], schema).encode(body)[2][:10]


def number(value: int) -> bytes:
    into = BytesIO()
    schemaless_writer(into, parse_schema("long"), value)
    return into.getvalue()


orders = channel(Order, ORDER)


@pytest.mark.parametrize(
    ("body_type", "schema", "body"),
    [
        (Order, ORDER, BODY),
        (Tree, TREE, Tree(leaves=[Tree(), Tree(leaves=[Tree()])])),
        (list[float], array_of("double"), [1.5, float("inf")]),
        (list[float], array_of("double"), [1.5] * 300_000),
        (dict[str, int], {"type": "map", "values": "long"}, {"a": 2**63 - 1, "": -(2**63)}),
        (int, "int", -7),
        (str, '"string"', "ü"),
        (bytes, "bytes", b""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_arrives_as_it_was_sent(body_type: Any, schema: Any, body: Any) -> None:
    queue = channel(body_type, schema)
    type_, content_type, data = queue.encode(body)
    again = queue.decode(type_, content_type, data)
    assert again == body
    assert type(again) is type(body)


def test_the_bytes_are_single_object_encoding() -> None:
    """The fingerprint is that of the specification: CRC-64-AVRO, little-endian."""
    assert channel(int, "int").encode(-1)[1:] == ("application/avro", bytes.fromhex("c301 8f5c393f1ad57572 01"))


def test_a_logical_type_does_not_change_the_fingerprint() -> None:
    """As in the specification and in Java. (Apache's own Python library of 1.12 makes another one.)"""
    plain = head("long", 1)
    assert head({"type": "long", "logicalType": "timestamp-micros"}, BODY.at) == plain
    assert head(record({"name": "n", "type": {"type": "long", "logicalType": "time-micros"}}), {"n": time()}) == head(
        record({"name": "n", "type": "long"}), {"n": 1}
    )


@pytest.mark.parametrize("content_type", [None, "application/avro", "avro/binary", "Avro/Binary; x=y"])
def test_other_names_of_the_content_type_are_read(content_type: str | None) -> None:
    assert orders.decode(None, content_type, orders.encode(BODY)[2]) == BODY


# -- schemas that change


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Item", "fields": list(fields)}


V1 = record(
    {"name": "sku", "type": "string"}, {"name": "count", "type": "int"}, {"name": "gone", "type": array_of("int")}
)
V2 = record(
    {"name": "sku", "type": "string"},
    {"name": "count", "type": "double"},
    {"name": "note", "type": "string", "default": "-"},
)


class Old(BaseModel):
    sku: str
    count: int
    gone: list[int]


class Item(BaseModel):
    sku: str
    count: float
    note: str


def test_bodies_of_an_older_schema_are_read_by_todays() -> None:
    data = channel(Old, V1).encode(Old(sku="a", count=2, gone=[1, 2]))[2]
    assert channel(Item, V2, reads=[V1]).decode(None, None, data) == Item(sku="a", count=2.0, note="-")


def test_a_body_of_an_unknown_schema_is_refused() -> None:
    data = channel(Old, V1).encode(Old(sku="a", count=2, gone=[]))[2]
    assert "schema" in assert_refused(channel(Item, V2), "application/avro", data)


def test_a_skipped_block_of_a_false_size_is_refused() -> None:
    """A size below zero would be skipped for ever, and any other makes of the rest what the sender likes."""
    old = head(V1, Old(sku="", count=0, gone=[]))
    for size in (-12, -1, 0, 5, 2**40):
        data = old + number(1) + b"a" + number(2) + number(-1) + number(size) + number(7) + number(0)
        assert_refused(channel(Item, V2, reads=[V1]), None, data)


# -- what does not fit is refused before it is sent


@pytest.mark.parametrize(
    ("body_type", "schema", "body"),
    [
        (Order, ORDER, Line(sku="canary")),
        (int, "int", 2**31),
        (int, "long", 2**63),
        (int, "long", "canary"),
        (dict[str, Any], LINE, {"sku": "canary"}),
        (dict[str, Any], LINE, {"sku": "canary", "count": 1, "extra": 1}),
        (dict[str, Any], LINE, {"sku": 5, "count": "canary"}),
        (Line, record({"name": "sku", "type": "string"}), Line(sku="canary")),
        (str, "string", "\ud800"),
        (list[str], array_of("string"), [""] * (MAX_ITEMS + 1)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_does_not_fit_is_refused_and_shows_no_value(body_type: Any, schema: Any, body: Any) -> None:
    with pytest.raises(EncodeError, match=r"^orders\.place: ") as caught:
        channel(body_type, schema).encode(body)
    assert "canary" not in str(caught.value)


def test_a_body_that_could_not_be_read_is_not_sent() -> None:
    tree = Tree()
    for _ in range(MAX_DEPTH):
        tree = Tree(leaves=[tree])
    with pytest.raises(EncodeError, match="nested"):
        channel(Tree, TREE).encode(tree)


@pytest.mark.parametrize(
    "schema",
    [
        *("nothing", "{broken", {}, {"type": "record"}, {"type": "record", "name": "A", "fields": [{"name": "b"}]}),
        *(array_of("null"), array_of(record()), {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
        array_of(record({"name": "a", "type": "null"})),
    ],
    ids=str,
)
def test_a_schema_that_is_none_or_has_no_limit_is_refused_when_it_is_declared(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="Avro"):
        Avro(dict[str, Any], schema)


# -- hostile bytes


def test_a_schema_that_nests_in_itself_overflows_no_stack() -> None:
    """fastavro alone ends the process at 20 kB of this."""
    chain = channel(dict[str, Any], CHAIN)
    assert "nested" in assert_refused(chain, None, head(CHAIN, {"next": None}) + b"\x02" * 16_000_000)
    tree = channel(Tree, TREE)
    assert "nested" in assert_refused(tree, None, head(TREE, {"leaves": []}) + b"\x02" * 1_000_000)


def test_a_promise_of_many_items_is_not_believed() -> None:
    numbers = channel(list[int], array_of("long"))
    start = numbers.encode([])[2][:10]
    for count in (2**62, 2**40, -(2**62), MAX_ITEMS + 1):
        assert_refused(numbers, None, start + number(count))
        assert_refused(numbers, None, start + number(count) + number(2**40) + b"\0" * 100)


def test_many_items_of_a_byte_are_refused() -> None:
    records = channel(list[dict[str, int]], array_of(record({"name": "n", "type": "int"})))
    start = records.encode([])[2][:10]
    assert str(MAX_ITEMS) in assert_refused(records, None, start + number(15_000_000) + bytes(15_000_001))
    halves = start + (number(1) + b"\0") * 7_000_000 + b"\0"
    assert str(MAX_ITEMS) in assert_refused(records, None, halves)
    maps = channel(dict[str, int], {"type": "map", "values": "int"})
    start = maps.encode({})[2][:10]
    assert str(MAX_ITEMS) in assert_refused(maps, None, start + number(7_000_000) + bytes(14_000_001))


@pytest.mark.parametrize("length", [2**62, 2**40, 2**31, -1, -(2**63)])
@pytest.mark.parametrize("schema", ["string", "bytes"])
def test_a_promise_of_many_bytes_is_not_believed(schema: str, length: int) -> None:
    texts = channel(Any, schema)
    start = texts.encode("" if schema == "string" else b"")[2][:10]
    assert_refused(texts, None, start + number(length) + b"abc", megabytes=1)


def test_a_decimal_of_megabytes_is_refused() -> None:
    """To make a number of it takes hours."""
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
    decimals = channel(Decimal, schema)
    start = decimals.encode(Decimal("1.00"))[2][:10]
    assert "decimal" in assert_refused(decimals, None, start + number(15_000_000) + b"\x7f" * 15_000_000)


BAD = {
    "empty": b"",
    "half a head": b"\xc3\x01\0",
    "no body": orders.encode(BODY)[2][:10],
    "cut": orders.encode(BODY)[2][:-1],
    "trailing": orders.encode(BODY)[2] + b"\0",
    "container file": b"Obj\x01" + bytes(100),
    "registry": b"\0\0\0\0\x01abc",
    "endless number": orders.encode(BODY)[2][:10] + b"\xff" * 1_000_000,
    "invalid UTF-8": orders.encode(BODY)[2][:10] + b"\x02\xff",
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_avro_is_refused(name: str) -> None:
    assert_refused(orders, "application/avro", BAD[name])


def test_a_branch_that_does_not_exist_is_refused() -> None:
    chain = channel(dict[str, Any], CHAIN)
    for branch in (2, -1, 2**62):
        assert_refused(chain, None, head(CHAIN, {"next": None}) + number(branch))


def test_a_time_that_no_calendar_has_is_refused() -> None:
    times = channel(datetime, {"type": "long", "logicalType": "timestamp-micros"})
    start = times.encode(BODY.at)[2][:10]
    assert_refused(times, None, start + number(2**63 - 1))


def test_the_depth_that_was_sent_is_read() -> None:
    tree = Tree()
    for _ in range(MAX_DEPTH // 2 - 1):
        tree = Tree(leaves=[tree])
    trees = channel(Tree, TREE)
    assert trees.decode(None, None, trees.encode(tree)[2]) == tree


fuzzed = [
    orders,
    channel(Tree, TREE),
    channel(dict[str, Any], CHAIN),
    channel(Item, V2, reads=[V1]),
    channel(list[list[str]], array_of(array_of("string"))),
]
starts = [queue_head for queue in fuzzed for queue_head in queue.bodies.kinds[0].codecs[0]._by_writer]  # type: ignore[attr-defined]  # the test's own reach into it


@settings(max_examples=1000, deadline=2000)
@given(st.sampled_from(starts), st.binary(max_size=300))
def test_any_bytes_are_a_body_or_a_decode_error(start: bytes, data: bytes) -> None:
    for queue in fuzzed:
        with suppress(DecodeError):
            queue.decode(None, None, start + data)


@settings(max_examples=1000, deadline=2000)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 8), st.binary(max_size=12)), min_size=1, max_size=6))
def test_a_body_that_was_tampered_with_is_a_body_or_a_decode_error(edits: list[tuple[int, int, bytes]]) -> None:
    with suppress(DecodeError):
        orders.decode(None, None, mutated(orders.encode(BODY)[2], edits))


def test_an_avro_channel_may_read_json_too() -> None:
    queue = Queue("orders.place", Order, codec=[Avro(Order, ORDER), Json(Order)])
    once = Queue("orders.place", Order)
    body = BODY.model_copy(update={"tags": {}})
    assert queue.encode(body)[1] == "application/avro"
    assert queue.decode(*once.encode(body)) == body
    assert queue.decode(*queue.encode(body)) == body
