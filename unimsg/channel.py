"""Channels: plain data, declared once and imported by everyone who uses them."""

import re
import types
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin

from typing_extensions import TypeForm
from typing_extensions import TypeVar as TypeVarWithDefault

from unimsg._message import Kind
from unimsg._upgrades import old_bodies
from unimsg.codecs import Binary, Codec, UnionCodec, default_codec
from unimsg.errors import ConfigurationError, DecodeError, EncodeError

if TYPE_CHECKING:
    from unimsg.options import ChannelOptions

__all__ = ["Channel", "Queue", "Topic", "check_name", "message"]

# A channel has the variance of Callable[[Body], Reply].
Body = TypeVar("Body", contravariant=True)
Reply = TypeVarWithDefault("Reply", covariant=True, default=None)
Class = TypeVar("Class", bound=type[object])

_CHANNEL_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_SHORT_NAME = re.compile(r"[a-z][a-z0-9-]{1,59}")
_DERIVED = re.compile(r"retry|dead|delay|history|p\d+")
_TYPE = re.compile(r"[\x21-\x7e]{1,255}")

MAX_RECEIVED_BODY = 16 * 1024 * 1024
"""Bytes; a larger body is not decoded. Other programs are not bound by our own limit for sending."""


class UnknownType(DecodeError):
    """None of the channel's bodies has the message's type."""


def message(type: str) -> Callable[[Class], Class]:
    """Gives a body class its CloudEvents type: `@message("com.acme.order-placed.v1")`. Renaming the class then never
    changes what is on the wire.

    Raises:
        ConfigurationError: not 1-255 printable ASCII characters without spaces.
    """
    if not _TYPE.fullmatch(type):
        raise ConfigurationError(f"message type {type!r} must be 1 to 255 printable ASCII characters without spaces")

    def name(cls: Class) -> Class:
        cls.__unimsg_type__ = type  # type: ignore[attr-defined]  # our own mark on the user's class
        return cls

    return name


