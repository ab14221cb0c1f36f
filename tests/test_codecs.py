"""Body ↔ bytes: what does not fit is refused before it is sent, and hostile bytes are refused fast."""

import dataclasses
import json
import math
import sys
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic
from typing import Annotated, Any, Literal, NotRequired
from typing import TypedDict as OldTypedDict

import pytest
from hostile import mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from unimsg import ConfigurationError, DecodeError, EncodeError, Queue, message
from unimsg._bodies import MAX_RECEIVED_BODY, UnknownType
from unimsg.codecs import Binary, Codec, Json, Text


class Order(BaseModel):
    customer: str
    total: Decimal
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@dataclasses.dataclass
class Point:
    x: float
    y: float


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    points: list[Point]


class Reading(TypedDict):
    sensor: str
    celsius: float
    note: NotRequired[str]


class Aliased(BaseModel):
    order_id: int = Field(alias="orderId")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str


@message("com.acme.placed.v1")
class Placed(BaseModel):
    number: int


@message("com.acme.cancelled.v1")
@dataclasses.dataclass
class Cancelled:
    number: int


def channel(body: Any, codec: Any = None) -> Queue[Any]:  # any type form
    return Queue("orders.place", body, codec=codec)


def there_and_back(body_type: Any, body: Any) -> Any:
    queue = channel(body_type)
    type, content_type, data = queue.encode(body)
    return queue.decode(type, content_type, data)


