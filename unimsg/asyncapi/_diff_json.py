"""Bodies in JSON Schema, an old and a new one."""

import json
from collections.abc import Iterator
from typing import Any

from unimsg.asyncapi._changes import Difference, Direction, changed, narrowed, noted, shown, widened
from unimsg.asyncapi._json_types import alternatives, in_words, is_anything, type_of, values_of, whole
from unimsg.asyncapi._references import as_list, as_object, resolved

Json = dict[str, Any]

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_RULES = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding", "contentMediaType")
_ANY: Json = {}
_OPAQUE = (
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependencies",
    "additionalItems",
    "contains",
    "not",
    "if",
    "then",
    "else",
)
"""Whatever changes in these may break both sides: they are not looked into."""


class JsonComparison:
    """Of the bodies of one message. A part that is used in several places is told of once."""

    def __init__(self, old_document: Json, new_document: Json) -> None:
        self._old, self._new = old_document, new_document
        self._seen: set[tuple[int, int]] = set()
        """Pairs of parts, by identity: all are parts of the two documents, which outlive this."""

    def compare(self, old: Any, new: Any, path: str = "") -> Iterator[Difference]:
        """`old` and `new` are schemas: parts of their documents."""
        pair = (id(resolved(self._old, old)), id(resolved(self._new, new)))
        if pair in self._seen:
            return
        self._seen.add(pair)
        olds, news = alternatives(self._old, old), alternatives(self._new, new)
        if all(map(is_anything, olds)) or all(map(is_anything, news)):
            yield from _of_anything(olds, news, path)
            return
        pairs = _paired(olds, news)
        for before, after in pairs:
            yield from self._one(before, after, path)
        lost = [each for each in olds if not any(each is before for before, _ in pairs)]
        added = [each for each in news if not any(each is after for _, after in pairs)]
        yield from _unpaired(lost, added, path)

    def _one(self, old: Json, new: Json, path: str) -> Iterator[Difference]:
        """Two alternatives, which are of one type, or both numbers."""
        yield from _numbers(old, new, path)
        yield from _values(old, new, path)
        yield from _limits(old, new, path)
        yield from _rules(old, new, path)
        if type_of(old) == "object":
            yield from self._objects(old, new, path)
        elif type_of(old) == "array":
            yield from self._arrays(old, new, path)

    def _objects(self, old: Json, new: Json, path: str) -> Iterator[Difference]:
        before, after = _properties(old), _properties(new)
        for name in [name for name in before if name not in after]:
            closed = Direction.RECEIVED if new.get("additionalProperties") is False else Direction.NONE
            refused = ", and is refused" if closed else ""
            yield Difference(_field(path, name), f"the field was removed{refused}", Direction.SENT | closed)
        for name in [name for name in after if name not in before]:
            strict = Direction.SENT if old.get("additionalProperties") is False else Direction.NONE
            if name in as_list(new.get("required")):
                yield Difference(_field(path, name), "the field is new, and required", Direction.RECEIVED | strict)
            else:
                yield Difference(_field(path, name), "the field is new, and optional", strict)
            more = _ANY if old.get("additionalProperties", True) is True else old["additionalProperties"]
            if isinstance(more, dict) and (more or "properties" not in old):  # a map, where it may have been anyhow
                yield from self.compare(more, after[name], _field(path, name))
        for name in [name for name in before if name in after]:
            required = [name in as_list(each.get("required")) for each in (old, new)]
            yield from self._property(before[name], after[name], _field(path, name), was=required[0], is_=required[1])
        yield from self._others(old, new, path)

    def _property(self, before: Any, after: Any, where: str, *, was: bool, is_: bool) -> Iterator[Difference]:
        """`was` and `is_`: whether it is required."""
        old_default, new_default = whole(self._old, before).get("default"), whole(self._new, after).get("default")
        if is_ and not was:
            yield narrowed(where, "the field was optional, and is required")
        elif was and not is_ and "default" in whole(self._new, after):  # unimsg writes it all the same
            yield noted(where, f"the field was required, and has a default: {shown(new_default)}")
        elif was and not is_:
            yield widened(where, "the field was required, and may be missing")
        elif not was and old_default != new_default:
            yield noted(where, f"the default changed from {shown(old_default)} to {shown(new_default)}")
        if whole(self._old, before).get("xml") != whole(self._new, after).get("xml"):
            yield changed(where, "its place or name in XML changed")
        yield from self.compare(before, after, where)

    def _others(self, old: Json, new: Json, path: str) -> Iterator[Difference]:
        """Fields that are not declared."""
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from self.compare(before, after, f"{path}{{}}")
        elif after is False and before is not False:
            yield narrowed(path, "other fields than those declared are refused")
        elif before is False and after is not False:
            yield widened(path, "other fields than those declared may be there")
        elif isinstance(after, dict) and after:
            yield narrowed(f"{path}{{}}", f"was anything, and is {_all_in_words(alternatives(self._new, after))}")
        elif isinstance(before, dict) and before:
            yield widened(f"{path}{{}}", f"was {_all_in_words(alternatives(self._old, before))}, and may be anything")

    def _arrays(self, old: Json, new: Json, path: str) -> Iterator[Difference]:
        before, after = _items(old), _items(new)
        if isinstance(before, list) != isinstance(after, list):
            kinds = ("a tuple", "a list") if isinstance(before, list) else ("a list", "a tuple")
            yield changed(path, f"changed from {kinds[0]} to {kinds[1]}")
        elif isinstance(before, list):
            for number in range(_longest_common(old, new, len(before), len(after))):
                first, second = (_part(schema, number) for schema in (old, new))
                yield from self.compare(first, second, f"{path}[{number}]")
        else:
            yield from self.compare(before, after, f"{path}[]")


