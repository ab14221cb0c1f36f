"""An example of a body, made from its schema."""

import math
from typing import Any

from unimsg.asyncapi._json_types import alternatives, type_of, values_of
from unimsg.asyncapi._pattern_sample import sample
from unimsg.asyncapi._references import as_list, as_object, resolved

Json = dict[str, Any]

_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "ann@example.com",
    "uuid": "0196f2a4-6c1e-7d60-8a3b-2f1c9d5e7b40",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
    "binary": "…",
}
_DEEPEST = 8


def example_of(document: Json, schema: Any, within: frozenset[int] = frozenset()) -> Any:
    """A value that fits a JSON schema. What would nest in itself is left out, where it may be."""
    whole = as_object(resolved(document, schema))
    inside = within | {id(whole)}
    for member in alternatives(document, schema):
        if type_of(member) != "null":
            return _value(document, member, inside)
    return None


def _value(document: Json, schema: Json, inside: frozenset[int]) -> Any:
    given = as_list(schema.get("examples")) or ([schema["example"]] if "example" in schema else [])
    if given:
        return given[0]
    if values := values_of(schema):
        return values[0]
    if schema.get("default") not in (None, "", [], {}):
        return schema["default"]
    match type_of(schema):
        case "object":
            return _object(document, schema, inside)
        case "array":
            return _list(document, schema, inside)
        case "string":
            return _text(schema)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
    return {} if schema else "anything"


def _object(document: Json, schema: Json, inside: frozenset[int]) -> Json:
    made: Json = {}
    required = as_list(schema.get("required"))
    for name, each in as_object(schema.get("properties")).items():
        if _fits(document, each, inside):
            made[name] = example_of(document, each, inside)
        elif name in required:
            made[name] = _end(document, each)
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and more and not made and _fits(document, more, inside):
        made["key"] = example_of(document, more, inside)
    return made


def _list(document: Json, schema: Json, inside: frozenset[int]) -> list[Any]:
    items = schema.get("prefixItems", schema.get("items", {}))
    if isinstance(items, list):
        return [example_of(document, each, inside) for each in items]
    if not _fits(document, items, inside):
        return []
    count = schema.get("minItems")
    count = min(count, 10) if isinstance(count, int) and count > 0 else 1
    return [example_of(document, items, inside)] * count


def _fits(document: Json, schema: Any, inside: frozenset[int]) -> bool:
    """Whether it does not nest in itself. Only lists and optional fields do: they end it."""
    if len(inside) > _DEEPEST:
        return False
    members = [as_object(resolved(document, each)) for each in _members(document, schema)]
    return all(id(each) not in inside for each in members)


def _members(document: Json, schema: Any) -> list[Any]:
    """What it may refer to at once, without being inside of something."""
    part = as_object(resolved(document, schema))
    found = [schema]
    for key in ("anyOf", "oneOf", "allOf"):
        found += as_list(part.get(key))
    return found


def _end(document: Json, schema: Any) -> Any:
    """Of what must be there, but would nest in itself."""
    types = [type_of(each) for each in alternatives(document, schema)]
    return None if "null" in types else [] if "array" in types else {}


def _text(schema: Json) -> str:
    shortest, longest = schema.get("minLength"), schema.get("maxLength")
    shortest = shortest if isinstance(shortest, int) else 0
    text: str | None = _FORMATS.get(str(schema.get("format")))
    if text is None and isinstance(schema.get("pattern"), str):
        text = sample(schema["pattern"], shortest)
    if text is None:
        text = "string"
        while len(text) < min(shortest, 200):
            text += "string"
        text = text[:longest] if isinstance(longest, int) else text
    return text


def _number(schema: Json) -> float:
    is_integer = type_of(schema) == "integer"
    step = 1 if is_integer else 0
    low = _most(schema.get("minimum"), _number_or_none(schema.get("exclusiveMinimum"), step))
    high = _least(schema.get("maximum"), _number_or_none(schema.get("exclusiveMaximum"), -step))
    value: float = 1 if is_integer else 1.5
    if low is not None and high is not None and not low < value < high:
        value = low if is_integer else (low + high) / 2
    elif low is not None and not low < value:
        value = low if is_integer else low + 1
    elif high is not None and not value < high:
        value = high if is_integer else high - 1
    every = _number_or_none(schema.get("multipleOf"), 0)
    return value if not every else math.ceil(value / every) * every


def _number_or_none(value: Any, plus: float) -> float | None:
    return value + plus if isinstance(value, int | float) and not isinstance(value, bool) else None


def _most(*values: Any) -> float | None:
    return max((each for each in values if _number_or_none(each, 0) is not None), default=None)


def _least(*values: Any) -> float | None:
    return min((each for each in values if _number_or_none(each, 0) is not None), default=None)
