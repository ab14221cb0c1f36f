"""HTML that cannot be injected into: text is escaped where it is put in, and only what `tag` made is markup."""

import html
from typing import Final

_VOID: Final = frozenset({"meta", "br"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None
"""Text, or markup; None: nothing."""


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Markup:
    """An element. Of an attribute's name the `_` at its end is dropped, and others are dashes: `class_`, `aria_label`.
    None and False: it has not this attribute."""
    written = "".join(
        f" {_name(key)}" if value is True else f' {_name(key)}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Next to each other."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(child)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def prose(text: str) -> Markup:
    """Paragraphs, with `code` where it was written so."""
    paragraphs = [each for each in text.replace("\r", "").split("\n\n") if each.strip()]
    return joined(*(tag("p", _with_code(" ".join(each.split()))) for each in paragraphs))


def _with_code(text: str) -> Markup:
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one too many
        return joined(text)
    return joined(*(tag("code", part) if number % 2 else part for number, part in enumerate(parts)))
