"""What changes inside bodies break: of what is received, where less is taken; of what is sent, where more may come."""

import dataclasses
import enum
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired

import pytest
from google.protobuf import descriptor_pb2
from protos import add, class_of
from pydantic import BaseModel, ConfigDict, Field
from pydantic_xml import BaseXmlModel, attr
from typing_extensions import TypedDict

import unimsg
from unimsg.asyncapi import Change, diff, document
from unimsg.codecs import Avro, Codec
from unimsg.config import Settings

SETTINGS = Settings(url="memory://")
Way = Literal["received", "sent", "both"]
WAYS: tuple[Way, ...] = ("received", "sent", "both")


def made(body: Any, way: Way, codec: Codec[Any] | None = None) -> dict[str, Any]:
    queue = unimsg.Queue("some.queue", body, codec=codec)
    service = unimsg.Service("some", sends=[queue] if way != "received" else [])
    if way != "sent":

        @service.handler(queue)
        async def handle(body: Any) -> None: ...

    return document(service, settings=SETTINGS)


@dataclasses.dataclass
class Case:
    """`breaks`: "received", "sent", both words, or neither."""

    name: str
    old: Any
    new: Any
    breaks: str
    says: str
    where: str = "some.queue"
    codec: Any = None
    """Makes the codec of `old` and of `new`, which are schemas then."""


def fields(**types: Any) -> Any:
    return TypedDict("Body", types)  # type: ignore[operator]


def at_least(number: int) -> Any:
    return fields(a=Annotated[int, Field(ge=number)])


def at_most(letters: int) -> Any:
    return fields(a=Annotated[str, Field(max_length=letters)])


def like(pattern: str) -> Any:
    return fields(a=Annotated[str, Field(pattern=pattern)])


