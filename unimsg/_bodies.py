"""Bodies as a channel carries them: one type, or a union told apart by message types; each with its codecs."""

import json
import types
from collections.abc import Callable, Sequence
from typing import Any, Union, get_args, get_origin

from unimsg._upgrades import old_bodies
from unimsg.codecs import Binary, Codec, UnionCodec, default_codec
from unimsg.errors import ConfigurationError, DecodeError, EncodeError, RemoteError

MAX_RECEIVED_BODY = 16 * 1024 * 1024
"""Bytes; a larger body is not decoded. Other programs are not bound by our own limit for sending."""


class UnknownType(DecodeError):
    """None of the channel's bodies has the message's type."""


class Bodies:
    """What travels on a channel in one direction. `name`: for error texts. `type`: of messages whose body has none of
    its own.

    Raises:
        ConfigurationError: a body type without a codec; a member of a union without `@message`.
    """

    def __init__(
        self,
        name: str,
        form: Any,  # a TypeForm
        codec: Codec[Any] | Sequence[Codec[Any]] | None = None,
        upgrades: Sequence[Callable[[Any], Any]] = (),
        *,
        type: str,
    ) -> None:
        self.form = form
        self.name = name
        self.kinds = _kinds(name, form, codec, type)
        self._by_class = {kind.cls: kind for kind in self.kinds} if len(self.kinds) > 1 else {}
        self._by_type = {kind.type: kind for kind in self.kinds}
        self._old = old_bodies(name, upgrades, self._by_type, type_of, _given(codec)) if upgrades else {}
        self._any_type = len(self.kinds) == 1 and type_of(form) is None
        """Whether messages of all types are of the one body: nobody gave it a type."""

    def encode(self, body: Any) -> tuple[str, str, bytes]:
        """See `Channel.encode`."""
        kind = self.kinds[0] if len(self.kinds) == 1 else self._member(body)
        codec = kind.codecs[0]
        try:
            return kind.type, codec.content_type, codec.encode(body)
        except EncodeError as error:
            raise EncodeError(f"{self.name}: {error}") from None
        except (ValueError, TypeError) as error:
            raise EncodeError(f"{self.name}: {type(error).__name__} in its codec for {codec.content_type}") from error

    def decode(self, type: str | None, content_type: str | None, data: bytes) -> Any:
        """See `Channel.decode`."""
        if len(data) > MAX_RECEIVED_BODY:
            raise DecodeError(f"{self.name}: a body of {len(data)} bytes, at most {MAX_RECEIVED_BODY}")
        if self._old and type in self._old:
            return self._upgraded(type, content_type, data)
        if self._any_type or (type is None and len(self.kinds) == 1):
            kind = self.kinds[0]
        elif type in self._by_type:
            kind = self._by_type[type]
        else:
            known = ", ".join(sorted({*self._by_type, *self._old}))
            raise UnknownType(f"{self.name}: message type {type!r} is none of {known}")
        return self._decoded(kind.codecs, content_type, data)

    def _decoded(self, codecs: Sequence[Codec[Any]], content_type: str | None, data: bytes) -> Any:
        codec = _choose(codecs, content_type)
        if codec is None:
            known = ", ".join(codec.content_type for codec in codecs)
            raise DecodeError(f"{self.name}: content type {content_type!r} is none of {known}")
        try:
            return codec.decode(data)
        except DecodeError as error:
            raise DecodeError(f"{self.name}: {error}") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise DecodeError(
                f"{self.name}: {error.__class__.__name__} in its codec for {codec.content_type}"
            ) from error

    def _upgraded(self, type: str, content_type: str | None, data: bytes) -> Any:
        """What handlers see of an old message."""
        old = self._old[type]
        body = self._decoded(old.codecs, content_type, data)
        try:
            return old.upgrade(body)
        except Exception as error:
            raise DecodeError(f"{self.name}: the upgrade of {type} failed: {error.__class__.__name__}") from error

    def _member(self, body: object) -> "BodyKind":
        for cls in type(body).__mro__:
            if cls in self._by_class:
                return self._by_class[cls]
        wanted = ", ".join(cls.__name__ for cls in self._by_class)
        raise EncodeError(f"{self.name}: one of {wanted} is wanted, not a {type(body).__name__}")


