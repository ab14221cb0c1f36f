"""Which codec a body gets: unions, several codecs on a channel, and libraries that are not installed."""

import sys
from datetime import datetime
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue
from hostile import assert_refused
from pages import blocks
from pydantic import BaseModel
from pydantic_xml import BaseXmlModel, attr

from unimsg import ConfigurationError, DecodeError, EncodeError, Queue, message
from unimsg import codecs as library
from unimsg._limits import MAX_CONTAINERS
from unimsg.codecs import Avro, Codec, Json, Protobuf, UnionCodec, Xml, default_codec


@message("com.acme.placed.v1")
class Placed(BaseModel):
    number: int


@message("com.acme.cancelled.v1")
class Cancelled(BaseModel):
    number: int


@message("com.acme.opened.v1")
class Opened(BaseXmlModel, tag="opened"):
    number: int = attr()


@message("com.acme.closed.v1")
class Closed(BaseXmlModel, tag="closed"):
    number: int = attr()


def record(name: str, kind: str = "int") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "number", "type": kind}]}


AVRO = Avro(Placed | Cancelled, [record("Placed"), record("Cancelled", "long")], reads=[record("com.old.Cancelled")])
JSON = Json(Placed | Cancelled)
XML = Xml(Opened | Closed)
message("com.acme.at.v1")(Timestamp)
message("com.acme.named.v1")(StringValue)
mixed = Queue("orders.place", Timestamp | Placed)


@pytest.mark.parametrize(
    ("queue", "bodies"),
    [
        (Queue("orders.place", Placed | Cancelled, codec=AVRO), (Placed(number=1), Cancelled(number=1))),
        (Queue("orders.place", Placed | Cancelled, codec=[JSON, AVRO]), (Placed(number=1), Cancelled(number=1))),
        (Queue("orders.place", Placed | Cancelled, codec=JSON), (Placed(number=1), Cancelled(number=1))),
        (Queue("orders.place", Opened | Closed, codec=XML), (Opened(number=1), Closed(number=1))),
        (Queue("orders.place", Opened | Closed), (Opened(number=1), Closed(number=1))),
        (Queue("orders.place", Timestamp | StringValue), (Timestamp(seconds=1), StringValue(value="a"))),
        (mixed, (Timestamp(seconds=1), Placed(number=1))),
    ],
    ids=lambda value: "" if isinstance(value, Queue) else " ".join(type(body).__name__ for body in value),
)
def test_a_member_of_a_union_arrives_as_what_it_is(queue: Queue[Any], bodies: tuple[Any, ...]) -> None:
    """Also where two members look alike: the message says which it is."""
    for body in bodies:
        again = queue.decode(*queue.encode(body))
        assert again == body
        assert type(again) is type(body)


@pytest.mark.parametrize("codec", [AVRO, XML], ids=["avro", "xml"])
def test_a_codec_of_a_union_works_without_a_channel(codec: Codec[Any]) -> None:
    for member in (Placed, Cancelled) if codec is AVRO else (Opened, Closed):
        body = member(number=7)
        again = codec.decode(codec.encode(body))
        assert (type(again), again) == (member, body)
    with pytest.raises(EncodeError, match=r"\w+ or \w+ is wanted"):
        codec.encode(7)


def test_a_body_of_another_member_than_the_message_says_is_refused() -> None:
    avro = Queue("orders.place", Placed | Cancelled, codec=AVRO)
    with pytest.raises(DecodeError, match="schema"):
        avro.decode("com.acme.cancelled.v1", None, avro.encode(Placed(number=1))[2])
    xml = Queue("orders.place", Opened | Closed, codec=XML)
    with pytest.raises(DecodeError, match="root element"):
        xml.decode("com.acme.closed.v1", None, xml.encode(Opened(number=1))[2])


def test_older_schemas_of_a_union_are_matched_by_name() -> None:
    queue = Queue("orders.place", Placed | Cancelled, codec=AVRO)
    old = Queue("orders.place", Cancelled, codec=Avro(Cancelled, record("com.old.Cancelled")))
    assert queue.decode(*old.encode(Cancelled(number=3))) == Cancelled(number=3)