def model(**config: Any) -> Any:
    class Body(BaseModel):
        model_config = ConfigDict(**config)
        a: int

    return Body


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Colors(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Cash(BaseModel):
    by: Literal["cash"]


class Card(BaseModel):
    by: Literal["card"]
    number: str


class CardWithName(BaseModel):
    by: Literal["card"]
    number: str
    name: str


Pay = Annotated[Cash | Card, Field(discriminator="by")]


class Node(BaseModel):
    value: int
    children: "list[Node]" = []


def node_of_text() -> Any:
    class Node(BaseModel):
        value: str
        children: "list[Node]" = []

    Node.model_rebuild(_types_namespace={"Node": Node})
    return Node


def with_default(default: Any) -> Any:
    class Body(BaseModel):
        a: int = default

    return Body


class Required(BaseModel):
    a: int


class Factory(BaseModel):
    a: list[int] = Field(default_factory=list)


class FactoryRequired(BaseModel):
    a: list[int]


class Place(BaseModel):
    city: str


class PlaceWithZip(BaseModel):
    city: str
    zip: str


def nested(place: Any) -> Any:
    return fields(places=dict[str, list[place]])


A, B = "received", "sent"
CASES = [
    # fields
    Case("required field added", fields(a=int), fields(a=int, b=int), A, "the field is new, and required", ".b"),
    Case("optional field added", fields(a=int), fields(a=int, b=NotRequired[int]), "", "new, and optional", ".b"),
    Case("field removed", fields(a=int, b=int), fields(a=int), B, "the field was removed", ".b"),
    Case("optional field removed", fields(a=int, b=NotRequired[int]), fields(a=int), B, "the field was removed", ".b"),
    Case("optional field required", fields(a=NotRequired[int]), fields(a=int), A, "was optional, and is", ".a"),
    Case("required field optional", fields(a=int), fields(a=NotRequired[int]), B, "required, and may be missing", ".a"),
    Case("strict about more", model(), model(extra="forbid"), A, "other fields than those declared are refused"),
    Case("not strict any more", model(extra="forbid"), model(), B, "other fields than those declared may be there"),
    Case("nested field added", nested(Place), nested(PlaceWithZip), A, "new, and required", ".places{}[].zip"),
    Case("nested field removed", nested(PlaceWithZip), nested(Place), B, "the field was removed", ".places{}[].zip"),
    # types
    Case("integer to text", fields(a=int), fields(a=str), A + B, "changed from an integer to a string", ".a"),
    Case("integer to number", fields(a=int), fields(a=float), B, "was an integer, and may be any number", ".a"),
    Case("number to integer", fields(a=float), fields(a=int), A, "was any number, and must be an integer", ".a"),
    Case("text to time", fields(a=str), fields(a=datetime), A, 'format changed from none to "date-time"', ".a"),
    Case("time to text", fields(a=datetime), fields(a=str), B, 'format changed from "date-time" to none', ".a"),
    Case("anything to text", fields(a=Any), fields(a=str), A, "was anything, and is a string", ".a"),
    Case("text to anything", fields(a=str), fields(a=Any), B, "was a string, and may be anything", ".a"),
    Case("one to a list", fields(a=int), fields(a=list[int]), A + B, "changed from an integer to a list", ".a"),
    Case("items of another type", fields(a=list[int]), fields(a=list[str]), A + B, "from an integer to a", ".a[]"),
    Case("items wider", fields(a=list[int]), fields(a=list[float]), B, "may be any number", ".a[]"),
    Case("values of a map", fields(a=dict[str, int]), fields(a=dict[str, str]), A + B, "changed from", ".a{}"),
    Case("map of anything narrowed", fields(a=dict[str, Any]), fields(a=dict[str, int]), A, "was anything", ".a{}"),
    Case("map widened to anything", fields(a=dict[str, int]), fields(a=dict[str, Any]), B, "may be anything", ".a{}"),
    Case("tuple part", fields(a=tuple[int, str]), fields(a=tuple[int, int]), A + B, "changed from a string", ".a[1]"),
    Case("tuple longer", fields(a=tuple[int]), fields(a=tuple[int, int]), A, "minItems changed from 1 to 2", ".a"),
    Case("list to tuple", fields(a=list[int]), fields(a=tuple[int]), A + B, "changed from a list to a tuple", ".a"),
    Case("set to list", fields(a=set[int]), fields(a=list[int]), B, "uniqueItems changed", ".a"),
    Case("whole body", int, bool, A + B, "changed from an integer to a boolean"),
    Case("whole body wider", int, float, B, "was an integer, and may be any number"),
    Case("map to fields", fields(a=dict[str, Any]), fields(a=fields(b=NotRequired[int])), A, "was anything", ".a.b"),
    Case("tuple part new", fields(a=tuple[int, ...]), fields(a=tuple[str, ...]), A + B, "changed from", ".a[]"),
    # null and unions
    Case("null allowed", fields(a=int), fields(a=int | None), B, "may be null", ".a"),
    Case("null not allowed", fields(a=int | None), fields(a=int), A, "null is not allowed any more", ".a"),
    Case("alternative added", fields(a=int), fields(a=int | str), B, "may also be a string", ".a"),
    Case("alternative removed", fields(a=int | str), fields(a=int), A, "may not be a string any more", ".a"),
    Case("alternative replaced", fields(a=int | str), fields(a=int | bool), A + B, "from a string to a boolean", ".a"),
    Case("member removed", fields(p=Pay), fields(p=Cash), A, "may not be object Card any more", ".p"),
    Case("member added", fields(p=Card), fields(p=Pay), B, "may also be object Cash", ".p"),
    Case(
        "field in a member",
        fields(p=Pay),
        fields(p=Annotated[Cash | CardWithName, Field(discriminator="by")]),
        A,
        "the field is new, and required",
        ".p.name",
    ),
    # values
    Case("value added", fields(c=Color), fields(c=Colors), B, 'the value "green" was added', ".c"),
    Case("value removed", fields(c=Colors), fields(c=Color), A, 'the value "green" was removed', ".c"),
    Case("literal added", fields(c=Literal["a"]), fields(c=Literal["a", "b"]), B, 'value "b" was added', ".c"),
    Case("literal removed", fields(c=Literal["a", "b"]), fields(c=Literal["a"]), A, 'value "b" was removed', ".c"),
    Case("text to literal", fields(c=str), fields(c=Literal["a", "b"]), A, 'must be "a" or "b"', ".c"),
    Case("literal to text", fields(c=Literal["a", "b"]), fields(c=str), B, "may be any string", ".c"),
    Case("literal with null", fields(c=Literal["a"]), fields(c=Literal["a", None]), B, "may be null", ".c"),
    # limits
    Case("minimum raised", at_least(1), at_least(2), A, "1 to 2", ".a"),
    Case("minimum lowered", at_least(2), at_least(1), B, "2 to 1", ".a"),
    Case("minimum new", fields(a=int), fields(a=Annotated[int, Field(gt=1)]), A, "from none to 1", ".a"),
    Case("maximum lowered", at_most(9), at_most(5), A, "9 to 5", ".a"),
    Case("maximum gone", at_most(9), fields(a=str), B, "from 9 to none", ".a"),
    Case("pattern new", fields(a=str), like("x"), A, "pattern changed", ".a"),
    Case("pattern gone", like("x"), fields(a=str), B, "pattern changed", ".a"),
    Case("pattern other", like("x"), like("y"), A + B, "pattern changed", ".a"),
    # defaults
    Case("default new", Required, with_default(1), "", "has a default: 1", ".a"),
    Case("default gone", with_default(1), Required, A, "was optional, and is required", ".a"),
    Case("default other", with_default(1), with_default(2), "", "the default changed from 1 to 2", ".a"),
    Case("default made", FactoryRequired, Factory, "", "has a default: []", ".a"),
    # what nests in itself
    Case("nests in itself", Node, node_of_text(), A + B, "changed from an integer to a string", ".value"),
]  # fmt: skip


def proto(*added: tuple[int, str, str], label: str = "", enum: int = 2) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="shop", syntax="proto3")
    order = file.message_type.add(name="Order")
    values = order.enum_type.add(name="Size")
    for number in range(enum):
        values.value.add(name=f"S{number}", number=number)
    inner = order.nested_type.add(name="Inner")
    for number, name, type_ in added:
        add(inner if name.startswith("in_") else order, number, name, type_, label=label)
    add(order, 100, "size", "enum", ".shop.Order.Size")
    add(order, 101, "inner", "message", ".shop.Order.Inner")
    add(inner, 102, "order", "message", ".shop.Order")
    return class_of("shop.Order", file)


