"""Channels: plain data, declared once and imported by everyone who uses them."""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args, overload

from typing_extensions import TypeForm
from typing_extensions import TypeVar as TypeVarWithDefault

from unimsg._bodies import Bodies, ReplyBodies
from unimsg._message import Kind
from unimsg.codecs import Codec
from unimsg.errors import ConfigurationError, RemoteError

if TYPE_CHECKING:
    from unimsg.options import ChannelOptions

__all__ = ["Channel", "Queue", "ReplyQueue", "Topic", "check_name", "message"]

# A channel has the variance of Callable[[Body], Reply].
Body = TypeVar("Body", contravariant=True)
Reply = TypeVarWithDefault("Reply", covariant=True, default=None)
Class = TypeVar("Class", bound=type[object])

_CHANNEL_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_SHORT_NAME = re.compile(r"[a-z][a-z0-9-]{1,59}")
_DERIVED = re.compile(r"retry|dead|delay|history|p\d+")
_TYPE = re.compile(r"[\x21-\x7e]{1,255}")

_NO_REPLY: Any = object()  # None is a reply, too


def message(type: str) -> Callable[[Class], Class]:
    """Gives a body class its CloudEvents type: `@message("com.acme.order-placed.v1")`. Renaming the class then never
    changes what is on the wire.

    Raises:
        ConfigurationError: not 1-255 printable ASCII characters without spaces, or one of the library's own.
    """
    if not _TYPE.fullmatch(type):
        raise ConfigurationError(f"message type {type!r} must be 1 to 255 printable ASCII characters without spaces")
    if type.startswith("unimsg."):
        raise ConfigurationError(f"message type {type!r}: types that begin with unimsg. are the library's own")

    def name(cls: Class) -> Class:
        cls.__unimsg_type__ = type  # type: ignore[attr-defined]  # our own mark on the user's class
        return cls

    return name


