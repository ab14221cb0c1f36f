"""An Avro schema as people write it, made of one that was parsed."""

from collections.abc import Mapping
from typing import Any

_NAMED = ("record", "error", "enum", "fixed")


def plain_schema(parsed: Any, namespace: str = "") -> Any:  # JSON, in and out
    """Without what the parser added. It writes each name whole ("shop.Order"); the JSON schema of Avro schemas that
    AsyncAPI uses knows only a name and a namespace, in which the names inside are then."""
    if isinstance(parsed, str):
        return parsed
    if isinstance(parsed, list | tuple):
        return [plain_schema(member, namespace) for member in parsed]
    own = {key: value for key, value in parsed.items() if not str(key).startswith("__")}
    if own.get("type") in _NAMED:
        inner, own["name"] = _split(str(own["name"]))
        head = {"type": own.pop("type"), "name": own.pop("name")}
        own = {**head, **({"namespace": inner} if inner != namespace else {}), **own}
        namespace = inner
    for key in ("items", "values"):
        if key in own:
            own[key] = plain_schema(own[key], namespace)
    if isinstance(own.get("type"), Mapping | list):
        own["type"] = plain_schema(own["type"], namespace)
    if "fields" in own:
        own["fields"] = [
            {"name": field["name"], **field, "type": plain_schema(field["type"], namespace)} for field in own["fields"]
        ]
    return own


def _split(name: str) -> tuple[str, str]:
    namespace, _, last = name.rpartition(".")
    return namespace, last
