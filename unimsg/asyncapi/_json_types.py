"""JSON schemas made alike, so that they can be compared: references followed, `allOf` merged, alternatives listed."""

from collections.abc import Iterator
from typing import Any

from unimsg.asyncapi._changes import shown
from unimsg.asyncapi._references import as_list, as_object, name_of, resolved

Json = dict[str, Any]

ANYTHING = "anything"
_ALTERNATIVES = ("anyOf", "oneOf")
_NULL: Json = {"type": "null"}
_BY_VALUE = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
_WORDS = {"object": "an object", "array": "a list", "integer": "an integer", "null": "null", ANYTHING: ANYTHING}


def whole(document: Json, schema: Any, within: frozenset[int] = frozenset()) -> Json:
    """The schema without references and `allOf` at its top. `within`: the parts that it is inside of; what refers back
    to one of them says nothing more."""
    name = name_of(schema)
    schema = resolved(document, schema)
    if schema is False:
        return {"not": {}}
    made = dict(as_object(schema))
    if name:
        made.setdefault("title", name)
    parts = as_list(made.pop("allOf", None))
    inside = within | {id(schema)}
    for part in parts:
        if id(resolved(document, part)) not in inside:
            made = _merged(whole(document, part, inside), made)
    return made


def _merged(first: Json, second: Json) -> Json:
    """Both hold. What they say of the same is the second's."""
    made = {**first, **second}
    for key in ("properties", "patternProperties"):
        if key in first and key in second:
            made[key] = {**as_object(first[key]), **as_object(second[key])}
    if "required" in first and "required" in second:
        made["required"] = list(dict.fromkeys([*as_list(first["required"]), *as_list(second["required"])]))
    return made


def alternatives(document: Json, schema: Any, within: frozenset[int] = frozenset()) -> list[Json]:
    """What a value may be, each of one type."""
    made = whole(document, schema)
    inside = within | {id(resolved(document, schema))}
    for key in _ALTERNATIVES:
        if as_list(made.get(key)):
            rest = {name: value for name, value in made.items() if name not in (*_ALTERNATIVES, *_SAID_OF_ALL)}
            members = [each for each in made[key] if id(resolved(document, each)) not in inside]
            return [{**rest, **each} for member in members for each in alternatives(document, member, inside)] or [rest]
    return list(_by_type(made))


_SAID_OF_ALL = ("title", "description", "default", "examples", "discriminator")


def _by_type(schema: Json) -> Iterator[Json]:
    values = schema.get("enum")
    if isinstance(values, list) and None in values:
        yield _NULL
        schema = {**schema, "enum": [value for value in values if value is not None]}
        if not schema["enum"]:
            return
    if schema.get("nullable") is True:
        yield _NULL
    types = schema.get("type")
    if isinstance(types, list):
        for each in types:
            yield _NULL if each == "null" else {**schema, "type": each}
    elif "const" in schema and schema["const"] is None:
        yield _NULL
    else:
        yield schema


def type_of(schema: Json) -> str:
    """Of one alternative."""
    if isinstance(schema.get("type"), str):
        return str(schema["type"])
    values = values_of(schema)
    if values:
        types = {_BY_VALUE.get(type(value), ANYTHING) for value in values}
        return types.pop() if len(types) == 1 else ANYTHING
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else ANYTHING


def values_of(schema: Json) -> list[Any] | None:
    """All that it may be; None: they are not listed."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def is_anything(schema: Json) -> bool:
    return type_of(schema) == ANYTHING and "not" not in schema and values_of(schema) is None


def in_words(schema: Json) -> str:
    """ "a string", "an Order", "a list of strings", "\"card\"": one alternative."""
    kind = type_of(schema)
    values = values_of(schema)
    if values is not None:
        return " or ".join(shown(value) for value in values[:5]) + (" or …" if len(values) > 5 else "")
    if kind == "object" and isinstance(schema.get("title"), str):
        return f"object {schema['title']}"
    words = _WORDS.get(kind, f"a {kind}")
    return f"{words} ({schema['format']})" if isinstance(schema.get("format"), str) else words
