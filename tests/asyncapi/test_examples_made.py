"""Examples are made from schemas, and fit them."""

import re
from typing import Annotated, Any, Literal

import pytest
import sample_shop as shop
from jsonschema import Draft7Validator
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

import unimsg
from unimsg.asyncapi import document
from unimsg.asyncapi._example_text import as_xml
from unimsg.asyncapi._examples import example_of
from unimsg.asyncapi._pattern_sample import sample
from unimsg.asyncapi._wire_examples import avro_example, protobuf_example
from unimsg.codecs import Avro
from unimsg.config import Settings

SHOP = document(*shop.SERVICES, settings=Settings(url="memory://"))


def json_messages() -> list[Any]:
    return [
        pytest.param(message["payload"], id=f"{name}-{key}")
        for name, channel in SHOP["channels"].items()
        for key, message in channel["messages"].items()
        if "schemaFormat" not in message["payload"]
    ]


@pytest.mark.parametrize("payload", json_messages())
def test_an_example_fits_its_schema(payload: Any) -> None:
    example = example_of(SHOP, payload)
    problems = Draft7Validator({**payload, "components": SHOP["components"]}).iter_errors(example)
    assert [problem.message for problem in problems] == []


def test_an_example_is_read_by_the_codec() -> None:
    example = example_of(SHOP, SHOP["channels"]["orders.place"]["messages"]["orders.place"]["payload"])
    assert shop.Order.model_validate(example).items[0].dish == "ramen"


class Limits(TypedDict):
    between: Annotated[int, Field(ge=5, lt=7)]
    below: Annotated[int, Field(lt=-5)]
    part: Annotated[float, Field(gt=0, lt=1)]
    many: Annotated[list[int], Field(min_length=3)]
    long: Annotated[str, Field(min_length=20)]
    short: Annotated[str, Field(max_length=2)]
    step: Annotated[int, Field(multiple_of=5, gt=7)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{4}$")]
    named: Annotated[str, Field(pattern=r"^(?:ab|cd)+x?$")]
    one: Literal["only"]
    maybe: str | None
    pairs: dict[str, Annotated[int, Field(ge=3)]]
    text: Annotated[str, Field(examples=["said"])]


def test_an_example_keeps_to_the_limits() -> None:
    schema = TypeAdapter(Limits).json_schema()
    example = example_of({}, schema)
    assert [problem.message for problem in Draft7Validator(schema).iter_errors(example)] == []
    assert example["text"] == "said"


class Tree(BaseModel):
    name: str
    children: "list[Tree]"
    parent: "Tree | None" = None


class Chain(TypedDict):
    next: "dict[str, Chain]"


@pytest.mark.parametrize("kind", [Tree, Chain], ids=lambda kind: kind.__name__)
def test_an_example_of_what_nests_in_itself_ends_and_fits(kind: Any) -> None:
    queue = unimsg.Queue("some.queue", kind)
    whole = document(unimsg.Service("some", sends=[queue]), settings=Settings(url="memory://"))
    payload = whole["channels"]["some.queue"]["messages"]["some.queue"]["payload"]
    example = example_of(whole, payload)
    problems = Draft7Validator({**payload, "components": whole["components"]}).iter_errors(example)
    assert [problem.message for problem in problems] == []


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{5}$",
        r"^[A-Z]{3}-\d+$",
        "^(ab|cd)$",
        r"^a\.b$",
        "^.{3}$",
        r"^\w+@\w+$",
        "x",
        "^$|^a$",
        r"^[^/]+$",
        r"^\+49\d*$",
    ],
)
def test_a_sample_fits_its_pattern(pattern: str) -> None:
    found = sample(pattern)
    assert found is not None
    assert re.search(pattern, found)


@pytest.mark.parametrize("pattern", ["(", "[", "a{", "^(?=.*x)y$", "\\", "a{99999}", "(" * 150, "*", "^b{3,"])
def test_a_pattern_that_is_too_much_has_no_sample_or_one_that_fits(pattern: str) -> None:
    found = sample(pattern)
    assert found is None or re.search(pattern, found)


def test_an_avro_example_is_one_for_its_codec() -> None:
    class Customer(BaseModel):
        n: int

    class Placed(BaseModel):
        number: int
        customer: Customer
        tags: list[str]

    example = avro_example(shop.AVRO)
    codec = Avro(Placed, shop.AVRO)
    assert codec.decode(codec.encode(Placed(**example))).customer.n == 1


def test_a_protobuf_example_is_as_protobuf_writes_json() -> None:
    from google.protobuf import json_format

    source = SHOP["channels"]["orders.wired"]["messages"]["orders.wired"]["payload"]["schema"]
    example = protobuf_example(source)
    parsed: Any = json_format.ParseDict(example, shop.order_class()())
    assert parsed.total.cents == 1
    assert parsed.WhichOneof("pay") == "card"
    assert parsed.lines[0].dish == "string"


def test_an_xml_example_is_read_by_the_codec() -> None:
    payload = SHOP["channels"]["orders.invoices"]["messages"]["orders.invoices"]["payload"]
    text = "\n".join(as_xml(SHOP, payload, example_of(SHOP, payload)))
    invoice = shop.invoices.decode(None, None, text.encode())
    assert (invoice.id, invoice.rows[0].number, invoice.rows[0].text, invoice.city) == (1, 1, "string", "string")
