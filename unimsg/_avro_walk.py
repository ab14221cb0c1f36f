"""A walk over Avro bytes before they are read, for what its readers do not check.

Seen with fastavro 1.13: a schema that nests in itself overflows the stack of the process (20 kB do); blocks of items
that take no bytes are counted for ever; a block that is skipped by a size below zero is skipped for ever; a decimal of
megabytes takes hours; 16 MB of records of one byte are gigabytes of dicts.
"""

from collections.abc import Callable
from typing import Any

from unimsg._limits import MAX_DEPTH, MAX_ITEMS
from unimsg.errors import ConfigurationError, DecodeError

Step = Callable[["Walk", int], None]
"""Goes over one value. The number is the depth."""

_FIXED_SIZE = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_MAX_DECIMAL = 512
"""Bytes: more digits than any money has."""


class Rule:
    """How to go over the values of one schema."""

    __slots__ = ("is_plain", "is_risky", "size", "step")

    def __init__(self, step: Step, size: int, *, is_risky: bool = False, is_plain: bool = False) -> None:
        self.step = step
        self.size = size
        """Bytes that a value takes at least."""
        self.is_risky = is_risky
        """Whether few bytes can do harm."""
        self.is_plain = is_plain
        """Whether each value is a number or truth of exactly `size` bytes: many of them need not be counted."""


class Walk:
    """A place in the bytes."""

    __slots__ = ("_at", "_data", "_left")

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._left = MAX_ITEMS

    def whole(self, rule: Rule) -> None:
        """Raises DecodeError unless all that is left is one value within the limits."""
        rule.step(self, 0)
        if self._at != len(self._data):
            raise DecodeError("the body goes on after its end")

    def number(self) -> int:
        value = shift = 0
        data, at = self._data, self._at
        while True:
            if at >= len(data):
                raise DecodeError("the body ends too early")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise DecodeError("a number of more than 64 bits")
        self._at = at
        return (value >> 1) ^ -(value & 1)

    def skip(self, size: int) -> None:
        if not 0 <= size <= len(self._data) - self._at:
            raise DecodeError(f"a length of {size} bytes, which are not there")
        self._at += size

    def count(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise DecodeError(f"more than {MAX_ITEMS} records and items")

    def blocks(self, item: Rule, depth: int) -> None:
        """An array or a map: blocks of items, the last of them empty."""
        while (items := self.number()) != 0:
            size = self.number() if items < 0 else None
            begin = self._at
            if item.is_plain:
                self.skip(abs(items) * item.size)
            else:
                self.count(abs(items))
                for _ in range(abs(items)):
                    item.step(self, depth)
            if size is not None and self._at - begin != size:
                raise DecodeError("a block of another size than it says")


def rule_of(schema: Any) -> Rule:  # JSON, as fastavro parsed it
    """Raises ConfigurationError for arrays of items that take no bytes: 10 bytes could stand for any number of them."""
    return _rule(schema, {})


def _rule(schema: Any, named: dict[str, Rule]) -> Rule:
    if isinstance(schema, list):
        return _union([_rule(each, named) for each in schema])
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(kind, dict | list):
        return _rule(kind, named)
    if kind in ("record", "error"):
        return _record(schema, named)
    if kind == "array":
        item = _rule(schema["items"], named)
        if item.size == 0:
            raise ConfigurationError("an Avro array of items that take no bytes is without limit")
        return Rule(lambda walk, depth: walk.blocks(item, _deeper(depth)), 1, is_risky=item.is_risky)
    if kind == "map":
        value = _rule(schema["values"], named)

        def step(walk: Walk, depth: int) -> None:
            walk.skip(walk.number())
            value.step(walk, depth)

        entry = Rule(step, 1 + value.size)
        return Rule(lambda walk, depth: walk.blocks(entry, _deeper(depth)), 1, is_risky=value.is_risky)
    if kind == "enum":
        return _remembered(schema, Rule(lambda walk, _: _ignore(walk.number()), 1), named)
    if kind == "fixed":
        size = schema["size"]
        return _remembered(schema, Rule(lambda walk, _: walk.skip(size), size), named)
    return _primitive(kind, schema, named)


def _primitive(kind: str, schema: Any, named: dict[str, Rule]) -> Rule:
    if kind in _FIXED_SIZE:
        size = _FIXED_SIZE[kind]
        return Rule(lambda walk, _: walk.skip(size), size, is_plain=True)
    if kind in ("int", "long"):
        return Rule(lambda walk, _: _ignore(walk.number()), 1)
    if kind in ("string", "bytes"):
        is_decimal = isinstance(schema, dict) and schema.get("logicalType") == "decimal"
        return Rule(_decimal if is_decimal else lambda walk, _: walk.skip(walk.number()), 1, is_risky=is_decimal)
    if kind in named:
        return named[kind]
    # Within itself, where it is not known yet. What ends such a value is a union, an array or a map: it takes a byte.
    return Rule(lambda walk, depth: named[kind].step(walk, depth), 1, is_risky=True)


def _record(schema: Any, named: dict[str, Rule]) -> Rule:
    fields = [_rule(field["type"], named) for field in schema["fields"]]
    steps = [field.step for field in fields]

    def step(walk: Walk, depth: int) -> None:
        depth = _deeper(depth)
        walk.count(1)
        for field in steps:
            field(walk, depth)

    rule = Rule(step, sum(field.size for field in fields), is_risky=any(field.is_risky for field in fields))
    return _remembered(schema, rule, named)


def _union(branches: list[Rule]) -> Rule:
    def step(walk: Walk, depth: int) -> None:
        index = walk.number()
        if not 0 <= index < len(branches):
            raise DecodeError(f"a union of {len(branches)} has no branch {index}")
        branches[index].step(walk, depth)

    return Rule(step, 1, is_risky=any(branch.is_risky for branch in branches))


def _decimal(walk: Walk, depth: int) -> None:
    size = walk.number()
    if size > _MAX_DECIMAL:
        raise DecodeError(f"a decimal of {size} bytes, at most {_MAX_DECIMAL}")
    walk.skip(size)


def _remembered(schema: Any, rule: Rule, named: dict[str, Rule]) -> Rule:
    named[schema["name"]] = rule
    return rule


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise DecodeError(f"values nested more than {MAX_DEPTH} deep")
    return depth + 1


def _ignore(_: int) -> None: ...
