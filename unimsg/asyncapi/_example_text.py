"""Examples as text: JSON, or XML."""

import json
from typing import Any

from unimsg.asyncapi._json_types import alternatives
from unimsg.asyncapi._references import as_object, name_of

Json = dict[str, Any]


def as_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def as_xml(document: Json, schema: Any, value: Any, name: str = "", depth: int = 0) -> list[str]:
    """Lines of XML, by the `xml` of the schema."""
    whole = as_object(alternatives(document, schema)[0])
    element = str(name or as_object(whole.get("xml")).get("name") or whole.get("title") or name_of(schema) or "body")
    indent = "  " * depth
    if not isinstance(value, dict):
        return [f"{indent}<{element}>{_xml_text(value)}</{element}>"]
    attributes: list[str] = []
    text: list[str] = []
    inner: list[str] = []
    for key, each in value.items():
        part = as_object(as_object(whole.get("properties")).get(key))
        xml = as_object(part.get("xml"))
        if xml.get("attribute") is True:
            attributes.append(f' {xml.get("name", key)}="{_xml_text(each)}"')
        elif not xml and not isinstance(each, dict | list):
            text.append(_xml_text(each))
        else:
            inner += _xml_element(document, part, each, str(xml.get("name", "")), depth + 1)
    start = f"{indent}<{element}{''.join(attributes)}"
    if inner:
        return [f"{start}>", *(f"{indent}  {each}" for each in text), *inner, f"{indent}</{element}>"]
    return [f"{start}>{''.join(text)}</{element}>" if text else f"{start}/>"]


def _xml_element(document: Json, schema: Json, value: Any, name: str, depth: int) -> list[str]:
    if isinstance(value, list):
        items = as_object(alternatives(document, schema)[0]).get("items", {})
        return [line for each in value for line in _xml_element(document, items, each, name, depth)]
    outer, _, last = name.rpartition("/")
    if not outer:
        return as_xml(document, schema, value, last, depth)
    first, _, others = outer.partition("/")
    rest = f"{others}/{last}" if others else last
    indent = "  " * depth
    return [f"{indent}<{first}>", *_xml_element(document, schema, value, rest, depth + 1), f"{indent}</{first}>"]


def _xml_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