class Channel(Generic[Body, Reply]):
    """What a queue and a topic have in common. Compared by identity: declare each channel once."""

    _kind_of_channel: ClassVar[Literal["queue", "topic"]]
    _namespace: ClassVar[str] = ""
    """What its name on a broker begins with, after the prefix."""

    def __init__(
        self,
        name: str,
        bodies: Bodies,
        *,
        replies: Any,  # a TypeForm, typed in the subclasses
        key: Callable[[Any], str] | None,
        ordered: bool,
        kind: Kind,
        ttl: float | None,
        options: "Sequence[ChannelOptions]",
    ) -> None:
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
        self.bodies = bodies
        """What travels on it."""
        self.replies = None if replies is _NO_REPLY else ReplyBodies(name, replies, type=f"{name}.reply")
        """What is replied to it; None: nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def encode(self, body: Body) -> tuple[str, str, bytes]:
        """Message type, content type and bytes of a body.

        Raises:
            EncodeError: it does not fit the channel's body type.
        """
        return self.bodies.encode(body)

    def decode(self, type: str | None, content_type: str | None, data: bytes) -> Body:  # type: ignore[misc]  # made here, not taken from a caller: sound as a result
        """The body that arrived as `data`.

        Raises:
            DecodeError: unknown type or content type, malformed or too large.
        """
        return self.bodies.decode(type, content_type, data)  # type: ignore[no-any-return]  # of the form it was made with


class Queue(Channel[Body, Reply]):
    """Point-to-point: each message goes to one receiver; whoever handles the queue competes for it.

    `key` derives the key from a body, and makes the channel ordered: messages of one key are handled in the order
    sent, one at a time. `ordered=True` without it: each call passes `key=`. `ttl`: seconds after which a message that
    was not handled is dropped; it is no dead letter. `codec`: by the body type unless given; of a sequence the first
    writes and all read, chosen by content type. `upgrades`: functions that make a body of what earlier versions sent,
    each with one parameter, annotated with its old `@message` class. `replies`: the type of what handlers return and
    `request` gets, which may be None. `options`: those of the broker in use apply.

    Raises:
        ConfigurationError: bad name or kind; a body type without a codec; a member of a union body without `@message`.
    """

    _kind_of_channel = "queue"

    @overload
    def __init__(
        self: "Queue[Body, None]",
        name: str,
        body: TypeForm[Body],
        *,
        key: Callable[[Body], str] | None = ...,
        ordered: bool = ...,
        kind: Kind = ...,
        ttl: float | None = ...,
        codec: Codec[Body] | Sequence[Codec[Body]] | None = ...,
        upgrades: "Sequence[Callable[[Any], Body]]" = ...,
        options: "Sequence[ChannelOptions]" = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        body: TypeForm[Body],
        *,
        replies: TypeForm[Reply],
        key: Callable[[Body], str] | None = ...,
        ordered: bool = ...,
        kind: Kind = ...,
        ttl: float | None = ...,
        codec: Codec[Body] | Sequence[Codec[Body]] | None = ...,
        upgrades: "Sequence[Callable[[Any], Body]]" = ...,
        options: "Sequence[ChannelOptions]" = ...,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        body: Any,  # the overloads type it
        *,
        replies: Any = _NO_REPLY,
        key: Callable[[Any], str] | None = None,
        ordered: bool = False,
        kind: Kind = "command",
        ttl: float | None = None,
        codec: Codec[Any] | Sequence[Codec[Any]] | None = None,
        upgrades: Sequence[Callable[[Any], Any]] = (),
        options: "Sequence[ChannelOptions]" = (),
    ) -> None:
        check_name(name)
        bodies = Bodies(name, body, codec, upgrades, type=name)
        super().__init__(name, bodies, replies=replies, key=key, ordered=ordered, kind=kind, ttl=ttl, options=options)


class ReplyQueue(Queue[Body | RemoteError, None], Generic[Body]):
    """A durable return address: what is sent with `reply_to=` is answered here, and handled by any process of the
    client, after any restart. Its handlers get the reply, or the `RemoteError` in its place; `causation_id` is the id
    of what was sent.

    `reply`: the type of the replies. The other parameters and errors are those of `Queue`.
    """

    _namespace = "unimsg.reply."

    def __init__(
        self,
        name: str,
        reply: TypeForm[Body],
        *,
        codec: Codec[Body] | Sequence[Codec[Body]] | None = None,
        options: "Sequence[ChannelOptions]" = (),
    ) -> None:
        check_name(name)
        bodies = ReplyBodies(name, reply, codec, type=name)
        Channel.__init__(
            self, name, bodies, replies=_NO_REPLY, key=None, ordered=False, kind="document", ttl=None, options=options
        )


class Topic(Channel[Body, Reply]):
    """Publish-subscribe: each message goes to every subscription, and to one receiver of each.

    `history`: how far back the topic can be replayed; a broker that cannot keep so much is a CapabilityError at
    start-up. `replies`: what handlers may return, for a `survey`. The other parameters and errors are those of `Queue`.
    """

    _kind_of_channel = "topic"

    @overload
    def __init__(
        self: "Topic[Body, None]",
        name: str,
        body: TypeForm[Body],
        *,
        key: Callable[[Body], str] | None = ...,
        ordered: bool = ...,
        kind: Kind = ...,
        ttl: float | None = ...,
        codec: Codec[Body] | Sequence[Codec[Body]] | None = ...,
        upgrades: "Sequence[Callable[[Any], Body]]" = ...,
        history: timedelta | None = ...,
        options: "Sequence[ChannelOptions]" = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        body: TypeForm[Body],
        *,
        replies: TypeForm[Reply],
        key: Callable[[Body], str] | None = ...,
        ordered: bool = ...,
        kind: Kind = ...,
        ttl: float | None = ...,
        codec: Codec[Body] | Sequence[Codec[Body]] | None = ...,
        upgrades: "Sequence[Callable[[Any], Body]]" = ...,
        history: timedelta | None = ...,
        options: "Sequence[ChannelOptions]" = ...,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        body: Any,  # the overloads type it
        *,
        replies: Any = _NO_REPLY,
        key: Callable[[Any], str] | None = None,
        ordered: bool = False,
        kind: Kind = "event",
        ttl: float | None = None,
        codec: Codec[Any] | Sequence[Codec[Any]] | None = None,
        upgrades: Sequence[Callable[[Any], Any]] = (),
        history: timedelta | None = None,
        options: "Sequence[ChannelOptions]" = (),
    ) -> None:
        check_name(name)
        if history is not None and not timedelta() < history:
            raise ConfigurationError(f"{name}: history must be more than 0, not {history!r}")
        bodies = Bodies(name, body, codec, upgrades, type=name)
        super().__init__(name, bodies, replies=replies, key=key, ordered=ordered, kind=kind, ttl=ttl, options=options)
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