@pytest.mark.parametrize(
    ("body_type", "body"),
    [
        (Order, Order(customer="Änn", total=Decimal("1.10"))),
        (Point, Point(1.5, -2)),
        (Line, Line([Point(1, 2), Point(3, 4)])),
        (Reading, {"sensor": "a", "celsius": 1.5}),
        (Reading, {"sensor": "a", "celsius": 1.5, "note": "n"}),
        (list[int], [1, 2, 3]),
        (list[int], []),
        (dict[str, float], {"a": 1.0}),
        (list[Order], [Order(customer="A", total=Decimal(1))]),
        (tuple[int, str], (1, "a")),
        (int, 7),
        (float, 1e300),
        (bool, True),
        (datetime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (Literal["on", "off"], "on"),
        (Annotated[int, Field(gt=0)], 5),
        (dict[str, Any], {"a": [1, None, {"b": "c"}]}),
        (Aliased, Aliased(orderId=7)),
        (list[Aliased], [Aliased(orderId=7)]),
        (str, ""),
        (str, "ünï \n \0 😀"),
        (bytes, b""),
        (bytes, bytes(range(256))),
        (Placed | Cancelled, Placed(number=1)),
        (Placed | Cancelled, Cancelled(number=1)),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_body_arrives_as_it_was_sent(body_type: Any, body: Any) -> None:
    again = there_and_back(body_type, body)
    assert again == body
    assert type(again) is type(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_any_mapping_of_numbers_arrives_as_it_was_sent(body: dict[str, int]) -> None:
    assert there_and_back(dict[str, int], body) == body


@given(st.text())
def test_any_text_arrives_as_it_was_sent_or_is_refused_before(body: str) -> None:
    try:
        again = there_and_back(str, body)
    except EncodeError:
        assert any("\ud800" <= character <= "\udfff" for character in body)
    else:
        assert again == body


def test_a_subclass_is_sent_as_what_is_declared() -> None:
    class Special(Order):
        discount: int = 5

    again = there_and_back(Order, Special(customer="A", total=Decimal(1)))
    assert again == Order(customer="A", total=Decimal(1))


def test_json_is_compact_utf8_that_any_language_reads() -> None:
    _, content_type, data = channel(dict[str, str]).encode({"näme": "Ä"})
    assert content_type == "application/json"
    assert data == '{"näme":"Ä"}'.encode()


def test_an_alias_is_the_name_on_the_wire() -> None:
    assert channel(Aliased).encode(Aliased(orderId=7))[2] == b'{"orderId":7}'


# -- what does not fit is refused before it is sent


@pytest.mark.parametrize(
    ("body_type", "body"),
    [
        (Order, {"customer": "A", "total": 1}),
        (Order, Point(1, 2)),
        (Order, None),
        (Order, "text"),
        (Point, Order(customer="A", total=Decimal(1))),
        (Point, Point("1", 2)),  # type: ignore[arg-type]  # dataclasses do not check themselves
        (Point, Point(None, 2)),  # type: ignore[arg-type]
        (Line, Line([(1, 2)])),  # type: ignore[list-item]
        (Line, Line([Point(1, None)])),  # type: ignore[arg-type]
        (Reading, {"sensor": "a"}),
        (Reading, {"sensor": "a", "celsius": "warm"}),
        (Reading, {"sensor": 5, "celsius": 1.0}),
        (Reading, ["sensor", "celsius"]),
        (list[int], ["1"]),
        (list[int], [1, None]),
        (list[int], [True]),
        (list[int], "12"),
        (list[int], 1),
        (list[int], {1: 2}),
        (dict[str, int], {1: 1}),
        (dict[str, int], {"a": "1"}),
        (list[Order], [{"customer": "A", "total": 1}]),
        (int, "1"),
        (int, 1.5),
        (int, True),
        (bool, 1),
        (Literal["on", "off"], "dim"),
        (Annotated[int, Field(gt=0)], 0),
        (str, b"bytes"),
        (str, 5),
        (str, None),
        (str, "\ud800"),
        (bytes, "text"),
        (bytes, 5),
        (bytes, [1, 2]),
        (bytes, None),
        (Placed | Cancelled, Order(customer="A", total=Decimal(1))),
        (Placed | Cancelled, {"number": 1}),
        (Placed | Cancelled, None),
        (float, math.nan),
        (float, -math.inf),
        (list[float], [1.0, math.nan]),
        (Point, Point(math.inf, 1)),
        (Reading, {"sensor": "a", "celsius": math.nan}),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_body_of_another_type_is_refused_and_the_channel_is_named(body_type: Any, body: Any) -> None:
    with pytest.raises(EncodeError, match=r"^orders\.place: ") as caught:
        channel(body_type).encode(body)
    assert isinstance(caught.value, ValueError)


def test_a_model_that_was_changed_to_what_does_not_fit_is_refused() -> None:
    order = Order(customer="A", total=Decimal(1))
    order.customer = 5  # type: ignore[assignment]  # pydantic does not check assignments by default
    with pytest.raises(EncodeError, match=r"customer|another type"):
        channel(Order).encode(order)


def test_a_missing_value_may_be_null_where_its_type_says_so() -> None:
    class Maybe(BaseModel):
        note: str | None = None

    assert there_and_back(Maybe, Maybe()) == Maybe()
    assert there_and_back(list[int | None], [1, None]) == [1, None]


def cyclic() -> list[Any]:
    body: list[Any] = []
    body.append(body)
    return body


def nested(depth: int) -> list[Any]:
    body: list[Any] = []
    for _ in range(depth):
        body = [body]
    return body


@pytest.mark.parametrize("body", [cyclic(), nested(100_000)], ids=["cyclic", "nested"])
def test_a_body_without_end_is_refused(body: list[Any]) -> None:
    with pytest.raises(EncodeError):
        channel(list[Any]).encode(body)


def test_a_refused_body_shows_no_value() -> None:
    class Secret(BaseModel):
        pin: int

    secret = Secret(pin=1)
    secret.pin = "canary"  # type: ignore[assignment]  # as above
    for body_type, body in [(Secret, secret), (list[int], ["canary"]), (dict[str, int], {"a": "canary"}), (str, 5)]:
        with pytest.raises(EncodeError) as caught:
            channel(body_type).encode(body)
        assert "canary" not in str(caught.value)
        assert "canary" not in repr(caught.value)


# -- hostile bytes


HOSTILE = {
    "empty": b"",
    "truncated": b'{"customer": "A", "tot',
    "not JSON": b"<xml/>",
    "two documents": b"{} {}",
    "trailing comma": b"[1,]",
    "invalid UTF-8": b'{"customer": "\xff\xfe", "total": 1}',
    "surrogate": b'{"customer": "\\ud800", "total": 1}',
    "UTF-16": '{"customer": "A", "total": 1}'.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + b'{"customer": "A", "total": "x"}',
    "huge number": b'{"customer": "A", "total": ' + b"9" * 1_000_000 + b"}",
    "huge exponent": b'{"customer": 1e999999999, "total": 1}',
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "open for ever": b"[" * 1_000_000,
    "many keys": b"{" + b",".join(b'"k%d":0' % n for n in range(100_000)) + b"}",
    "wrong type": b"[]",
    "null": b"null",
    "NUL": b"\0",
    "NaN": b'{"customer": NaN, "total": 1}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused_fast(name: str) -> None:
    begin = monotonic()
    with pytest.raises(DecodeError, match=r"^orders\.place: ") as caught:
        channel(Order).decode(None, "application/json", HOSTILE[name])
    assert monotonic() - begin < 1.0
    assert len(str(caught.value)) < 500, "the error does not repeat the body"


@pytest.mark.parametrize("body_type", [list[int], dict[str, Any], Any, Line, Reading, list[Any]], ids=str)
@pytest.mark.parametrize("name", ["deep list", "deep object", "open for ever", "truncated", "invalid UTF-8"])
def test_so_it_is_whatever_the_body_type(name: str, body_type: Any) -> None:
    begin = monotonic()
    with pytest.raises(DecodeError):
        channel(body_type).decode(None, None, HOSTILE[name])
    assert monotonic() - begin < 1.0


@settings(max_examples=1000, deadline=2000)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_body_or_a_decode_error(data: bytes) -> None:
    for body_type in (Order, list[int], Reading, dict[str, Any], str, Placed | Cancelled):
        for type in (None, "com.acme.placed.v1"):
            with suppress(DecodeError):
                channel_of[str(body_type)].decode(type, None, data)


channel_of = {str(body): channel(body) for body in (Order, list[int], Reading, dict[str, Any], str, Placed | Cancelled)}


@settings(max_examples=1000, deadline=2000)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 8), st.binary(max_size=12)), min_size=1, max_size=6))
def test_json_that_was_tampered_with_is_a_body_or_a_decode_error(edits: list[tuple[int, int, bytes]]) -> None:
    with suppress(DecodeError):
        channel_of[str(Order)].decode(
            None, None, mutated(b'{"customer":"A","total":"1.10","at":"2026-01-02T00:00:00Z"}', edits)
        )


@given(json_values)
def test_any_json_is_a_body_or_a_decode_error(value: object) -> None:
    data = json.dumps(value).encode()
    for queue in channel_of.values():
        with suppress(DecodeError):
            queue.decode("com.acme.cancelled.v1", "application/json", data)


def test_a_body_beyond_the_limit_is_refused_before_it_is_parsed() -> None:
    class Never:
        content_type = "application/never"

        def encode(self, body: bytes) -> bytes:
            raise AssertionError

        def decode(self, data: bytes) -> bytes:
            raise AssertionError("it was parsed")

    with pytest.raises(DecodeError, match=f"{MAX_RECEIVED_BODY + 1} bytes"):
        channel(bytes, Never()).decode(None, None, bytes(MAX_RECEIVED_BODY + 1))


def test_what_other_programs_send_beyond_our_own_limit_is_read() -> None:
    assert len(channel(bytes).decode(None, None, bytes(MAX_RECEIVED_BODY))) == MAX_RECEIVED_BODY


def test_a_body_that_does_not_fit_shows_where_but_nothing_that_was_sent() -> None:
    queue = channel(dict[str, int])
    for key in ["canary@example.org", "canary\nFORGED LINE", "canary" * 10_000]:
        with pytest.raises(DecodeError) as caught:
            queue.decode(None, None, json.dumps({key: "canary"}).encode())
        assert "canary" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DecodeError, match="total: missing"):
        channel(Order).decode(None, None, b'{"customer": "canary"}')
    with pytest.raises(DecodeError) as caught:
        channel(Strict).decode(None, None, b'{"name": "a", "canary key": 1}')
    assert "canary" not in str(caught.value)


def test_invalid_utf8_is_no_text() -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        channel(str).decode(None, None, b"\xff\xfe")


# -- which codec


def test_text_and_bytes_have_content_types_of_their_own() -> None:
    assert channel(str).encode("é")[1:] == ("text/plain; charset=utf-8", "é".encode())
    assert channel(bytes).encode(b"\xff")[1:] == ("application/octet-stream", b"\xff")
    assert channel(bytes).encode(bytearray(b"ab"))[2] == b"ab"
    assert channel(bytes).encode(memoryview(b"ab"))[2] == b"ab"


class Csv:
    """A user's own codec."""

    content_type = "text/csv"

    def encode(self, body: list[int]) -> bytes:
        return ",".join(str(number + 0) for number in body).encode()

    def decode(self, data: bytes) -> list[int]:
        return [int(part) for part in data.split(b",")]


def test_of_several_codecs_the_first_writes_and_the_content_type_chooses_who_reads() -> None:
    queue = channel(list[int], [Csv(), Json(list[int])])
    assert queue.encode([1, 2])[1:] == ("text/csv", b"1,2")
    assert queue.decode(None, "text/csv", b"3,4") == [3, 4]
    assert queue.decode(None, "application/json", b"[5]") == [5]
    assert queue.decode(None, None, b"6,7") == [6, 7], "the first where nothing is said"
    assert queue.decode(None, "", b"6,7") == [6, 7]


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "APPLICATION/JSON", "application/json; charset=utf-8", " application/json ;x=y"),
        *("application/vnd.acme.order+json", "application/problem+json; v=1"),
    ],
)
def test_json_is_known_under_its_other_names(content_type: str) -> None:
    assert channel(list[int]).decode(None, content_type, b"[1]") == [1]


