"""The fields of a body in Avro, for people."""

from typing import Any

from unimsg.asyncapi._changes import shown
from unimsg.asyncapi._fields import Field
from unimsg.asyncapi._references import as_list, as_object

Json = dict[str, Any]

_DEEPEST = 6


def avro_fields(schema: Any, depth: int = 0) -> list[Field]:
    """Of an Avro schema."""
    found: list[Field] = []
    for each in schema if isinstance(schema, list) else [schema]:
        part = as_object(each)
        if isinstance(part.get("type"), dict | list):
            found += avro_fields(part["type"], depth)
        elif part.get("type") in ("record", "error") and depth <= _DEEPEST:
            found += [_avro_field(one, depth) for one in as_list(part.get("fields")) if isinstance(one, dict)]
        elif part.get("type") in ("array", "map"):
            found += avro_fields(part.get("items", part.get("values")), depth)
    return found


def _avro_field(one: Json, depth: int) -> Field:
    return Field(
        name=str(one.get("name")),
        type=_avro_words(one.get("type")),
        required="default" not in one,
        text=str(one.get("doc") or ""),
        notes=[f"default {shown(one['default'])}"] if one.get("default") is not None else [],
        inner=avro_fields(one.get("type"), depth + 1),
    )


def _avro_words(schema: Any, depth: int = 0) -> str:
    if isinstance(schema, list):
        return " or ".join(_avro_words(each, depth + 1) for each in schema)
    if isinstance(schema, str) or depth > _DEEPEST:
        return str(schema)
    part = as_object(schema)
    match part.get("type"):
        case "array":
            return f"list of {_avro_words(part.get('items'), depth + 1)}"
        case "map":
            return f"map of {_avro_words(part.get('values'), depth + 1)}"
        case "record" | "error" | "fixed":
            return f"{part['type']} {part.get('name')}"
        case "enum":
            return " or ".join(map(str, as_list(part.get("symbols"))))
    words = _avro_words(part.get("type"), depth + 1)
    return f"{words} ({part['logicalType']})" if "logicalType" in part else words