many = proto((1, "a", "int32"), label="repeated")
CASES += [
    Case("protobuf: added", proto(), proto((1, "a", "int32")), "", "field 1 is new", ".a"),
    Case("protobuf: removed", proto((1, "a", "int32")), proto(), B, "field 1 was removed", ".a"),
    Case("protobuf: renamed", proto((1, "a", "int32")), proto((1, "b", "int32")), "", "was renamed to b", ".a"),
    Case("protobuf: type", proto((1, "a", "int32")), proto((1, "a", "string")), A + B, "from int32 to string", ".a"),
    Case("protobuf: wider", proto((1, "a", "int32")), proto((1, "a", "int64")), B, "from int32 to int64", ".a"),
    Case("protobuf: narrower", proto((1, "a", "int64")), proto((1, "a", "int32")), A, "from int64 to int32", ".a"),
    Case("protobuf: many", proto((1, "a", "int32")), many, A + B, "one to many", ".a"),
    Case("protobuf: value added", proto(), proto(enum=3), B, "the value S2 was added", ".size"),
    Case("protobuf: value removed", proto(enum=3), proto(), A, "the value S2 was removed", ".size"),
    Case("protobuf: inside", proto((1, "in_a", "int32")), proto((1, "in_a", "bool")), A, "to bool", ".inner.in_a"),
    Case("protobuf: removed inside", proto((1, "in_a", "int32")), proto(), B, "field 1 was removed", ".inner.in_a"),
]  # fmt: skip


class Anything(BaseModel): ...


def avro(schema: Any) -> Codec[Any]:
    own, *reads = schema if isinstance(schema, tuple) else (schema,)
    return Avro(Anything, own, reads=reads)


def record(*more: Any, name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "n", "type": "int"}, *more]}