@pytest.mark.parametrize(
    "content_type", ["application/xml", "text/plain", "json", "application/cloudevents+json", "application/jsonp", "\0"]
)
def test_a_content_type_that_nobody_reads_is_a_decode_error_that_names_what_is_read(content_type: str) -> None:
    with pytest.raises(DecodeError, match=r"orders\.place: content type .* none of application/json"):
        channel(list[int]).decode(None, content_type, b"[1]")


def test_bytes_are_read_whatever_their_content_type() -> None:
    assert channel(bytes).decode(None, "image/png", b"\x89PNG") == b"\x89PNG"


def test_a_codec_of_the_user_may_raise_what_it_likes_of_value_and_type_errors() -> None:
    queue = channel(list[int], Csv())
    with pytest.raises(EncodeError, match=r"orders\.place: TypeError in its codec for text/csv"):
        queue.encode(["a"])
    with pytest.raises(DecodeError, match=r"orders\.place: ValueError in its codec for text/csv"):
        queue.decode(None, None, b"1,x")


def test_a_codec_gives_the_channel_its_body_type_where_pydantic_knows_none() -> None:
    class Opaque:
        def __init__(self, text: str) -> None:
            self.text = text

    class OpaqueCodec:
        content_type = "application/x-opaque"

        def encode(self, body: Opaque) -> bytes:
            return body.text.encode()

        def decode(self, data: bytes) -> Opaque:
            return Opaque(data.decode())

    codec: Codec[Opaque] = OpaqueCodec()
    queue = channel(Opaque, codec)
    assert queue.decode(None, None, queue.encode(Opaque("x"))[2]).text == "x"


