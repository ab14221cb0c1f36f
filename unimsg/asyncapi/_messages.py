"""The messages of a channel: one for each type and format that it carries."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unimsg._bodies import ERROR_TYPE, Bodies, ReplyBodies
from unimsg.asyncapi._bindings import message_bindings
from unimsg.asyncapi._headers import conversation, message_headers, request
from unimsg.asyncapi._key import key_text
from unimsg.asyncapi._payloads import FAILURE, Mode, Payloads
from unimsg.asyncapi._places import Place
from unimsg.asyncapi._uses import Side
from unimsg.channel import Channel
from unimsg.codecs import Codec

Json = dict[str, Any]

_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Form:
    """One message: a type, in one format."""

    key: str
    """Its name in the document."""
    type: str
    channel: Channel[Any, Any]
    codec: Codec[Any]
    is_written: bool
    """Whether unimsg also sends it so; else it is only read: an old type, or another codec than the first."""
    is_old: bool = False
    is_any_type: bool = False
    """Whether messages of every type are read as this one."""
    is_reply: bool = False


def forms_of(declarations: Sequence[Channel[Any, Any]]) -> list[Form]:
    """What the channel carries."""
    return _unique(form for channel in declarations for form in _forms(channel, channel.bodies))


def replies_of(declarations: Sequence[Channel[Any, Any]]) -> list[Form]:
    """What is replied to it; empty: nothing."""
    return _unique(
        replace(form, is_reply=True)
        for channel in declarations
        if channel.replies is not None
        for form in _forms(channel, channel.replies)
    )


def _unique(forms: Iterable[Form]) -> list[Form]:
    """Each type in each format once, and each with a key of its own."""
    found: dict[tuple[str, object], Form] = {}
    keys: set[str] = set()
    for form in forms:
        if (form.type, form.codec) in found:
            continue
        key, number = form.key, 2
        while key in keys:
            key, number = f"{form.key}-{number}", number + 1
        keys.add(key)
        found[form.type, form.codec] = replace(form, key=key)
    return list(found.values())


def _forms(channel: Channel[Any, Any], bodies: Bodies) -> Iterator[Form]:
    for kind in bodies.kinds:
        for number, codec in enumerate(kind.codecs):
            key = message_key(kind.type) + (f".{_format(codec)}" if number else "")
            yield Form(key, kind.type, channel, codec, is_written=not number, is_any_type=bodies._any_type)
    for type_, old in bodies._old.items():
        by_format = {codec.content_type: codec for codec in reversed(old.codecs)}  # of two for one, the first reads
        for number, codec in enumerate(reversed(by_format.values())):
            key = message_key(type_) + (f".{_format(codec)}" if number else "")
            yield Form(key, type_, channel, codec, is_written=False, is_old=True)
    if isinstance(bodies, ReplyBodies):
        yield Form(message_key(ERROR_TYPE), ERROR_TYPE, channel, FAILURE, is_written=True)


def message_key(type: str) -> str:
    """A message type as a key of the document, where not all characters may stand."""
    return _UNUSUAL.sub("_", type)


def _format(codec: Codec[Any]) -> str:
    """ "protobuf" of application/protobuf."""
    return message_key(codec.content_type.partition(";")[0].rpartition("/")[2])


def modes_of(form: Form, side: Side) -> tuple[Mode, ...]:
    """What is read counts first, which may be more than is written; who only sends tells what it writes."""
    if not side.reads:
        return ("serialization",)
    return ("validation", "serialization") if side.writes and form.is_written else ("validation",)


def message_of(form: Form, place: Place, payloads: Payloads, side: Side) -> Json:
    """The message object."""
    kind, prefix = place.broker.kind, place.broker.prefix
    payload, *written = (payloads.get(form, mode) for mode in modes_of(form, side))
    title, description = payloads.about(payload)
    channel = form.channel
    message: Json = {"name": form.type}
    if title:
        message["title"] = title
    if description:
        message["description"] = description
    if form.is_old:
        message["deprecated"] = True
    message["contentType"] = form.codec.content_type
    message["headers"] = message_headers(
        kind,
        prefix,
        type=None if form.is_any_type and side.reads else form.type,
        message_kind="document" if form.is_reply else channel.kind,
        key=channel.ordered and not form.is_reply,
        expires=channel.ttl is not None,
        is_written=not side.reads,
    )
    message["payload"] = payload
    name = request(kind) if form.is_reply or channel._namespace else conversation(kind)
    message["correlationId"] = {"$ref": f"#/components/correlationIds/{name}"}
    key = _key(channel) if channel.ordered and not form.is_reply else None
    if bindings := message_bindings(place, form.type, key):
        message["bindings"] = bindings
    own: Json = {} if form.is_reply else {"kind": channel.kind}
    if form.is_any_type:
        own["anyType"] = True
    if written and written[0] != payload:
        own["written"] = written[0]
    if own:
        message["x-unimsg"] = own
    return message


def _key(channel: Channel[Any, Any]) -> str:
    if channel.key_of is None:
        return "given by the sender with each message"
    return key_text(channel.key_of) or "made from the body"
