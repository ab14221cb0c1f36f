"""Bodies in Avro, an old and a new schema, by Avro's rules of schema resolution.

A body names the schema that wrote it, and whoever does not have that one refuses it: readers of unimsg have their own,
and those in `reads=`.
"""

import json
from collections.abc import Iterator
from typing import Any

from unimsg.asyncapi._changes import Difference, Direction, changed, narrowed, noted, shown, widened
from unimsg.asyncapi._references import as_list, as_object

_WIDER = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
}
"""What a reader takes for more than it was written as."""
_ALIKE = ({"string", "bytes"},)
_NAMED = ("record", "error", "enum", "fixed")
_MEANING = ("logicalType", "precision", "scale")
_IGNORED = ("doc", "aliases", "default", "order", *_MEANING)


def compare_avro(old: Any, new: Any, directions: Direction) -> Iterator[Difference]:
    """`old` and `new` are payloads: a schema, and in `x-unimsg` those that are read besides."""
    if Direction.RECEIVED in directions:
        yield from _known(old, new)
    before, after = as_object(old).get("schema"), as_object(new).get("schema")
    if _canonical(before) != _canonical(after):
        yield widened("", "the schema changed: readers need the new one before it is used")
    yield from _Comparison(before, after).compare(before, after, "")


def _known(old: Any, new: Any) -> Iterator[Difference]:
    """Whether what was written with the schemas of the old document can be read."""
    before, after = as_object(old).get("schema"), as_object(new).get("schema")
    old_reads, new_reads = _reads(old), _reads(new)
    known = [_canonical(each) for each in (after, *new_reads)]
    if _canonical(before) != _canonical(after):
        if _canonical(before) not in known:
            yield narrowed(
                "", "the schema changed, and the old one is not in reads=: bodies written with it are refused"
            )
        yield widened("", "the schema changed: readers need the new one before it is used")
    lost = [each for each in old_reads if _canonical(each) not in known]
    if lost:
        yield narrowed("", f"{len(lost)} older schema(s) were removed from reads=")


def _reads(payload: Any) -> list[Any]:
    return as_list(as_object(as_object(payload).get("x-unimsg")).get("reads"))


def _canonical(schema: Any) -> str:
    """What the fingerprint of a schema is made of, nearly: without what changes no byte."""

    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            kept = {key: plain(value) for key, value in part.items() if key not in _IGNORED and key != "namespace"}
            if isinstance(part.get("namespace"), str) and part["namespace"] and "name" in kept:
                kept["name"] = f"{part['namespace']}.{kept['name']}"
            return kept["type"] if set(kept) == {"type"} else kept
        return [plain(each) for each in part] if isinstance(part, list) else part

    return json.dumps(plain(schema), sort_keys=True)


class _Comparison:
    def __init__(self, old: Any, new: Any) -> None:
        self._old, self._new = _definitions(old), _definitions(new)
        self._seen: set[tuple[int, int]] = set()

    def compare(self, old: Any, new: Any, path: str) -> Iterator[Difference]:
        olds, news = _branches(old, self._old), _branches(new, self._new)
        pairs = _paired(olds, news)
        for before, after in pairs:
            yield from self._one(before, after, path)
        lost = [each for each in olds if not any(each is before for before, _ in pairs)]
        added = [each for each in news if not any(each is after for _, after in pairs)]
        if lost and added:
            yield changed(path, f"changed from {_in_words(lost)} to {_in_words(added)}")
        elif lost:
            yield narrowed(path, f"may not be {_in_words(lost)} any more")
        elif added:
            yield widened(path, f"may also be {_in_words(added)}")

    def _one(self, old: Any, new: Any, path: str) -> Iterator[Difference]:
        pair = (id(old), id(new))
        if pair in self._seen and isinstance(old, dict):  # primitives are the same wherever they stand
            return
        self._seen.add(pair)
        before, after = _kind(old), _kind(new)
        if before != after:
            yield _promoted(before, after, path)
        for name in _MEANING:
            if as_object(old).get(name) != as_object(new).get(name):
                yield changed(path, f"{name} changed from {_none(old, name)} to {_none(new, name)}")
        if before in ("record", "error"):
            yield from self._records(old, new, path)
        elif before == "enum":
            yield from _enums(old, new, path)
        elif before == "array" and after == "array":
            yield from self.compare(old.get("items"), new.get("items"), f"{path}[]")
        elif before == "map" and after == "map":
            yield from self.compare(old.get("values"), new.get("values"), f"{path}{{}}")
        elif before == "fixed" and old.get("size") != new.get("size"):
            yield changed(path, f"the size changed from {old.get('size')} to {new.get('size')} bytes")

    def _records(self, old: Any, new: Any, path: str) -> Iterator[Difference]:
        before, after = _fields(old), _fields(new)
        renamed = {alias: name for name, field in after.items() for alias in as_list(field.get("aliases"))}
        renamed = {alias: name for alias, name in renamed.items() if alias in before and alias not in after}
        for name, field in before.items():
            where = f"{path}.{name}" if path else name
            if name in renamed:
                yield widened(where, f"the field was renamed to {renamed[name]}")
            elif name not in after:
                yield Difference(where, "the field was removed", Direction.SENT)
                continue
            yield from self.compare(field.get("type"), after[renamed.get(name, name)].get("type"), where)
        for name, field in after.items():
            where = f"{path}.{name}" if path else name
            if name in before:
                if before[name].get("default") != field.get("default"):
                    yield noted(where, f"the default changed from {_none(before[name])} to {_none(field)}")
            elif name not in renamed.values():
                has_default = "default" in field
                text = "the field is new, with a default" if has_default else "the field is new, without a default"
                yield noted(where, text) if has_default else narrowed(where, text)


