"""Payload schemas, each in the language of its codec."""

import dataclasses
from typing import Any, Generic, Literal, TypeVar

import pytest
import sample_shop as shop
from google.protobuf import descriptor_pb2
from google.protobuf.struct_pb2 import Struct
from jsonschema import Draft7Validator
from official import problems, validator
from protos import ORDER_SOURCE, add, class_of
from pydantic import BaseModel, ConfigDict, Field, computed_field

import unimsg
from unimsg.asyncapi import document
from unimsg.codecs import Avro, Protobuf
from unimsg.config import Settings


def schemas(body: Any, *, sent: bool = False, codec: Any = None) -> tuple[Any, dict[str, Any]]:
    """The payload of a queue of such bodies, and the components of its document."""
    queue = unimsg.Queue("some.queue", body, codec=codec)
    service = unimsg.Service("some", sends=[queue] if sent else [])
    if not sent:

        @service.handler(queue)
        async def handle(body: Any) -> None: ...

    whole = document(service, settings=Settings(url="memory://"))
    assert problems_if_there(whole) == []
    return whole["channels"]["some.queue"]["messages"]["some.queue"]["payload"], whole["components"]["schemas"]


def problems_if_there(whole: dict[str, Any]) -> list[str]:
    try:
        return problems(validator(), whole)
    except pytest.skip.Exception:
        return []


def is_valid(value: Any, payload: Any, components: dict[str, Any]) -> bool:
    return Draft7Validator({**payload, "components": {"schemas": components}}).is_valid(value)


GOOD = {
    "customer": "Ann",
    "items": [{"dish": "ramen", "extras": [{"dish": "egg", "count": 2}]}],
    "to": {"city": "Berlin", "zip": "10115"},
    "pay": {"by": "card", "number": "4"},
    "at": "2026-01-01T12:00:00Z",
    "place": [1.5, 2],
}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"items": []}, True),
        ({"items": [{"dish": ""}]}, False),
        ({"items": [{"dish": "egg", "size": "huge"}]}, False),
        ({"to": {"city": "Berlin", "zip": "x"}}, False),
        ({"pay": {"by": "cheque"}}, False),
        ({"note": None}, True),
        ({"note": 1}, False),
        ({"place": [1.5]}, False),
        ({"place": ["a", "b"]}, False),
        ({"place": None}, True),
        ({"more": {"any": ["thing", 1]}}, True),
    ],
    ids=str,
)
def test_json_schema_fits_what_the_codec_reads(change: dict[str, Any], fits: bool) -> None:
    payload, components = schemas(shop.Order)
    value = {**GOOD, **change}
    assert is_valid(value, payload, components) is fits
    if fits:
        shop.Order.model_validate(value)


@pytest.mark.parametrize(
    ("body", "good", "bad"),
    [
        (list[int], [1, 2], ["a"]),
        (dict[str, shop.Paid], {"a": {"order": "1"}}, {"a": {}}),
        (int, 1, "a"),
        (shop.Placed, {"number": 1, "customer": "Ann"}, {"number": 1}),
        (shop.Tick, {"n": 1}, {"n": 1, "why": 2}),
        (tuple[int, str], [1, "a"], ["a", 1]),
        (tuple[int, ...], [1, 2, 3], ["a"]),
        (Literal["a", "b"], "a", "c"),
    ],
    ids=str,
)
def test_every_kind_of_json_body_has_a_schema(body: Any, good: Any, bad: Any) -> None:
    payload, components = schemas(body)
    assert is_valid(good, payload, components)
    assert not is_valid(bad, payload, components)


def test_models_are_components_with_their_descriptions() -> None:
    payload, components = schemas(shop.Order)
    assert payload == {"$ref": "#/components/schemas/Order"}
    assert {"Order", "Item", "Address", "Cash", "Card", "Size"} <= set(components)
    assert components["Address"]["description"] == "Where to bring it."
    assert components["Item"]["properties"]["dish"]["description"] == "As on the menu."


