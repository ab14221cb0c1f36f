"""Bodies in Protobuf, an old and a new .proto file: compared by numbers, as the wire has them."""

from collections.abc import Iterator

from unimsg.asyncapi._changes import Difference, Direction, changed, narrowed, noted, widened
from unimsg.asyncapi._proto_source import Field, Source, parse_proto

_WIDER = {
    ("int32", "int64"),
    ("uint32", "uint64"),
    ("sint32", "sint64"),
    ("bool", "int32"),
    ("bool", "int64"),
    ("bool", "uint32"),
    ("bool", "uint64"),
    ("uint32", "int64"),
    ("string", "bytes"),
}
"""Of the same form on the wire, the second with room for all values of the first."""
_INTEGERS = ("int32", "int64", "uint32", "uint64")


def compare_protobuf(old: str, new: str) -> Iterator[Difference]:
    """`old` and `new` are .proto files, whose first message is the body."""
    before, after = parse_proto(old), parse_proto(new)
    if not before.first or not after.first:
        if old != new:
            yield changed("", "the .proto file changed")
        return
    yield from _Comparison(before, after).messages(before.first, after.first, "")


class _Comparison:
    def __init__(self, old: Source, new: Source) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str]] = set()

    def messages(self, old: str, new: str, path: str) -> Iterator[Difference]:
        if (old, new) in self._seen:
            return
        self._seen.add((old, new))
        before, after = self._old.messages[old].fields, self._new.messages[new].fields
        for number, field in before.items():
            where = f"{path}.{field.name}" if path else field.name
            if number not in after:
                yield Difference(where, f"field {number} was removed", Direction.SENT)
            else:
                yield from self._fields(field, after[number], (old, new), where)
        for number, field in after.items():
            where = f"{path}.{field.name}" if path else field.name
            if number not in before and field.label == "required":
                yield narrowed(where, f"field {number} is new, and required")
            elif number not in before:
                yield noted(where, f"field {number} is new")

    def _fields(self, old: Field, new: Field, scopes: tuple[str, str], path: str) -> Iterator[Difference]:
        if old.name != new.name:
            yield noted(path, f"field {old.number} was renamed to {new.name}")
        if (old.label == "repeated") != (new.label == "repeated"):
            yield changed(path, f"changed from {'one to many' if new.label == 'repeated' else 'many to one'}")
        elif old.label != "required" and new.label == "required":
            yield narrowed(path, "the field was optional, and is required")
        elif old.label == "required" and new.label != "required":
            yield widened(path, "the field was required, and may be missing")
        if old.union != new.union and (old.union or new.union):
            yield changed(path, f"oneof changed from {old.union or 'none'} to {new.union or 'none'}")
        yield from self._types(old.type, new.type, scopes, path)

    def _types(self, old: str, new: str, scopes: tuple[str, str], path: str) -> Iterator[Difference]:
        if old.startswith("map<") and new.startswith("map<"):
            for first, second in zip(_of_map(old), _of_map(new), strict=True):
                yield from self._types(first, second, scopes, f"{path}{{}}")
            return
        before, after = self._old.find(old, scopes[0]), self._new.find(new, scopes[1])
        if before in self._old.messages and after in self._new.messages:
            yield from self.messages(str(before), str(after), path)
        elif before in self._old.enums and after in self._new.enums:
            yield from _enums(self._old.enums[str(before)], self._new.enums[str(after)], path)
        elif before in self._old.enums and new in _INTEGERS:
            yield widened(path, f"changed from enum {old} to {new}")
        elif after in self._new.enums and old in _INTEGERS:
            yield narrowed(path, f"changed from {old} to enum {new}")
        elif old.removeprefix(".") != new.removeprefix("."):
            yield _scalars(old, new, path)


def _scalars(old: str, new: str, path: str) -> Difference:
    text = f"changed from {old} to {new}"
    if (old, new) in _WIDER:
        return widened(path, text)
    return narrowed(path, text) if (new, old) in _WIDER else changed(path, text)


def _enums(old: dict[int, str], new: dict[int, str], path: str) -> Iterator[Difference]:
    for number, name in old.items():
        if number not in new:
            yield narrowed(path, f"the value {name} was removed")
        elif new[number] != name:
            yield noted(path, f"the value {name} was renamed to {new[number]}")
    for number, name in new.items():
        if number not in old:
            yield widened(path, f"the value {name} was added")


def _of_map(text: str) -> tuple[str, str]:
    key, _, value = text[4:].rpartition(">")[0].partition(",")
    return key, value