X = {"name": "x", "type": "string"}
XD = {"name": "x", "type": "string", "default": ""}
E1 = {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A"]}}
E2 = {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}}
N = {"name": "x", "type": ["null", "string"]}
AT = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
LONG = {"name": "at", "type": "long"}
NEXT = {"name": "next", "type": ["null", "R"]}

CASES += [
    Case("avro: not among reads", record(), record(XD), A, "not in reads=", codec=avro),
    Case("avro: among reads", record(), (record(XD), record()), B, "readers need the new one", codec=avro),
    Case("avro: field with default", record(), (record(XD), record()), "", "new, with a default", ".x", avro),
    Case("avro: field without default", record(), (record(X), record()), A, "new, without a default", ".x", avro),
    Case("avro: field removed", record(X), (record(), record(X)), B, "the field was removed", ".x", avro),
    Case("avro: symbol added", record(E1), (record(E2), record(E1)), B, 'the value "B" was added', ".e", avro),
    Case("avro: symbol removed", record(E2), (record(E1), record(E2)), A, 'the value "B" was removed', ".e", avro),
    Case("avro: branch added", record(X), (record(N), record(X)), B, "may also be null", ".x", avro),
    Case("avro: branch removed", record(N), (record(X), record(N)), A, "may not be null any more", ".x", avro),
    Case("avro: promoted", "int", ("long", "int"), B, "changed from int to long", codec=avro),
    Case("avro: demoted", "long", ("int", "long"), A, "changed from long to int", codec=avro),
    Case("avro: other type", "long", ("string", "long"), A + B, "changed from long to string", codec=avro),
    Case("avro: meaning", record(AT), (record(LONG), record(AT)), A + B, "logicalType changed", ".at", avro),
    Case("avro: inside itself", record(NEXT), (record(NEXT, X), record(NEXT)), A, "without a default", ".x", avro),
    Case("avro: reads fewer", (record(X), record()), record(X), A, "were removed from reads=", codec=avro),
    Case("avro: reads more", record(X), (record(X), record()), "", "", codec=avro),
]  # fmt: skip


class Xml(BaseXmlModel, tag="x"):
    a: int = attr()


class XmlRenamed(BaseXmlModel, tag="x"):
    a: int = attr(name="b")


CASES.append(Case("xml: attribute renamed", Xml, XmlRenamed, A + B, "its place or name in XML changed", ".a"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_change(case: Case, way: Way) -> None:
    old, new = documents(case, way)
    found = diff(old, new)
    where = f"some.queue {case.where[1:]}" if case.where.startswith(".") else case.where
    if not case.says:
        assert found == []
        return
    mine = [change for change in found if change.where == where and case.says in change.text]
    if way == "sent" and not mine and ("default" in case.name or "reads=" in case.says):
        return  # it is about what is read
    assert len(mine) == 1, found
    breaks = bool(case.breaks) if way == "both" else way in case.breaks
    assert mine[0].breaking is breaks, mine


def documents(case: Case, way: Way) -> tuple[dict[str, Any], dict[str, Any]]:
    if case.codec is None:
        return made(case.old, way), made(case.new, way)
    return made(Anything, way, case.codec(case.old)), made(Anything, way, case.codec(case.new))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_what_does_not_change_is_no_change(case: Case, way: Way) -> None:
    for each in documents(case, way):
        assert diff(each, each) == []


def test_what_nests_in_itself_is_told_of_once() -> None:
    assert diff(made(Node, "received"), made(node_of_text(), "received")) == [
        Change(True, "some.queue value", "changed from an integer to a string")
    ]


def test_a_new_name_of_a_class_is_no_change() -> None:
    class Renamed(BaseModel):
        city: str

    for way in WAYS:
        assert diff(made(nested(Place), way), made(nested(Renamed), way)) == []
        assert diff(made(list[Place], way), made(list[Renamed], way)) == []


def test_descriptions_are_no_change() -> None:
    class Body(BaseModel):
        a: Annotated[Decimal, Field(description="One.", examples=[1])]

    def other() -> Any:
        class Body(BaseModel):
            """Said."""

            a: Annotated[Decimal, Field(title="Two")]

        return Body

    assert diff(made(Body, "received"), made(other(), "received")) == []
