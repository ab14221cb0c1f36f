"""A message: what users see of it, what is checked before it is sent, and its form on the wire (CloudEvents 1.0)."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Generic, Literal, TypeVar, get_args

from unimsg.adapter import Wire
from unimsg.errors import EncodeError

__all__ = ["Kind", "Message"]

Body = TypeVar("Body", covariant=True)
Read = TypeVar("Read")

Kind = Literal["command", "event", "document"]
"""A command names an operation to invoke, an event tells that something happened, a document is data."""

MAX_HEADERS = 64
MAX_HEADER_VALUE = 1024
MAX_HEADERS_BYTES = 16 * 1024
MAX_KEY = 255
CONTENT_TYPE = "content-type"

# Our own: programs seed the shared one, and two that do so alike would make equal ids. A forked process starts anew.
_random = Random()  # noqa: S311  # ids are unique, and no secret
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_random.seed)
_HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_ID = re.compile(r"[\x20-\x7e]{1,128}")
_RESERVED = ("ce-", "ce_", "unimsg-", "x-", "goog", "amq.")
_RESERVED_NAMES = frozenset({CONTENT_TYPE, "traceparent", "tracestate"})
_FOREIGN_ATTRIBUTES = ("ce-", "ce_", "cloudEvents:", "cloudEvents_", "unimsg-")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Message(Generic[Body]):
    """A received message. Its `repr` shows neither body nor header values: they may be private."""

    body: Body
    id: str
    type: str
    """The CloudEvents type: the `@message` name of the body's class, or the channel's name."""
    kind: Kind
    source: str
    """The service that sent it; empty if its sender did not say."""
    time: datetime
    """When it was sent; when it was read, if its sender did not say."""
    key: str | None
    headers: Mapping[str, str]
    """The user's own headers."""
    content_type: str
    conversation_id: str
    """The same for everything that followed from one first message; that one's own id where nothing else is said."""
    causation_id: str | None
    """The id of the message whose handling sent this one; of a reply, the request's id."""
    reply_to: str | None
    expires: datetime | None
    raw: object = field(default=None)
    """The client's own message; typed by the broker's package, as `unimsg_kafka.record(message)`."""

    def __repr__(self) -> str:
        return f"<Message {self.id!r} type={self.type!r} key={self.key!r} headers={sorted(self.headers)}>"


def read_message(wire: Wire, body: Read, prefix: str, *, type: str, kind: Kind, raw: object) -> Message[Read]:
    """The message that arrived as `wire`. `type` and `kind` are the channel's, for a sender that did not say them.
    What is malformed in the attributes of a foreign message counts as not said: it never stops the body."""
    headers = wire.headers
    said_kind = headers.get(f"{prefix}messagekind")
    return Message(
        body=body,
        id=wire.id,
        type=headers.get(f"{prefix}type", type),
        kind=said_kind if said_kind in get_args(Kind) else kind,  # type: ignore[arg-type]  # one of the three, as tested
        source=headers.get(f"{prefix}source", ""),
        time=timestamp(headers.get(f"{prefix}time")) or datetime.now(UTC),
        key=wire.key,
        headers={
            name: value
            for name, value in headers.items()
            if name != CONTENT_TYPE and not name.startswith(_FOREIGN_ATTRIBUTES) and name not in _RESERVED_NAMES
        },
        content_type=headers.get(CONTENT_TYPE, ""),
        conversation_id=_id_or_none(headers.get(f"{prefix}correlationid")) or wire.id,
        causation_id=_id_or_none(headers.get(f"{prefix}causationid")),
        reply_to=headers.get(f"{prefix}replyto"),
        expires=timestamp(headers.get(f"{prefix}expirytime")),
        raw=raw,
    )


@lru_cache(maxsize=1)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1)
def _at(millisecond: int) -> tuple[str, str]:
    """The CloudEvents `time` of a moment, and how a UUIDv7 begins then. Many messages share it with others."""
    second, rest = divmod(millisecond, 1000)
    return f"{_second(second)}.{rest:03d}Z", f"{millisecond >> 16:08x}-{millisecond & 0xFFFF:04x}-7"