def _none(part: Any, name: str = "default") -> str:
    return shown(as_object(part)[name]) if name in as_object(part) else "none"


def _fields(record: Any) -> dict[str, Any]:
    return {str(each.get("name")): each for each in as_list(record.get("fields")) if isinstance(each, dict)}


def _enums(old: Any, new: Any, path: str) -> Iterator[Difference]:
    before, after = as_list(old.get("symbols")), as_list(new.get("symbols"))
    for symbol in [each for each in before if each not in after]:
        text = f"the value {shown(symbol)} was removed"
        yield noted(path, text) if "default" in new else narrowed(path, text)
    for symbol in [each for each in after if each not in before]:
        text = f"the value {shown(symbol)} was added"
        yield noted(path, text) if "default" in old else widened(path, text)


def _promoted(before: str, after: str, path: str) -> Difference:
    text = f"changed from {before} to {after}"
    if any({before, after} <= alike for alike in _ALIKE):
        return noted(path, text)
    return widened(path, text) if after in _WIDER.get(before, ()) else narrowed(path, text)


def _paired(olds: list[Any], news: list[Any]) -> list[tuple[Any, Any]]:
    pairs: list[tuple[Any, Any]] = []
    before, after = list(olds), list(news)
    for alike in (_same, _promotable):
        for old in list(before):
            found = next((new for new in after if alike(old, new)), None)
            if found is not None:
                pairs.append((old, found))
                before = [each for each in before if each is not old]
                after = [each for each in after if each is not found]
    return pairs


def _same(old: Any, new: Any) -> bool:
    if _kind(old) != _kind(new):
        return False
    return _kind(old) not in _NAMED or _name(old) in {_name(new), *map(_last, as_list(new.get("aliases")))}


def _promotable(old: Any, new: Any) -> bool:
    before, after = _kind(old), _kind(new)
    one_way = after in _WIDER.get(before, ()) or before in _WIDER.get(after, ())
    return one_way or any({before, after} <= alike for alike in _ALIKE)


def _branches(schema: Any, definitions: dict[str, Any]) -> list[Any]:
    """Each a definition, or a primitive."""
    found = []
    for each in schema if isinstance(schema, list) else [schema]:
        while isinstance(each, dict) and isinstance(each.get("type"), dict):
            each = each["type"]
        found.append(definitions.get(_last(each), each) if isinstance(each, str) else each)
    return found


def _definitions(schema: Any) -> dict[str, Any]:
    """Named types by the last part of their names."""
    found: dict[str, Any] = {}
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if part.get("type") in _NAMED and isinstance(part.get("name"), str):
                found.setdefault(_last(part["name"]), part)
            parts += [value for key, value in part.items() if key not in ("default", "doc")]
        elif isinstance(part, list):
            parts += part
    return found


def _kind(schema: Any) -> str:
    return schema if isinstance(schema, str) else str(as_object(schema).get("type"))


def _name(schema: Any) -> str:
    return _last(str(as_object(schema).get("name")))


def _last(name: Any) -> str:
    return str(name).rpartition(".")[2]


def _in_words(branches: list[Any]) -> str:
    return " or ".join(f"{_kind(each)} {_name(each)}" if _kind(each) in _NAMED else _kind(each) for each in branches)