def test_what_stands_beside_a_reference_is_not_lost_in_draft_7() -> None:
    _, components = schemas(shop.Order)
    assert components["Order"]["properties"]["to"] == {
        "allOf": [{"$ref": "#/components/schemas/Address"}],
        "description": "The door.",
    }


def test_a_discriminator_is_a_name() -> None:
    _, components = schemas(shop.Order)
    assert components["Order"]["properties"]["pay"]["discriminator"] == "by"


def test_what_looks_like_a_keyword_in_data_stays_as_it_is() -> None:
    class Tricky(BaseModel):
        prefixItems: int = 1  # noqa: N815
        ref: dict[str, Any] = Field({"$ref": "#/x", "prefixItems": [1]}, alias="$ref")

    _, components = schemas(Tricky)
    properties = components["Tricky"]["properties"]
    assert properties["prefixItems"] == {"type": "integer", "default": 1}
    assert properties["$ref"]["default"] == {"$ref": "#/x", "prefixItems": [1]}


def test_what_is_sent_holds_its_defaults_too() -> None:
    class Body(BaseModel):
        a: int
        b: int = 1

        @computed_field
        def c(self) -> int:
            return self.a + self.b

    assert schemas(Body)[1]["Body"]["required"] == ["a"]
    assert schemas(Body, sent=True)[1]["Body"]["required"] == ["a", "b", "c"]


def test_of_a_typed_dict_only_what_must_be_there_is_required() -> None:
    assert schemas(shop.Tick, sent=True)[1]["Tick"]["required"] == ["n"]


def test_classes_of_the_same_name_are_told_apart() -> None:
    class Order(BaseModel):
        other: int

    service = unimsg.Service("some", sends=[unimsg.Queue("a.b", shop.Order), unimsg.Queue("a.c", Order)])
    whole = document(service, settings=Settings(url="memory://"))
    first, second = (whole["channels"][name]["messages"][name]["payload"]["$ref"] for name in ("a.b", "a.c"))
    assert first != second
    assert problems_if_there(whole) == []


def test_a_generic_model_has_a_component() -> None:
    T = TypeVar("T")

    class Page(BaseModel, Generic[T]):
        of: list[T]

    payload, components = schemas(Page[shop.Paid])
    assert is_valid({"of": [{"order": "a"}]}, payload, components)
    assert not is_valid({"of": [1]}, payload, components)


