"""A text that fits a pattern: for examples, of the patterns that people write."""

import re
from collections.abc import Iterator

_TRIED = ("string", "a", "1", "1.50", "A1", "a-1", "a@b.example")
_CLASSES = {"d": "1", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_LONGEST = 200


def sample(pattern: str, shortest: int = 0) -> str | None:
    """None: none was found."""
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
    for text in (*_TRIED, _made(pattern)):
        if text is not None and len(text) >= shortest and compiled.search(text):
            return text
    return None


def _made(pattern: str) -> str | None:
    """By the first alternative, the first character of each class, the fewest repetitions, but one."""
    if len(pattern) > _LONGEST:
        return None
    try:
        return _sequence(iter(pattern), nested=False)
    except (StopIteration, ValueError, IndexError):
        return None


def _sequence(rest: Iterator[str], *, nested: bool) -> str:
    parts: list[str] = []
    alternatives: list[str] = []
    for char in rest:
        if char == ")" and nested:
            break
        if char == "|":
            alternatives.append("".join(parts))
            parts = []
        elif char in "^$":
            continue
        elif char in "*?":
            continue  # once is among how often
        elif char == "+":
            continue
        elif char == "{":
            least = "".join(iter(lambda: next(rest), "}")).partition(",")[0]
            parts[-1] = parts[-1] * min(int(least or 0), _LONGEST)
        else:
            parts.append(_one(char, rest))
    return [*alternatives, "".join(parts)][0]


def _one(char: str, rest: Iterator[str]) -> str:
    if char == "(":
        return _group(rest)
    if char == "[":
        return _of_set(rest)
    if char == "\\":
        following = next(rest)
        return _CLASSES.get(following, "" if following in "bBAZ" else following)
    return "a" if char == "." else char


def _group(rest: Iterator[str]) -> str:
    inner = _sequence(rest, nested=True)
    return inner.removeprefix("?:").removeprefix(":")


def _of_set(rest: Iterator[str]) -> str:
    first = next(rest)
    found = _CLASSES.get(next(rest), "a") if first == "\\" else first
    for char in rest:
        if char == "]":
            break
        if char == "\\":
            next(rest)
    if first == "^":
        return "a"
    return found
