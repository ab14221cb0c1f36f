"""Channels of the document."""

from typing import Any

from unimsg._routes import DEFAULT_PARTITIONS
from unimsg.asyncapi._bindings import channel_bindings
from unimsg.asyncapi._key import key_text
from unimsg.asyncapi._places import Place
from unimsg.asyncapi._servers import servers_of
from unimsg.asyncapi._uses import Use
from unimsg.asyncapi._words import duration
from unimsg.channel import Channel

Json = dict[str, Any]


def channel_of(use: Use, place: Place, messages: Json) -> Json:
    """The channel object."""
    channel = use.channel
    made: Json = {"address": place.name, "description": _in_words(channel), "messages": messages}
    if servers := list(servers_of(place.broker)):
        made["servers"] = [{"$ref": f"#/servers/{name}"} for name in servers]
    made["tags"] = [{"name": channel._kind_of_channel}]
    partitions = _partitions(place) if channel.ordered else 0
    if bindings := channel_bindings(place, is_topic=use.is_topic, partitions=partitions):
        made["bindings"] = bindings
    made["x-unimsg"] = _facts(channel, place, partitions)
    return made


def reply_channel_of(use: Use, place: Place, messages: Json) -> Json:
    """Where replies go: the request says it, so that it has no address of its own."""
    made: Json = {
        "address": None,
        "description": f"Replies to {use.channel.name}, sent where the request says.",
        "messages": messages,
    }
    if servers := list(servers_of(place.broker)):
        made["servers"] = [{"$ref": f"#/servers/{name}"} for name in servers]
    made["tags"] = [{"name": "reply"}]
    made["x-unimsg"] = {"channel": "reply", "of": use.channel.name}
    return made


_KINDS = {
    "queue": "Queue: each message goes to one receiver.",
    "topic": "Topic: each message goes to every subscription.",
    "reply queue": "Reply queue: what is sent with it as its return address is answered here, or its failure told.",
}


def _facts(channel: Channel[Any, Any], place: Place, partitions: int) -> Json:
    facts: Json = {"channel": channel._kind_of_channel, "ordered": channel.ordered}
    if channel._namespace:
        facts["replies"] = True
    if channel.key_of is not None:
        facts["key"] = key_text(channel.key_of) or "made from the body"
    if partitions:
        facts["partitions"] = partitions
    if channel.ttl is not None:
        facts["ttl"] = channel.ttl
    if channel.history is not None:
        facts["history"] = channel.history.total_seconds()
    if place.options.max_body is not None:
        facts["maxBody"] = place.options.max_body
    return facts


def _partitions(place: Place) -> int:
    return getattr(place.options, "partitions", None) or DEFAULT_PARTITIONS


def _in_words(channel: Channel[Any, Any]) -> str:
    words = [_KINDS["reply queue" if channel._namespace else channel._kind_of_channel]]
    if channel.ordered:
        made_of = key_text(channel.key_of) if channel.key_of is not None else None
        named = f" (made of `{made_of}`)" if made_of else ""
        words.append(f"Messages of one key{named} are handled in the order sent.")
    if channel.ttl is not None:
        words.append(f"A message that was not handled after {duration(channel.ttl)} is dropped.")
    if channel.history is not None:
        words.append(f"It can be replayed: its history goes back {duration(channel.history.total_seconds())}.")
    return " ".join(words)
