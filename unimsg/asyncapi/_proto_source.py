"""A .proto file, read as far as it says what is on the wire."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[\w.]+(?:-\w+)*|-?\d+|[{}()\[\]<>=;,:-]""", re.DOTALL
)
_LABELS = ("optional", "required", "repeated")
_MAX_TOKENS = 200_000


@dataclass(slots=True)
class Field:
    name: str
    number: int
    label: str
    """Empty: none."""
    type: str
    """As it is written; of a map `map<key,value>`."""
    union: str
    """The oneof that it is in; empty: none."""


@dataclass(slots=True)
class Message:
    fields: dict[int, Field] = field(default_factory=dict)


@dataclass(slots=True)
class Source:
    """What a file defines, by names from its package on: "Order.Line"."""

    messages: dict[str, Message] = field(default_factory=dict)
    enums: dict[str, dict[int, str]] = field(default_factory=dict)
    package: str = ""

    @property
    def first(self) -> str:
        """The name of the first message: the body. Empty: there is none."""
        return next(iter(self.messages), "")

    def find(self, name: str, scope: str) -> str | None:
        """The whole name of a message or an enum that is named in a message; None: it is of another file."""
        name = name.removeprefix(".").removeprefix(f"{self.package}." if self.package else "\0")
        parts = scope.split(".")
        for count in range(len(parts), -1, -1):
            whole = ".".join([*parts[:count], name])
            if whole in self.messages or whole in self.enums:
                return whole
        return None


def parse_proto(text: str) -> Source:
    """Never raises: what it does not understand it leaves out."""
    tokens = [each for each in _TOKENS.findall(text)[:_MAX_TOKENS] if not each.startswith(("//", "/*"))]
    source = Source()
    _Reader(iter([*tokens, "}"]), source).block("", None)
    return source


class _Reader:
    def __init__(self, tokens: Iterator[str], source: Source) -> None:
        self._tokens = tokens
        self._source = source

    def block(self, scope: str, message: Message | None, union: str = "", depth: int = 0) -> None:
        """Statements until the brace that closes them."""
        words: list[str] = []
        for word in self._tokens:
            if word == "}":
                return
            if word == ";":
                self._statement(words, scope, message, union)
                words = []
            elif word == "{":
                self._inner(words, scope, message, depth)
                words = []
            else:
                words.append(word)

    def _inner(self, words: list[str], scope: str, message: Message | None, depth: int) -> None:
        kind, name = (words[0] if words else ""), (words[1] if len(words) > 1 else "")
        whole = f"{scope}.{name}" if scope else name
        if depth > 100:
            self._skip()
        elif kind == "message":
            made = self._source.messages.setdefault(whole, Message())
            self.block(whole, made, depth=depth + 1)
        elif kind == "enum":
            self._enum(whole)
        elif kind == "oneof":
            self.block(scope, message, union=name, depth=depth + 1)
        else:
            self._skip()

    def _enum(self, name: str) -> None:
        values = self._source.enums.setdefault(name, {})
        words: list[str] = []
        for word in self._tokens:
            if word == "}":
                return
            if word != ";":
                words.append(word)
                continue
            if len(words) >= 3 and words[1] == "=" and words[0] not in ("option", "reserved"):
                number = "".join(words[2:4]) if words[2] == "-" else words[2]
                if _is_number(number):
                    values[int(number, 0)] = words[0]
            words = []

    def _statement(self, words: list[str], scope: str, message: Message | None, union: str) -> None:
        if words[:1] == ["package"] and not scope:
            self._source.package = "".join(words[1:])
            return
        if message is None or "=" not in words or words[0] in ("option", "reserved", "extensions"):
            return
        at = words.index("=")
        label = words[0] if words[0] in _LABELS else ""
        before = words[1:at] if label else words[:at]
        if len(before) < 2 or len(words) <= at + 1 or not _is_number(words[at + 1]):
            return
        number = int(words[at + 1], 0)
        message.fields[number] = Field(before[-1], number, label, "".join(before[:-1]), union)

    def _skip(self) -> None:
        open_ = 1
        for word in self._tokens:
            open_ += (word == "{") - (word == "}")
            if not open_:
                return


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?(0[xX][0-9a-fA-F]{1,8}|\d{1,10})", text) is not None and not re.fullmatch(r"-?0\d+", text)