ERROR_TYPE = "unimsg.error"
"""The message type of a reply that tells of a failure; its body is JSON with `code` and `text`."""
MAX_CODE = 128
MAX_TEXT = 1000
"""Characters of a failure's code and text."""


class ReplyBodies(Bodies):
    """What travels back: replies, and in their place failures, as `RemoteError`."""

    def encode(self, body: Any) -> tuple[str, str, bytes]:
        if isinstance(body, RemoteError):
            # Whatever users made of them: what tells of a failure must not fail itself.
            said = {"code": str(body.code)[:MAX_CODE], "text": str(body.text)[:MAX_TEXT]}
            return ERROR_TYPE, "application/json", json.dumps(said).encode()
        return super().encode(body)

    def decode(self, type: str | None, content_type: str | None, data: bytes) -> Any:
        return self._failure(data) if type == ERROR_TYPE else super().decode(type, content_type, data)

    def _failure(self, data: bytes) -> RemoteError:
        try:
            said = json.loads(data) if len(data) < 64 * 1024 else None
        except (ValueError, RecursionError):
            said = None
        if not (isinstance(said, dict) and isinstance(said.get("code"), str)):
            raise DecodeError(f"{self.name}: a failure was told in a form that is not ours")
        text = said.get("text")
        return RemoteError(said["code"][:MAX_CODE], text[:MAX_TEXT] if isinstance(text, str) else "")


class BodyKind:
    """One member of a union, or the whole of what is none."""

    __slots__ = ("cls", "codecs", "type")

    def __init__(self, type: str, cls: Any, codecs: Sequence[Codec[Any]]) -> None:
        self.type = type
        self.cls = cls
        self.codecs = codecs


def _given(codec: Codec[Any] | Sequence[Codec[Any]] | None) -> Sequence[Codec[Any]]:
    return codec if isinstance(codec, Sequence) else [codec] if codec is not None else ()


def _kinds(channel: str, form: Any, codec: Codec[Any] | Sequence[Codec[Any]] | None, type: str) -> Sequence[BodyKind]:
    given = _given(codec)
    members = get_args(form) if get_origin(form) in (Union, types.UnionType) else ()
    if not members:
        return [BodyKind(type_of(form) or type, form, given or [default_codec(form)])]
    kinds = []
    for member in members:
        type_ = type_of(member)
        if type_ is None:
            raise ConfigurationError(
                f"{channel}: {getattr(member, '__name__', member)} is a member of a union body and needs a type of its "
                'own on the wire: decorate it with @unimsg.message("…")'
            )
        codecs = [codec.of(member) if isinstance(codec, UnionCodec) else codec for codec in given]
        kinds.append(BodyKind(type_, member, codecs or [default_codec(member)]))
    if len({kind.type for kind in kinds}) < len(kinds):
        raise ConfigurationError(f"{channel}: two members of its union body have the same @message type")
    return kinds


def type_of(body: Any) -> str | None:
    """The `@message` type of a class; not of its parents: a subclass is another message."""
    mark: str | None = vars(body).get("__unimsg_type__") if isinstance(body, type) else None
    return mark


def _choose(codecs: Sequence[Codec[Any]], content_type: str | None) -> Codec[Any] | None:
    """The codec for a content type; the first where none is said, as foreign senders often do not."""
    if not content_type or isinstance(codecs[0], Binary):
        return codecs[0]
    wanted = _media_type(content_type)
    for codec in codecs:
        own = _media_type(codec.content_type)
        if own == wanted or wanted in getattr(codec, "also_read", ()):
            return codec
        suffix = f"+{own.removeprefix('application/')}"
        if own in _SUFFIXED and wanted.endswith(suffix) and "cloudevents" not in wanted:
            return codec
    return None


_SUFFIXED = ("application/json", "application/xml")
"""Types whose suffix names formats that are written in them: application/problem+json."""


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
