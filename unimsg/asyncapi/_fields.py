"""The fields of a body, for people: a tree of names, types and what else there is to say."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unimsg.asyncapi._changes import shown
from unimsg.asyncapi._json_types import alternatives, in_words, is_anything, type_of, whole
from unimsg.asyncapi._references import as_list, as_object, resolved

Json = dict[str, Any]

_DEEPEST = 6


@dataclass(slots=True)
class Field:
    name: str
    type: str
    required: bool
    text: str = ""
    notes: list[str] = field(default_factory=list)
    inner: "list[Field]" = field(default_factory=list)


def fields_of(document: Json, schema: Any, within: frozenset[int] = frozenset()) -> list[Field]:
    """Of a JSON schema; empty: it has none."""
    part = resolved(document, schema)
    if id(part) in within or len(within) > _DEEPEST:
        return []
    inside = within | {id(part)}
    found: list[Field] = []
    members = alternatives(document, schema)
    objects = [each for each in members if type_of(each) == "object"]
    for member in objects:
        own = _of_object(document, member, inside)
        if len(objects) > 1 and own:  # which field belongs to which must be seen
            own = [Field(str(member.get("title") or "object"), "if it is this one", required=False, inner=own)]
        found += own
    for member in members:
        if type_of(member) == "array" and isinstance(member.get("items"), dict):
            found += fields_of(document, member["items"], inside)
    return found


def _of_object(document: Json, schema: Json, inside: frozenset[int]) -> list[Field]:
    required = as_list(schema.get("required"))
    found = [
        Field(
            name=str(name),
            type=words_of(document, each),
            required=name in required,
            text=str(whole(document, each).get("description") or "") if _own_text(each) else "",
            notes=list(_notes(document, each)),
            inner=fields_of(document, each, inside),
        )
        for name, each in as_object(schema.get("properties")).items()
    ]
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and more:
        inner = fields_of(document, more, inside)
        found.append(Field("any name", words_of(document, more), required=False, inner=inner))
    return found


def _own_text(schema: Any) -> bool:
    """Whether the description is the field's; what it refers to has its own, which would be said at each use."""
    return isinstance(schema, dict) and ("description" in schema or "$ref" not in schema)


def words_of(document: Json, schema: Any, depth: int = 0) -> str:
    """Its type: "list of object Item", "string or null"."""
    words = [_one_in_words(document, each, depth) for each in alternatives(document, schema)]
    return " or ".join(dict.fromkeys(words)) or "anything"


def _one_in_words(document: Json, schema: Json, depth: int) -> str:
    if type_of(schema) == "array" and depth < 4:
        items = schema.get("items")
        if isinstance(items, list):
            return f"tuple ({', '.join(words_of(document, each, depth + 1) for each in items)})"
        return f"list of {words_of(document, items, depth + 1)}" if isinstance(items, dict) and items else "list"
    more = schema.get("additionalProperties")
    if type_of(schema) == "object" and isinstance(more, dict) and more and depth < 4:
        return f"map of {words_of(document, more, depth + 1)}"
    return in_words(schema).removeprefix("a ").removeprefix("an ") if not is_anything(schema) else "anything"


_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "fits {}",
    "multipleOf": "a multiple of {}",
}


def _notes(document: Json, schema: Any) -> Iterator[str]:
    members = [each for each in alternatives(document, schema) if type_of(each) != "null"]
    if len(members) == 1:
        is_tuple = isinstance(members[0].get("items"), list)
        for key, words in _LIMITS.items():
            if key in members[0] and not (is_tuple and key.endswith("Items")):
                value = members[0][key]
                text = words.format(value if isinstance(value, int | float | str) else shown(value))
                yield text.removesuffix("s") if value == 1 and key.endswith(("Length", "Items")) else text
        if members[0].get("uniqueItems") is True:
            yield "each item once"
    own = as_object(schema)
    if own.get("default") is not None:
        yield f"default {shown(own['default'])}"
    if own.get("deprecated") is True:
        yield "deprecated"
    xml = as_object(whole(document, schema).get("xml"))
    if xml.get("attribute") is True:
        yield f"attribute {xml.get('name')}"
    elif "/" in str(xml.get("name", "")):
        yield f"element {xml['name']}"
