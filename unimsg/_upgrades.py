"""Old message types: plain functions turn what earlier versions sent into what handlers see today."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_type_hints

from unimsg.codecs import Codec, UnionCodec, default_codec
from unimsg.errors import ConfigurationError

Upgrade = Callable[[Any], Any]


class OldBody:
    """A body type that handlers do not see any more."""

    __slots__ = ("codecs", "upgrade")

    def __init__(self, codecs: Sequence[Codec[Any]], upgrade: Upgrade) -> None:
        self.codecs = codecs
        self.upgrade = upgrade


def old_bodies(
    channel: str,
    upgrades: Sequence[Upgrade],
    current: Mapping[str, object],
    type_of: Callable[[Any], str | None],
    codecs: Sequence[Codec[Any]],
) -> dict[str, OldBody]:
    """By message type. `current`: the types that need no upgrade. `type_of`: the `@message` type of a class. `codecs`:
    the channel's own; those that can be made for another class read the old bodies, too.

    Raises:
        ConfigurationError: a function whose parameter names no `@message` class; two for one type; one for a type
            that the channel has today; a result that it has not.
    """
    found: dict[str, OldBody] = {}
    for upgrade in upgrades:
        name = getattr(upgrade, "__qualname__", repr(upgrade))
        taken, made = _annotations(channel, name, upgrade)
        type_ = type_of(taken)
        if type_ is None:
            taken = getattr(taken, "__name__", taken)
            raise ConfigurationError(
                f"{channel}: upgrade {name} takes {taken}, which needs a type of its own on the wire: decorate it with "
                '@unimsg.message("…")'
            )
        if type_ in found or type_ in current:
            raise ConfigurationError(f"{channel}: upgrade {name}: {type_} has an upgrade, or is what handlers see")
        result = type_of(made)
        if result is not None and result not in current:
            raise ConfigurationError(f"{channel}: upgrade {name} makes {result}, which is no body of the channel")
        found[type_] = OldBody([*_of(codecs, taken), default_codec(taken)], upgrade)
    return found


def _of(codecs: Sequence[Codec[Any]], cls: Any) -> list[Codec[Any]]:
    """Those of the channel's codecs that can be made for another class."""
    found: list[Codec[Any]] = []
    for codec in codecs:
        if isinstance(codec, UnionCodec):
            with suppress(ConfigurationError):
                found.append(codec.of(cls))
    return found


def _annotations(channel: str, name: str, upgrade: Upgrade) -> tuple[Any, Any]:
    """What it takes and what it makes."""
    try:
        hints = get_type_hints(upgrade)
        parameters = list(inspect.signature(upgrade).parameters)
    except (NameError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{channel}: the annotations of upgrade {name} cannot be read: {error}") from None
    if len(parameters) != 1 or parameters[0] not in hints:
        raise ConfigurationError(f"{channel}: upgrade {name} must take one parameter, annotated with its old class")
    return hints[parameters[0]], hints.get("return")