def test_aliases_are_the_names_on_the_wire() -> None:
    class Body(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        long_name: int = Field(alias="n")

    assert list(schemas(Body)[1]["Body"]["properties"]) == ["n"]


def test_a_type_that_json_schema_cannot_say_is_anything() -> None:
    class Odd:
        pass

    class Body(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        odd: Odd

    _, components = schemas(Body)
    assert "type" not in components["Body"]["properties"]["odd"]


def test_a_schema_that_nests_in_itself_ends() -> None:
    @dataclasses.dataclass
    class Body:
        item: shop.Item

    payload, components = schemas(Body)
    assert is_valid({"item": GOOD["items"][0]}, payload, components)  # type: ignore[index]


# -- text, bytes, XML


def test_text_and_bytes() -> None:
    assert schemas(str)[0] == {"type": "string"}
    assert schemas(bytes)[0] == {"type": "string", "format": "binary"}


def test_xml_says_what_is_an_attribute() -> None:
    payload, components = schemas(shop.Invoice)
    invoice = components[payload["$ref"].rpartition("/")[2]] if "$ref" in payload else payload
    assert invoice["xml"] == {"name": "invoice"}
    assert invoice["properties"]["id"]["xml"] == {"name": "id", "attribute": True}
    assert invoice["properties"]["rows"]["xml"] == {"name": "row"}
    assert invoice["properties"]["city"]["xml"] == {"name": "address/city"}
    assert components["Row"]["properties"]["number"]["xml"] == {"name": "no", "attribute": True}
    assert components["Row"]["xml"] == {"name": "row"}


# -- Protobuf


def test_protobuf_is_a_proto_file() -> None:
    payload, _ = schemas(shop.order_class())
    assert payload["schemaFormat"] == "application/vnd.google.protobuf;version=3"
    assert payload["schema"] == ORDER_SOURCE


def test_what_proto3_cannot_say_is_proto2() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="old.proto")
    old = file.message_type.add(name="Old")
    add(old, 1, "id", "int32", label="required")
    add(old, 2, "note", "string")
    add(old, 3, "many", "bool", label="repeated")
    payload, _ = schemas(class_of("Old", file))
    assert payload["schemaFormat"] == "application/vnd.google.protobuf;version=2"
    assert payload["schema"] == (
        'syntax = "proto2";\n\nmessage Old {\n  required int32 id = 1;\n  optional string note = 2;\n'
        "  repeated bool many = 3;\n}\n"
    )


def test_googles_own_message_is_written_out() -> None:
    source = schemas(Struct)[0]["schema"]
    assert "import" not in source
    assert "message Struct {\n  map<string, Value> fields = 1;\n}" in source
    assert "enum NullValue {\n  NULL_VALUE = 0;\n}" in source


def test_a_mapped_class_is_described_as_it_travels() -> None:
    codec = Protobuf[shop.Paid](Struct, to_wire=lambda body: Struct(), from_wire=lambda message: shop.Paid("1"))
    queue = unimsg.Queue("some.queue", shop.Paid, codec=codec)
    whole = document(unimsg.Service("some", sends=[queue]), settings=Settings(url="memory://"))
    (message,) = whole["channels"]["some.queue"]["messages"].values()
    assert "message Struct" in message["payload"]["schema"]


# -- Avro


def test_avro_is_its_schema_as_people_write_it() -> None:
    whole = document(shop.billing, settings=Settings(url="memory://"))
    messages = whole["channels"]["orders.stored"]["messages"]
    payload = messages["orders.stored"]["payload"]
    assert payload["schemaFormat"] == "application/vnd.apache.avro+json;version=1.9.0"
    assert payload["schema"] == {
        "type": "record",
        "name": "Placed",
        "namespace": "shop",
        "doc": "It was placed.",
        "fields": [
            {"name": "number", "type": "long"},
            {
                "name": "customer",
                "type": {"type": "record", "name": "Customer", "fields": [{"name": "n", "type": "int"}]},
            },
            {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        ],
    }
    assert payload["x-unimsg"] == {
        "reads": [
            {"type": "record", "name": "Placed", "namespace": "shop", "fields": [{"name": "number", "type": "int"}]}
        ]
    }
    assert messages["orders.stored.json"]["contentType"] == "application/json"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": "string"},
        {"type": "map", "values": ["null", "long"]},
        {"type": "record", "name": "A", "fields": [{"name": "next", "type": ["null", "A"]}]},
        {
            "type": "record",
            "name": "x.A",
            "fields": [{"name": "b", "type": {"type": "enum", "name": "y.B", "symbols": ["C"]}}],
        },
        {"type": "record", "name": "x.A", "fields": [{"name": "at", "type": {"type": "long", "logicalType": "date"}}]},
        {"type": "fixed", "name": "Hash", "size": 16},
    ],
    ids=lambda schema: str(schema["type"]) + str(schema.get("name", "")),
)
def test_every_avro_schema_is_one_for_asyncapi(schema: Any) -> None:
    class Some(BaseModel): ...

    payload, _ = schemas(Some, codec=Avro(Some, schema))
    assert Avro(Some, payload["schema"]).schema() == payload["schema"], "it is read as it is written"


# -- codecs of users


class Csv:
    content_type = "text/csv"

    def encode(self, body: list[str]) -> bytes:
        return ",".join(body).encode()

    def decode(self, data: bytes) -> list[str]:
        return data.decode().split(",")


class DescribedCsv(Csv):
    schema_format = "text/csv;header=absent"

    def schema(self) -> str:
        return "name,count"


def test_a_codec_that_describes_itself_is_taken_at_its_word() -> None:
    assert schemas(list[str], codec=DescribedCsv())[0] == {
        "schemaFormat": "text/csv;header=absent",
        "schema": "name,count",
    }


def test_a_codec_that_does_not_is_named() -> None:
    assert schemas(list[str], codec=Csv())[0] == {"description": "as Csv writes it"}