def _properties(schema: Json) -> Json:
    """What is required counts as declared."""
    return {**{str(name): _ANY for name in as_list(schema.get("required"))}, **as_object(schema.get("properties"))}


def _items(schema: Json) -> Any:
    if isinstance(schema.get("prefixItems"), list):
        return schema["prefixItems"]
    return schema.get("items", _ANY)


def _part(schema: Json, number: int) -> Any:
    """Of a tuple; beyond its declared parts, what others are."""
    parts = _items(schema)
    return parts[number] if number < len(parts) else schema.get("additionalItems", _ANY)


def _longest_common(old: Json, new: Json, *declared: int) -> int:
    """How many parts of a tuple both can have: longer ones are told of by their `maxItems`."""
    most = [each for each in (_number(old.get("maxItems")), _number(new.get("maxItems"))) if each is not None]
    return int(min([max(declared), *most]))


def _paired(olds: list[Json], news: list[Json]) -> list[tuple[Json, Json]]:
    """Which new alternative goes on with which old one: the most alike first."""
    pairs: list[tuple[Json, Json]] = []
    before, after = list(olds), list(news)
    for alike in (_same_name, _same_tag, _same_format, _same_type, _both_numbers):
        for old in list(before):
            found = next((new for new in after if alike(old, new) and not _told_apart(old, new)), None)
            if found is not None:
                pairs.append((old, found))
                before = [each for each in before if each is not old]
                after = [each for each in after if each is not found]
    return pairs


def _same_name(old: Json, new: Json) -> bool:
    return _same_type(old, new) and "title" in old and old["title"] == new.get("title")


def _same_tag(old: Json, new: Json) -> bool:
    tags = _tags(old)
    return bool(tags) and tags == _tags(new)


def _same_format(old: Json, new: Json) -> bool:
    return _same_type(old, new) and old.get("format") == new.get("format")


def _same_type(old: Json, new: Json) -> bool:
    return type_of(old) == type_of(new)


def _both_numbers(old: Json, new: Json) -> bool:
    return {type_of(old), type_of(new)} <= {"integer", "number"}


def _told_apart(old: Json, new: Json) -> bool:
    """Whether a field with one value says that they are different alternatives."""
    before, after = _tags(old), _tags(new)
    return any(before[name] != after[name] for name in before.keys() & after.keys())


def _tags(schema: Json) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, each in as_object(schema.get("properties")).items():
        values = values_of(as_object(each))
        if values is not None and len(values) == 1:
            found[name] = json.dumps(values[0], default=str)
    return found


def _unpaired(lost: list[Json], added: list[Json], path: str) -> Iterator[Difference]:
    real_lost = [each for each in lost if type_of(each) != "null"]
    real_added = [each for each in added if type_of(each) != "null"]
    if len(lost) > len(real_lost):
        yield narrowed(path, "null is not allowed any more")
    if len(added) > len(real_added):
        yield widened(path, "may be null")
    if real_lost and real_added:
        yield changed(path, f"changed from {_all_in_words(real_lost)} to {_all_in_words(real_added)}")
    elif real_lost:
        yield narrowed(path, f"may not be {_all_in_words(real_lost)} any more")
    elif real_added:
        yield widened(path, f"may also be {_all_in_words(real_added)}")


def _of_anything(olds: list[Json], news: list[Json], path: str) -> Iterator[Difference]:
    if not all(map(is_anything, news)):
        yield narrowed(path, f"was anything, and is {_all_in_words(news)}")
    elif not all(map(is_anything, olds)):
        yield widened(path, f"was {_all_in_words(olds)}, and may be anything")


def _all_in_words(all_: list[Json]) -> str:
    return " or ".join(dict.fromkeys(map(in_words, all_)))


def _numbers(old: Json, new: Json, path: str) -> Iterator[Difference]:
    if (type_of(old), type_of(new)) == ("integer", "number"):
        yield widened(path, "was an integer, and may be any number")
    elif (type_of(old), type_of(new)) == ("number", "integer"):
        yield narrowed(path, "was any number, and must be an integer")


def _values(old: Json, new: Json, path: str) -> Iterator[Difference]:
    before, after = values_of(old), values_of(new)
    if before is not None and after is not None:
        first, second = ({json.dumps(each, default=str): each for each in some} for some in (before, after))
        yield from (narrowed(path, f"the value {shown(first[key])} was removed") for key in first if key not in second)
        yield from (widened(path, f"the value {shown(second[key])} was added") for key in second if key not in first)
    elif after is not None:
        yield narrowed(path, f"must be {in_words(new)}")
    elif before is not None:
        yield widened(path, f"was {in_words(old)}, and may be any {type_of(new)}")


def _limits(old: Json, new: Json, path: str) -> Iterator[Difference]:
    for names, sign in ((_LOWER, 1), (_UPPER, -1)):
        for name in names:
            before, after = _number(old.get(name)), _number(new.get(name))
            if before == after:
                continue
            text = f"{name} changed from {_or_none(before)} to {_or_none(after)}"
            tighter = after is not None and (before is None or sign * after > sign * before)
            yield narrowed(path, text) if tighter else widened(path, text)


def _rules(old: Json, new: Json, path: str) -> Iterator[Difference]:
    for name in _RULES:
        before, after = old.get(name) or None, new.get(name) or None
        if before == after:
            continue
        text = f"{name} changed from {_or_none(before)} to {_or_none(after)}"
        yield narrowed(path, text) if before is None else widened(path, text) if after is None else changed(path, text)
    for name in _OPAQUE:
        if old.get(name) != new.get(name):
            yield changed(path, f"{name} changed")


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _or_none(value: Any) -> str:
    return "none" if value is None else shown(value)


def _field(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
