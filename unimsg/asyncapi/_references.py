"""References within a document."""

from typing import Any

Json = dict[str, Any]

_LONGEST = 100
"""Steps from reference to reference: more are a circle."""


def resolved(document: Json, part: Any) -> Any:
    """What a part is, or what it refers to; an empty object where that is not in the document."""
    for _ in range(_LONGEST):
        if not (isinstance(part, dict) and isinstance(part.get("$ref"), str)):
            return part
        part = _target(document, part["$ref"])
    return {}


def name_of(part: Any) -> str:
    """The last step of a reference; empty: it is none."""
    reference = part.get("$ref") if isinstance(part, dict) else None
    return _step(reference.rpartition("/")[2]) if isinstance(reference, str) else ""


def as_object(part: Any) -> Json:
    """A document may come from anywhere: what is no object counts as an empty one."""
    return part if isinstance(part, dict) else {}


def as_list(part: Any) -> list[Any]:
    return part if isinstance(part, list) else []


def _target(document: Json, reference: str) -> Any:
    if not reference.startswith("#/"):
        return {}
    found: Any = document
    for step in reference[2:].split("/"):
        if isinstance(found, dict):
            found = found.get(_step(step))
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return {}
    return {} if found is None else found


def _step(text: str) -> str:
    return text.replace("~1", "/").replace("~0", "~")
