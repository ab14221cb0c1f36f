"""What changed between two documents, and whom it breaks."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Flag
from typing import Any


class Direction(Flag):
    """From where the document's own services stand."""

    NONE = 0
    RECEIVED = 1
    """Others send it: what they send today must be taken tomorrow."""
    SENT = 2
    """Others receive it: what they are sent tomorrow must be what they know today."""
    BOTH = RECEIVED | SENT


@dataclass(frozen=True, slots=True)
class Change:
    """One change."""

    breaking: bool
    """Whether a program that went by the old document can fail."""
    where: str
    """The channel, the message if it is one of several, and the field: "orders.place items[].dish"."""
    text: str
    """What changed, in words."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One inside a body. `breaks`: in which directions it is a breaking change."""

    path: str
    text: str
    breaks: Direction


class Changes:
    """Those that were found: each once, and as breaking if it is in any of its directions."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], bool] = {}

    def add(self, where: str, text: str, *, breaking: bool) -> None:
        key = (where, text)
        self._found[key] = self._found.get(key, False) or breaking

    def __iter__(self) -> Iterator[Change]:
        """Breaking ones first."""
        all_ = [Change(breaking, where, text) for (where, text), breaking in self._found.items()]
        return iter(sorted(all_, key=lambda change: not change.breaking))


def narrowed(path: str, text: str) -> Difference:
    """Less is allowed: what others send may be refused."""
    return Difference(path, text, Direction.RECEIVED)


def widened(path: str, text: str) -> Difference:
    """More is allowed: what others are sent may be new to them."""
    return Difference(path, text, Direction.SENT)


def changed(path: str, text: str) -> Difference:
    """Neither fits the other."""
    return Difference(path, text, Direction.BOTH)


def noted(path: str, text: str) -> Difference:
    """It breaks nobody."""
    return Difference(path, text, Direction.NONE)


def shown(value: Any, most: int = 60) -> str:
    """JSON in a text, cut."""
    import json

    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[: most - 1]}…"
