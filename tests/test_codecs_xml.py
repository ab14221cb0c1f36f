"""XML: models of pydantic-xml, and documents that attack who reads them."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hostile import assert_refused, mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_xml import BaseXmlModel, attr, element

from unimsg import ConfigurationError, DecodeError, EncodeError, Queue
from unimsg._limits import MAX_DEPTH, MAX_ELEMENTS
from unimsg.codecs import Json, Xml

NS = {"": "urn:acme:orders", "l": "urn:acme:lines"}


class Line(BaseXmlModel, tag="line", ns="l", nsmap=NS):
    sku: str = attr()
    count: int = element(tag="count", ns="l")


class Order(BaseXmlModel, tag="order", ns="", nsmap=NS):
    id: str = attr()
    at: datetime = element(tag="at", ns="")
    total: Decimal = element(tag="total", ns="")
    note: str | None = element(tag="note", ns="", default=None)
    lines: list[Line] = element(tag="line", ns="l", default=[])


class Tree(BaseXmlModel, tag="a"):
    name: str = attr(default="")
    leaves: "list[Tree]" = element(tag="a", default=[])


class Text(BaseXmlModel, tag="text"):
    value: str = ""


orders = Queue("orders.place", Order)
trees = Queue("orders.place", Tree)
texts = Queue("orders.place", Text)
BODY = Order(
    id="Ä-1 <&\"'>\n\t",
    at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    total=Decimal("-12.50"),
    note="a < b & c ]]> \r\n 😀",
    lines=[Line(sku="a", count=2), Line(sku="b", count=1)],
)


@pytest.mark.parametrize(
    "body", [BODY, BODY.model_copy(update={"note": None}), BODY.model_copy(update={"note": "", "lines": []})], ids=repr
)
def test_a_body_arrives_as_it_was_sent(body: Order) -> None:
    type_, content_type, data = orders.encode(body)
    assert content_type == "application/xml"
    assert orders.decode(type_, content_type, data) == body


XML_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))


@given(XML_TEXT, XML_TEXT)
def test_any_text_that_xml_can_carry_arrives_as_it_was_sent(id: str, note: str) -> None:
    body = BODY.model_copy(update={"id": id, "note": note})
    assert orders.decode(*orders.encode(body)) == body


DOCUMENT = (
    '<?xml version="1.0" encoding="{}"?>\n<!-- from elsewhere --><?app go?>\n<o:order xmlns:o="urn:acme:orders" id="é">'
    "<o:at>2026-01-02T00:00:00Z</o:at> <o:total>1</o:total><o:note><![CDATA[a<b]]>&#x21;</o:note>"
    '<line xmlns="urn:acme:lines" sku="a"><count>2</count></line><other/></o:order>\n<!-- end -->\n'
)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf-16", "iso-8859-1"])
@pytest.mark.parametrize("content_type", ["application/xml", "text/xml; charset=x", "application/vnd.acme.order+xml"])
def test_documents_of_other_programs_are_read(encoding: str, content_type: str) -> None:
    body = orders.decode(None, content_type, DOCUMENT.format(encoding).encode(encoding))
    assert (body.id, body.note, body.lines) == ("é", "a<b!", [Line(sku="a", count=2)])


def test_a_byte_order_mark_is_no_text() -> None:
    assert orders.decode(None, None, DOCUMENT.format("utf-8").encode("utf-8-sig")).id == "é"


# -- what does not fit is refused before it is sent


def changed(**fields: Any) -> Order:
    body = BODY.model_copy()
    for name, value in fields.items():
        setattr(body, name, value)  # pydantic does not check assignments by default
    return body


@pytest.mark.parametrize(
    "body",
    [
        *(Line(sku="canary", count=1), {"id": "canary"}, None, "canary"),
        *(changed(total="canary"), changed(id="canary\0"), changed(note="canary\ud800"), changed(lines=["canary"])),
    ],
    ids=ascii,
)
def test_a_body_that_does_not_fit_is_refused_and_shows_no_value(body: Any) -> None:
    with pytest.raises(EncodeError, match=r"^orders\.place: ") as caught:
        orders.encode(body)
    assert "canary" not in str(caught.value)


def tree(depth: int, width: int = 0) -> Tree:
    made = Tree(leaves=[Tree() for _ in range(width)])
    for _ in range(depth - 1):
        made = Tree(leaves=[made])
    return made


def test_a_body_that_could_not_be_read_is_not_sent() -> None:
    assert trees.decode(*trees.encode(tree(MAX_DEPTH))) == tree(MAX_DEPTH)
    with pytest.raises(EncodeError, match="nested"):
        trees.encode(tree(MAX_DEPTH + 1))
    with pytest.raises(EncodeError, match=str(MAX_ELEMENTS)):
        trees.encode(tree(1, MAX_ELEMENTS))


class NoXml(BaseModel):
    name: str


@pytest.mark.parametrize("body", [NoXml, dict, Order | NoXml, list[Order]], ids=str)
def test_only_models_of_pydantic_xml_have_an_xml_codec(body: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"BaseXmlModel"):
        Xml(body)


# -- hostile bytes


def laughs(levels: int) -> Iterator[str]:
    yield '<!ENTITY e0 "lol">'
    for level in range(1, levels):
        yield f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">'


BOMB = f"<!DOCTYPE text [{''.join(laughs(12))}]><text>&e11;</text>"
LONG = "A" * 100_000
HOSTILE: dict[str, str | bytes] = {
    "billion laughs": BOMB,
    "billion laughs after comments": f'<?xml version="1.0"?><!-- a --><!--><!----><?p ?>\n{BOMB}',
    "billion laughs in an attribute": BOMB.replace("<text>&e11;", '<text a="&e11;">'),
    "quadratic": f'<!DOCTYPE text [<!ENTITY a "{LONG}">]><text>{"&a;" * 10_000}</text>',
    "an outer entity": '<!DOCTYPE text [<!ENTITY a SYSTEM "file:///etc/passwd">]><text>&a;</text>',
    "an outer DTD": '<!DOCTYPE text SYSTEM "http://127.0.0.1:9/a.dtd"><text/>',
    "a parameter entity": '<!DOCTYPE text [<!ENTITY % a SYSTEM "file:///dev/zero"> %a;]><text/>',
    "a DTD after the element": "<text/><!DOCTYPE text>",
    "an entity of nobody": "<text>&a;</text>",
    "deep": "<a>" * 5_000_000,
    "deep and closed": "<a>" * 1_000_000 + "</a>" * 1_000_000,
    "many elements": "<a>" + "<a/>" * 3_500_000 + "</a>",
    "many attributes": "<text " + " ".join(f'a{n}=""' for n in range(1_000_000)) + "/>",
    "a long tag": "<" + "a" * 15_000_000 + "/>",
    "long namespaces": f'<a xmlns:p="{LONG}">' + "".join(f"<p:a{n}/>" for n in range(10_000)) + "</a>",
    "many namespaces": "<a>" + "".join(f'<a xmlns:p{n}="urn:{n}"/>' for n in range(100_000)) + "</a>",
    "a comment without end": "<!--" * 4_000_000,
    "comments without end": "<!-- -->" * 2_000_000,
    "a space without end": " " * 16_000_000,
    "an unknown encoding": '<?xml version="1.0" encoding="utf-7"?><text/>',
    "an encoding that is code": '<?xml version="1.0" encoding="unicode_escape"?><text/>',
    "a false encoding": b'<?xml version="1.0" encoding="utf-8"?><text>\xff</text>',
    "half of UTF-16": b"\xff\xfe<\0a",
    "XML 1.1": '<?xml version="1.1"?><text>&#1;</text>',
    "empty": "",
    "no XML": '{"a": 1}',
    "cut": "<text>canary",
    "two roots": "<text/><text/>",
    "another root": "<canary/>",
    "NUL": "\0",
    "a NUL inside": "<text>\0</text>",
    "an attribute twice": '<text a="1" a="2"/>',
    "a prefix of nobody": "<p:text/>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml_is_refused_fast(name: str) -> None:
    body = HOSTILE[name]
    queue = trees if body[:2] in ("<a", b"<a") else texts
    text = assert_refused(queue, "application/xml", body.encode() if isinstance(body, str) else body)
    assert "canary" not in text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-32", "utf-7", "cp037"])
def test_a_bomb_is_one_in_every_encoding(encoding: str) -> None:
    assert_refused(texts, None, BOMB.encode(encoding))
    assert_refused(texts, None, b"\xff\xfe" + BOMB.encode(encoding))


def test_a_doctype_within_a_text_or_a_comment_is_none() -> None:
    for inner in ("<![CDATA[<!DOCTYPE a [", "]]>"), ("&lt;!DOCTYPE a&gt;", ""):
        assert (
            "<!DOCTYPE a"
            in texts.decode(None, None, f"<!-- <!DOCTYPE a> --><text>{''.join(inner)}</text>".encode()).value
        )


@pytest.mark.parametrize("size", [1_000_000, 15_000_000])
def test_long_texts_are_read(size: int) -> None:
    assert texts.decode(None, None, b"<text>" + b"x" * size + b"</text>").value == "x" * size


def test_elements_that_the_model_does_not_know_cost_no_more() -> None:
    data = b'<a name="b">' + b"<b/><a/>" * (MAX_ELEMENTS // 2 - 2) + b"</a>"
    with suppress(DecodeError):
        trees.decode(None, None, data)


def test_a_body_that_does_not_fit_shows_where_but_nothing_that_was_sent() -> None:
    document = DOCUMENT.format("utf-8").replace("<count>2", "<count>canary")
    text = assert_refused(orders, None, document.encode())
    assert "count: int_parsing" in text
    assert "canary" not in text


PIECES = [
    "<",
    ">",
    "/",
    "a",
    "<a>",
    "</a>",
    "<a/>",
    "<!DOCTYPE a [",
    "<!ENTITY e 'x'>",
    "&e;",
    "]>",
    "<![CDATA[",
    "]]>",
]
PIECES += [
    "<!--",
    "-->",
    "<?a",
    "?>",
    "&#0;",
    " ",
    "\n",
    '="',
    '"',
    "xmlns",
    ":",
    "\0",
    "\ufeff",
    "<?xml version='1.0'?>",
]


@settings(max_examples=1000, deadline=2000)
@given(st.binary(max_size=300), st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_bytes_are_a_body_or_a_decode_error(data: bytes, pieces: list[str]) -> None:
    made = "".join(pieces)
    for body in (data, made.encode(), b"<a>" + made.encode() + b"</a>", made.encode("utf-16")):
        for queue in (orders, trees, texts):
            with suppress(DecodeError):
                queue.decode(None, None, body)


@settings(max_examples=1000, deadline=2000)
@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 8), st.binary(max_size=12)), min_size=1, max_size=6))
def test_a_body_that_was_tampered_with_is_a_body_or_a_decode_error(edits: list[tuple[int, int, bytes]]) -> None:
    for document in (orders.encode(BODY)[2], DOCUMENT.format("iso-8859-1").encode("iso-8859-1")):
        with suppress(DecodeError):
            orders.decode(None, None, mutated(document, edits))


def test_an_xml_channel_may_read_json_too() -> None:
    queue = Queue("orders.place", Order, codec=[Xml(Order), Json(Order)])
    assert queue.decode(None, "application/json", Json(Order).encode(BODY)) == BODY
    assert queue.decode(*queue.encode(BODY)) == BODY