@pytest.mark.parametrize("body", [type("Opaque", (), {}), 5, object()], ids=["a class", "a number", "an object"])
def test_a_body_type_that_no_codec_knows_is_refused_at_its_declaration(body: object) -> None:
    with pytest.raises(ConfigurationError, match=r"no JSON codec for .*: use a pydantic model, .* or codec="):
        channel(body)


def test_the_codecs_can_be_used_by_themselves() -> None:
    assert Json(list[int]).decode(Json(list[int]).encode([1])) == [1]
    assert Text().decode(Text().encode("é")) == "é"
    assert Binary().decode(Binary().encode(b"x")) == b"x"


# -- unions, by the type on the wire


def test_each_member_of_a_union_travels_under_its_own_type() -> None:
    queue = channel(Placed | Cancelled)
    assert queue.encode(Placed(number=1)) == ("com.acme.placed.v1", "application/json", b'{"number":1}')
    assert queue.encode(Cancelled(1)) == ("com.acme.cancelled.v1", "application/json", b'{"number":1}')
    assert queue.decode("com.acme.cancelled.v1", None, b'{"number":1}') == Cancelled(1)
    assert queue.decode("com.acme.placed.v1", None, b'{"number":1}') == Placed(number=1)


@pytest.mark.parametrize("type", [None, "", "com.acme.other.v1", "orders.place", "Placed", "builtins.eval"])
def test_an_unknown_type_of_a_union_is_a_decode_error_that_names_the_known(type: str | None) -> None:
    with pytest.raises(DecodeError, match=r"com\.acme\.cancelled\.v1, com\.acme\.placed\.v1"):
        channel(Placed | Cancelled).decode(type, None, b'{"number":1}')