class Channel(Generic[Body, Reply]):
    """What a queue and a topic have in common. Compared by identity: declare each channel once."""

    _kind_of_channel: ClassVar[Literal["queue", "topic"]]

    def __init__(
        self,
        name: str,
        body: Any,  # a TypeForm, typed in the subclasses
        *,
        key: Callable[[Any], str] | None,
        ordered: bool,
        kind: Kind,
        ttl: float | None,
        codec: Codec[Any] | Sequence[Codec[Any]] | None,
        upgrades: Sequence[Callable[[Any], Any]],
        options: "Sequence[ChannelOptions]",
    ) -> None:
        check_name(name)
        if kind not in get_args(Kind):
            raise ConfigurationError(f"{name}: kind must be one of {', '.join(get_args(Kind))}, not {kind!r}")
        if ttl is not None and not ttl > 0:
            raise ConfigurationError(f"{name}: ttl must be more than 0 seconds, not {ttl!r}")
        if options:
            _check_options(name, options)
        self.name = name
        self.ordered = ordered or key is not None
        self.kind: Kind = kind
        self.ttl = ttl
        self.history: timedelta | None = None
        """How far back a topic can be replayed; None: not at all."""
        self.options = tuple(options)
        self.key_of = key
        """Derives the key from the body; None: each call passes its key, if any."""
        self._bodies = _bodies(name, body, codec)
        self._by_class = {kind.cls: kind for kind in self._bodies if kind.cls is not None}
        self._by_type = {kind.type: kind for kind in self._bodies}
        self._old = old_bodies(name, upgrades, self._by_type, _type_of, _given(codec)) if upgrades else {}
        self._any_type = len(self._bodies) == 1 and _type_of(body) is None
        """Whether messages of all types are of the one body: nobody gave it a type."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def encode(self, body: Body) -> tuple[str, str, bytes]:
        """Message type, content type and bytes of a body.

        Raises:
            EncodeError: it does not fit the channel's body type.
        """
        kind = self._bodies[0] if len(self._bodies) == 1 else self._member(body)
        codec = kind.codecs[0]
        try:
            return kind.type, codec.content_type, codec.encode(body)
        except EncodeError as error:
            raise EncodeError(f"{self.name}: {error}") from None
        except (ValueError, TypeError) as error:
            raise EncodeError(f"{self.name}: {type(error).__name__} in its codec for {codec.content_type}") from error

    def decode(self, type: str | None, content_type: str | None, data: bytes) -> Body:  # type: ignore[misc]  # made here, not taken from a caller: sound as a result
        """The body that arrived as `data`.

        Raises:
            DecodeError: unknown type or content type, malformed or too large.
        """
        if len(data) > MAX_RECEIVED_BODY:
            raise DecodeError(f"{self.name}: a body of {len(data)} bytes, at most {MAX_RECEIVED_BODY}")
        if self._old and type in self._old:
            return self._upgraded(type, content_type, data)  # type: ignore[no-any-return]  # by the type of `upgrades`
        if self._any_type or (type is None and len(self._bodies) == 1):
            kind = self._bodies[0]
        elif type in self._by_type:
            kind = self._by_type[type]
        else:
            known = ", ".join(sorted({*self._by_type, *self._old}))
            raise UnknownType(f"{self.name}: message type {type!r} is none of {known}")
        return self._decoded(kind.codecs, content_type, data)  # type: ignore[no-any-return]  # codecs of a union are of its members

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

    def _member(self, body: object) -> "_BodyKind":
        for cls in type(body).__mro__:
            if cls in self._by_class:
                return self._by_class[cls]
        wanted = ", ".join(cls.__name__ for cls in self._by_class)
        raise EncodeError(f"{self.name}: one of {wanted} is wanted, not a {type(body).__name__}")


class Queue(Channel[Body, Reply]):
    """Point-to-point: each message goes to one receiver; whoever handles the queue competes for it.

    `key` derives the key from a body, and makes the channel ordered: messages of one key are handled in the order
    sent, one at a time. `ordered=True` without it: each call passes `key=`. `ttl`: seconds after which a message that
    was not handled is dropped; it is no dead letter. `codec`: by the body type unless given; of a sequence the first
    writes and all read, chosen by content type. `upgrades`: functions that make a body of what earlier versions sent,
    each with one parameter, annotated with its old `@message` class. `options`: those of the broker in use apply.

    Raises:
        ConfigurationError: bad name or kind; a body type without a codec; a member of a union body without `@message`.
    """

    _kind_of_channel = "queue"

    def __init__(
        self: "Queue[Body, None]",
        name: str,
        body: TypeForm[Body],
        *,
        key: Callable[[Body], str] | None = None,
        ordered: bool = False,
        kind: Kind = "command",
        ttl: float | None = None,
        codec: Codec[Body] | Sequence[Codec[Body]] | None = None,
        upgrades: "Sequence[Callable[[Any], Body]]" = (),
        options: "Sequence[ChannelOptions]" = (),
    ) -> None:
        super().__init__(
            name, body, key=key, ordered=ordered, kind=kind, ttl=ttl, codec=codec, upgrades=upgrades, options=options
        )


class Topic(Channel[Body, Reply]):
    """Publish-subscribe: each message goes to every subscription, and to one receiver of each.

    `history`: how far back the topic can be replayed; a broker that cannot keep so much is a CapabilityError at
    start-up. The other parameters and errors are those of `Queue`.
    """

    _kind_of_channel = "topic"

    def __init__(
        self: "Topic[Body, None]",
        name: str,
        body: TypeForm[Body],
        *,
        key: Callable[[Body], str] | None = None,
        ordered: bool = False,
        kind: Kind = "event",
        ttl: float | None = None,
        codec: Codec[Body] | Sequence[Codec[Body]] | None = None,
        upgrades: "Sequence[Callable[[Any], Body]]" = (),
        history: timedelta | None = None,
        options: "Sequence[ChannelOptions]" = (),
    ) -> None:
        if history is not None and not timedelta() < history:
            raise ConfigurationError(f"{name}: history must be more than 0, not {history!r}")
        super().__init__(
            name, body, key=key, ordered=ordered, kind=kind, ttl=ttl, codec=codec, upgrades=upgrades, options=options
        )
        self.history = history


def check_name(name: str) -> None:
    """Raises ConfigurationError unless it is a name that every broker can carry."""
    if not (isinstance(name, str) and 3 <= len(name) <= 100 and _CHANNEL_NAME.fullmatch(name)):
        raise ConfigurationError(
            f"channel name {name!r} must be 3 to 100 of a-z 0-9 _ - in parts divided by dots, beginning with a letter: "
            "orders.place"
        )
    if name.startswith("unimsg."):
        raise ConfigurationError(f"channel name {name!r}: names that begin with unimsg. are the library's own")


def check_short_name(what: str, name: str) -> None:
    """Raises ConfigurationError unless it can name a service or a subscription."""
    if not (isinstance(name, str) and _SHORT_NAME.fullmatch(name)):
        raise ConfigurationError(f"{what} name {name!r} must be 2 to 60 of a-z 0-9 - and begin with a letter")
    if what == "subscription" and _DERIVED.fullmatch(name):
        raise ConfigurationError(f"subscription name {name!r} is reserved: the library derives its own names with it")


def _check_options(channel: str, options: Sequence[Any]) -> None:
    from unimsg.options import ChannelOptions  # not above: it needs pydantic, which takes long to import

    for option in options:
        if not isinstance(option, ChannelOptions):
            raise ConfigurationError(f"{channel}: options= takes ChannelOptions, not a {type(option).__name__}")


class _BodyKind:
    """One member of a channel's body type, or the whole of one that is no union."""

    __slots__ = ("cls", "codecs", "type")

    def __init__(self, type: str, cls: Any, codecs: Sequence[Codec[Any]]) -> None:
        self.type = type
        self.cls = cls
        self.codecs = codecs


def _given(codec: Codec[Any] | Sequence[Codec[Any]] | None) -> Sequence[Codec[Any]]:
    return codec if isinstance(codec, Sequence) else [codec] if codec is not None else ()


def _bodies(channel: str, body: Any, codec: Codec[Any] | Sequence[Codec[Any]] | None) -> Sequence[_BodyKind]:
    given = _given(codec)
    members = get_args(body) if get_origin(body) in (Union, types.UnionType) else ()
    if not members:
        return [_BodyKind(_type_of(body) or channel, None, given or [default_codec(body)])]
    kinds = []
    for member in members:
        type_ = _type_of(member)
        if type_ is None:
            raise ConfigurationError(
                f"{channel}: {getattr(member, '__name__', member)} is a member of a union body and needs a type of its "
                'own on the wire: decorate it with @unimsg.message("…")'
            )
        codecs = [codec.of(member) if isinstance(codec, UnionCodec) else codec for codec in given]
        kinds.append(_BodyKind(type_, member, codecs or [default_codec(member)]))
    if len({kind.type for kind in kinds}) < len(kinds):
        raise ConfigurationError(f"{channel}: two members of its union body have the same @message type")
    return kinds


def _type_of(body: Any) -> str | None:
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