def now() -> str:
    """The present time as a CloudEvents `time`."""
    return _at(time.time_ns() // 1_000_000)[0]


def after(seconds: float) -> str:
    """The time in so many seconds, as a CloudEvents timestamp."""
    try:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def new_id() -> str:
    """A UUIDv7 (RFC 9562): ordered by time, so that stores and people can sort by it. Unique, and no secret."""
    return now_and_id()[1]


def now_and_id() -> tuple[str, str]:
    """The present time as `now` has it, and a `new_id`."""
    moment, begin = _at(time.time_ns() // 1_000_000)
    chance = f"{_random.getrandbits(72):018x}"  # all but the version and the variant, whose other two bits are 0
    return moment, f"{begin}{chance[:3]}-8{chance[3:6]}-{chance[6:]}"


def secret_id() -> str:
    """As `new_id`, and nobody can guess it: whoever knows the id of a request can answer it."""
    chance = os.urandom(9).hex()
    return f"{_at(time.time_ns() // 1_000_000)[1]}{chance[:3]}-8{chance[3:6]}-{chance[6:]}"


def derived_id(message_id: str, handler: str, number: int) -> str:
    """The id of the `number`th message that `handler` sends for a message: the same each time it is handled."""
    from hashlib import blake2b  # not above: it loads OpenSSL, and who only sends needs none of it

    made_of = f"{message_id}\0{handler}\0{number}".encode(errors="surrogatepass")
    digest = blake2b(made_of, digest_size=16).digest()
    value = int.from_bytes(digest) & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62  # UUIDv8: made our own way
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_id(id: str) -> None:
    """Raises EncodeError unless it is 1-128 printable ASCII characters."""
    if not (isinstance(id, str) and _ID.fullmatch(id)):
        raise EncodeError("a message id must be a str of 1 to 128 printable ASCII characters")


def following(conversation_id: str, message_id: str) -> Mapping[str, str]:
    """The attributes of what is sent because of a message. Ids that others made and not every broker could carry on are
    left out: they must not keep their own messages from being handled."""
    attributes = {"correlationid": conversation_id, "causationid": message_id}
    return {name: id for name, id in attributes.items() if _id_or_none(id)}


def shown(id: str) -> str:
    """An id as it may stand in a log: others may have put line ends, escape sequences or a novel into theirs."""
    return id if len(id) <= 128 and id.isprintable() else f"{id[:128]!a}"


def check_key(channel: str, key: str) -> None:
    """Raises EncodeError unless it is text of 1-255 bytes in UTF-8: the smallest of the brokers' limits."""
    if not isinstance(key, str):
        raise EncodeError(f"{channel}: a key must be a str, not a {type(key).__name__}")
    if not 1 <= (len(key) if key.isascii() else _utf8(f"{channel}: the key", key)) <= MAX_KEY:
        raise EncodeError(f"{channel}: a key must have 1 to {MAX_KEY} bytes")


def check_headers(channel: str, headers: Mapping[str, str]) -> None:
    """Raises EncodeError for what the smallest of the brokers could not carry, and for names that are not the user's.
    No value is shown: it may be private."""
    if type(headers) is not dict and not isinstance(headers, Mapping):
        raise EncodeError(f"{channel}: headers must be a mapping of names to text, not a {type(headers).__name__}")
    if len(headers) > MAX_HEADERS:
        raise EncodeError(f"{channel}: {len(headers)} headers, at most {MAX_HEADERS}")
    total = 0
    for name, value in headers.items():
        if (problem := _name_problem(name)) is not None:
            raise EncodeError(f"{channel}: header name {name!r} {problem}")
        if not isinstance(value, str):
            raise EncodeError(f"{channel}: header {name!r} must be a str, not a {type(value).__name__}")
        size = len(value) if value.isascii() else _utf8(f"{channel}: header {name!r}", value)
        if size > MAX_HEADER_VALUE:
            raise EncodeError(f"{channel}: header {name!r} has {size} bytes, at most {MAX_HEADER_VALUE}")
        total += len(name) + size
    if total > MAX_HEADERS_BYTES:
        raise EncodeError(f"{channel}: headers of {total} bytes, at most {MAX_HEADERS_BYTES} in all")


@lru_cache(maxsize=4096)
def _name_problem(name: object) -> str | None:
    if not isinstance(name, str):
        return "must be a str"
    if name in _RESERVED_NAMES or name.startswith(_RESERVED):
        return "is reserved"
    if not _HEADER_NAME.fullmatch(name):
        return "must be 1 to 128 of a-z 0-9 . _ - and begin with a letter or digit"
    return None


def _utf8(what: str, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise EncodeError(f"{what} has characters that UTF-8 cannot carry") from None


def _id_or_none(text: str | None) -> str | None:
    return text if text is not None and _ID.fullmatch(text) else None


def timestamp(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        return None
    return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