@pytest.mark.parametrize(
    "schema", [[record("Placed")], record("Placed"), "int", [record("A"), record("B")], []], ids=str
)
def test_a_union_without_a_record_for_each_member_is_refused(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="union"):
        Avro(Placed | Cancelled, schema)


def test_records_of_a_union_may_define_the_same_type() -> None:
    def with_place(name: str) -> dict[str, Any]:
        place = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}
        return {
            **record(name),
            "fields": [*record(name)["fields"], {"name": "at", "type": place, "default": {"city": ""}}],
        }

    codec = Avro(Placed | Cancelled, [with_place("Placed"), with_place("Cancelled")])
    assert codec.decode(codec.encode(Cancelled(number=1))) == Cancelled(number=1)


def test_a_codec_of_a_union_can_be_asked_for_one_member() -> None:
    assert isinstance(JSON, UnionCodec)
    assert isinstance(AVRO, UnionCodec)
    assert isinstance(XML, UnionCodec)
    assert not isinstance(Protobuf(Timestamp), UnionCodec)


@pytest.mark.parametrize(
    ("body", "codec"),
    [(Timestamp, Protobuf), (ListValue, Protobuf), (Opened, Xml), (Placed, Json), (dict[str, int], Json)],
    ids=str,
)
def test_a_class_that_was_made_for_a_format_has_its_codec(body: Any, codec: type[Any]) -> None:
    assert isinstance(default_codec(body), codec)


def test_old_bodies_are_read_in_the_format_that_they_were_made_for() -> None:
    def upgrade(old: Opened) -> Closed:
        return Closed(number=old.number)

    once = Queue("orders.place", Opened)
    queue = Queue("orders.place", Closed, upgrades=[upgrade])
    assert queue.decode(*once.encode(Opened(number=4))) == Closed(number=4)


# -- libraries that are not installed


@pytest.mark.parametrize(
    ("codec", "module", "missing", "extra"),
    [
        ("Avro", "_avro", "fastavro", "avro"),
        ("Protobuf", "_protobuf", "google.protobuf.message", "protobuf"),
        ("Xml", "_xml", "pydantic_xml", "xml"),
        ("Xml", "_xml", "lxml", "xml"),
    ],
)
def test_a_missing_library_is_an_error_that_says_what_to_install(
    codec: str, module: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"unimsg.{module}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=rf"the {codec} codec .* pip install 'unimsg\[{extra}\]'"):
        getattr(library, codec)


def test_no_other_name_can_be_taken_from_the_codecs() -> None:
    with pytest.raises(AttributeError, match="Yaml"):
        library.Yaml  # noqa: B018  # the look-up is the test
    assert set(library.__all__) >= {"Json", "Protobuf", "Avro", "Xml", "Text", "Binary"}


# -- JSON beyond what one body may be


class Small(BaseModel):
    n: int = 0


def test_json_that_stands_for_hundreds_of_times_its_size_is_refused() -> None:
    many = b"[" + b"{}," * MAX_CONTAINERS + b"{}]"
    assert str(MAX_CONTAINERS) in assert_refused(Queue("orders.place", list[Small]), None, many)
    assert_refused(Queue("orders.place", list[Any]), None, b"[" + b"[]," * 5_000_000 + b"[]]")
    with pytest.raises(EncodeError, match=str(MAX_CONTAINERS)):
        Queue("orders.place", list[list[int]]).encode([[]] * MAX_CONTAINERS)


def test_the_page_of_codecs_shows_what_works() -> None:
    shown: dict[str, Any] = {}
    for block in blocks("docs/codecs.md", "python"):
        exec(block.text, shown)  # our own page
    for queue, body in (
        (shown["orders"], shown["Order"](id="a", total=1.5)),
        (shown["due"], datetime(2026, 1, 2)),  # as Protobuf gives it back
        (shown["moments"], Timestamp(seconds=1)),
        (shown["letters"], shown["Letter"](to="Ann")),
    ):
        assert queue.decode(*queue.encode(body)) == body
    data = Avro(dict[str, str], shown["V1"]).encode({"id": "a"})
    assert shown["totals"].decode(None, None, data).total == 0.0