def test_a_subclass_of_a_member_travels_as_the_member() -> None:
    class Special(Placed): ...

    assert channel(Placed | Cancelled).encode(Special(number=1))[0] == "com.acme.placed.v1"


def test_a_single_body_travels_under_its_own_type_or_the_channels_name_never_its_classs() -> None:
    assert channel(Placed).encode(Placed(number=1))[0] == "com.acme.placed.v1"
    assert channel(Order).encode(Order(customer="A", total=Decimal(1)))[0] == "orders.place"
    assert channel(list[int]).encode([1])[0] == "orders.place"


def test_a_subclass_does_not_inherit_the_type_of_its_parent() -> None:
    class Special(Placed): ...

    assert channel(Special).encode(Special(number=1))[0] == "orders.place"


@pytest.mark.parametrize("type", [None, "orders.place", "com.acme.old-name", "com.acme.placed.v1"])
def test_a_single_body_without_a_type_of_its_own_is_read_whatever_type_its_sender_said(type: str | None) -> None:
    assert channel(int).decode(type, None, b"7") == 7


def test_one_with_a_type_is_read_where_its_sender_said_that_or_none_and_another_type_is_another_message() -> None:
    for type in (None, "com.acme.placed.v1"):
        assert channel(Placed).decode(type, None, b'{"number":1}') == Placed(number=1)
    with pytest.raises(UnknownType, match=r"message type 'com\.acme\.old-name' is none of com\.acme\.placed\.v1"):
        channel(Placed).decode("com.acme.old-name", None, b'{"number":1}')


def test_a_member_of_a_union_without_a_type_is_refused_at_the_declaration() -> None:
    for body in (Placed | Order, Placed | None, int | str):
        with pytest.raises(ConfigurationError, match=r"orders\.place: .* decorate it with @unimsg\.message"):
            channel(body)


def test_two_members_of_one_type_are_refused_at_the_declaration() -> None:
    @message("com.acme.placed.v1")
    class Again(BaseModel): ...

    with pytest.raises(ConfigurationError, match="same @message type"):
        channel(Placed | Again)


@pytest.mark.parametrize("type", ["", "two words", "ümlaut", "x" * 256, "new\nline", "tab\t"])
def test_a_bad_message_type_is_refused(type: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 255 printable ASCII"):
        message(type)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads it there")
def test_a_typed_dict_of_the_wrong_module_says_what_to_use() -> None:
    class Old(OldTypedDict):
        a: int

    with pytest.raises(ConfigurationError, match=r"typing_extensions\.TypedDict"):
        channel(Old)
