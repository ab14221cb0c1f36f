"""Examples of bodies in Avro and Protobuf, as JSON shows them."""

from typing import Any

from unimsg.asyncapi._proto_source import Source, parse_proto
from unimsg.asyncapi._references import as_list, as_object

Json = dict[str, Any]

_DEEPEST = 8
_AVRO: Json = {
    "null": None,
    "boolean": True,
    "int": 1,
    "long": 1,
    "float": 1.5,
    "double": 1.5,
    "bytes": "…",
    "string": "string",
}
_GOOGLES: Json = {
    "Timestamp": "2026-01-31T12:00:00Z",
    "Duration": "60s",
    "Struct": {"key": "value"},
    "Value": "value",
    "ListValue": ["value"],
    "Empty": {},
}
"""By the last part of their names, as Protobuf writes them in JSON."""


def avro_example(schema: Any, named: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """A value that fits an Avro schema, as JSON shows it."""
    named = {} if named is None else named
    if isinstance(schema, list):
        kinds = [each for each in schema if each != "null"]
        return avro_example(kinds[0], named, depth) if kinds and depth <= _DEEPEST else None
    if isinstance(schema, str):
        known = named.get(schema.rpartition(".")[2])
        if known is not None:
            return avro_example(known, named, depth + 1) if depth <= 2 else {}
        return _AVRO.get(schema, "…")
    part = as_object(schema)
    if isinstance(part.get("name"), str):
        named[part["name"].rpartition(".")[2]] = part
    match part.get("type"):
        case "record" | "error":
            fields = [each for each in as_list(part.get("fields")) if isinstance(each, dict)]
            return {str(each.get("name")): avro_example(each.get("type"), named, depth) for each in fields}
        case "enum":
            return next(iter(as_list(part.get("symbols"))), "…")
        case "array":
            return [avro_example(part.get("items"), named, depth + 1)] if depth <= _DEEPEST else []
        case "map":
            return {"key": avro_example(part.get("values"), named, depth + 1)} if depth <= _DEEPEST else {}
        case "fixed":
            return "…"
    return avro_example(part.get("type"), named, depth) if part.get("type") is not None else None


def protobuf_example(source: str) -> Any:
    """A value of the first message of a .proto file."""
    parsed = parse_proto(source)
    return _message(parsed, parsed.first, frozenset()) if parsed.first else None


def _message(source: Source, name: str, within: frozenset[str]) -> Json:
    made: Json = {}
    unions: set[str] = set()
    for field in source.messages[name].fields.values():
        if field.union in unions:  # one of them at a time
            continue
        value = _field(source, field.type, name, within | {name})
        if value is not None:
            unions |= {field.union} - {""}
            made[_camel(field.name)] = [value] if field.label == "repeated" else value
    return made


def _field(source: Source, type_: str, scope: str, within: frozenset[str]) -> Any:
    """None: it would nest in itself."""
    if type_.startswith("map<"):
        value = _field(source, type_[4:-1].partition(",")[2], scope, within)
        return None if value is None else {"key": value}
    found = source.find(type_, scope)
    if found in source.enums:
        return next(iter(source.enums[str(found)].values()), "…")
    if found in source.messages:
        return None if found in within or len(within) > _DEEPEST else _message(source, str(found), within)
    if type_ in ("string", "bytes", "bool"):
        return {"string": "string", "bytes": "…", "bool": True}[type_]
    if type_ in ("double", "float"):
        return 1.5
    if type_.endswith("64"):
        return "1"  # in JSON these are text
    return 1 if type_.endswith("32") else _GOOGLES.get(type_.rpartition(".")[2], {})


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(each.capitalize() for each in rest)
