"""A message on the page: its fields, and an example."""

from typing import Any

from unimsg.asyncapi._avro_fields import avro_fields
from unimsg.asyncapi._example_text import as_text, as_xml
from unimsg.asyncapi._examples import example_of
from unimsg.asyncapi._fields import Field, fields_of, words_of
from unimsg.asyncapi._markup import Markup, joined, prose, tag
from unimsg.asyncapi._references import as_list, as_object, resolved
from unimsg.asyncapi._wire_examples import avro_example, protobuf_example

Json = dict[str, Any]


def message_of(document: Json, message: Json, anchor: str, *, level: int, name: str) -> Markup:
    """`level`: of its heading."""
    content_type = str(message.get("contentType") or document.get("defaultContentType") or "")
    title = message.get("title")
    labels = [tag("span", "old type, still read", class_="badge old")] if message.get("deprecated") is True else []
    kind = as_object(message.get("x-unimsg")).get("kind")
    facts = [str(each) for each in (kind, content_type) if each]
    heading = tag(
        f"h{level}",
        tag("code", name),
        tag("span", f" {title}", class_="title") if isinstance(title, str) and title != name else None,
        *labels,
        id=anchor,
    )
    return tag(
        "article",
        heading,
        tag("p", " · ".join(facts), class_="facts") if facts else None,
        prose(_text(message.get("description"))),
        tag("div", *_payload(document, message.get("payload"), content_type), class_="columns"),
        _headers(document, message.get("headers")),
        class_="message",
    )


def _payload(document: Json, payload: Any, content_type: str) -> list[Markup]:
    """What there is to say of the body, and an example."""
    part = as_object(resolved(document, payload))
    format_ = part.get("schemaFormat")
    if isinstance(format_, str) and "schema" in part:
        if "avro" in format_:
            return [
                _fields(avro_fields(part["schema"]), "Avro"),
                _example(as_text(avro_example(part["schema"])), "JSON"),
            ]
        if isinstance(part["schema"], str):
            example = protobuf_example(part["schema"]) if "protobuf" in format_ else None
            shown = [_source(part["schema"])]
            return shown if example is None else [*shown, _example(as_text(example), "JSON")]
        payload = part["schema"]
    example = _given(document, payload)
    if "xml" in content_type:
        return [_body(document, payload), _example("\n".join(as_xml(document, payload, example)), "XML")]
    if content_type.startswith("text/") and isinstance(example, str):
        return [_body(document, payload), _example(example, "text")]
    if "json" not in content_type:
        return [_body(document, payload)]
    return [_body(document, payload), _example(as_text(example), "JSON")]


def _given(document: Json, payload: Any) -> Any:
    return example_of(document, payload)


def _body(document: Json, schema: Any) -> Markup:
    fields = fields_of(document, schema)
    words = words_of(document, schema)
    part = as_object(resolved(document, schema))
    if not fields and not words.startswith("object"):
        said = part.get("description") if words == "anything" else None
        return tag("div", tag("p", said if isinstance(said, str) else words, class_="type"), class_="fields")
    return _fields(fields, None if words.startswith("object") else words)


def _fields(fields: list[Field], about: str | None) -> Markup:
    return tag(
        "div",
        tag("p", about, class_="type") if about else None,
        _tree(fields) if fields else tag("p", "no fields", class_="type"),
        class_="fields",
    )


def _tree(fields: list[Field]) -> Markup:
    return tag("ul", *(tag("li", _field(each)) for each in fields))


def _field(each: Field) -> Markup:
    return joined(
        tag("code", each.name, class_="name"),
        " ",
        tag("span", each.type, class_="type"),
        tag("span", " required", class_="required") if each.required else None,
        *(tag("span", f" · {note}", class_="note") for note in each.notes),
        tag("div", prose(each.text), class_="text") if each.text else None,
        _tree(each.inner) if each.inner else None,
    )


def _example(text: str, language: str) -> Markup:
    caption = tag("figcaption", f"Example, as {language}")
    return tag("figure", caption, tag("pre", tag("code", text)), class_="example")


def _source(text: str) -> Markup:
    return tag("figure", tag("figcaption", "Schema"), tag("pre", tag("code", text)), class_="example")


def _headers(document: Json, headers: Any) -> Markup | None:
    fields = fields_of(document, headers)
    if not fields:
        return None
    for each in fields:
        each.required = each.name in _required(document, headers)
    fields.sort(key=lambda each: not each.required)
    return tag("details", tag("summary", f"Headers ({len(fields)})"), tag("div", _tree(fields), class_="fields"))


def _required(document: Json, headers: Any) -> list[Any]:
    part = as_object(resolved(document, headers))
    parts = [part, *(as_object(resolved(document, each)) for each in as_list(part.get("allOf")))]
    return [name for each in parts for name in as_list(each.get("required"))]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
