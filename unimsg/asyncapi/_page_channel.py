"""A channel on the page: who sends, who receives, and what."""

import re
from typing import Any

from unimsg.asyncapi._markup import Markup, joined, prose, tag
from unimsg.asyncapi._page_body import message_of
from unimsg.asyncapi._references import as_list, as_object, name_of, resolved
from unimsg.asyncapi._words import duration

Json = dict[str, Any]

_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]")


def anchor_of(*names: str) -> str:
    return "-".join(_UNUSUAL.sub("_", name) for name in names)


def section_of(document: Json, name: str, channel: Json, operations: list[Json]) -> Markup:
    """`operations`: those on the channel."""
    anchor = anchor_of("channel", name)
    sent = [each for each in operations if each.get("action") == "send"]
    received = [each for each in operations if each.get("action") == "receive"]
    return tag(
        "section",
        tag("h3", tag("code", name), *badges_of(channel), id=anchor),
        _address(name, channel),
        prose(_text(channel.get("description"))),
        tag("div", _side("Sent by", sent), _side("Received by", received), class_="columns sides"),
        _messages(document, name, channel, level=4),
        _replies(document, name, operations),
        class_="channel",
        aria_labelledby=anchor,
    )


def badges_of(channel: Json) -> list[Markup]:
    facts = as_object(channel.get("x-unimsg"))
    kind = str(facts.get("channel", ""))
    said = "reply queue" if facts.get("replies") is True else kind
    found = (
        [joined(" ", tag("span", said, class_=f"badge {kind}" if kind in ("queue", "topic") else "badge"))]
        if kind
        else []
    )
    if facts.get("ordered") is True:
        found.append(joined(" ", tag("span", f"ordered by {facts.get('key', 'key')}", class_="badge")))
    for name, words in (("ttl", "expires after"), ("history", "history of")):
        if isinstance(facts.get(name), int | float):
            found.append(joined(" ", tag("span", f"{words} {duration(facts[name])}", class_="badge")))
    return found


def _address(name: str, channel: Json) -> Markup | None:
    address = channel.get("address")
    servers = [name_of(each) for each in as_list(channel.get("servers"))]
    where = f"on {', '.join(filter(None, servers))}" if any(servers) else ""
    if not isinstance(address, str) or (address == name and not where):
        return None
    return tag("p", tag("code", address), f" {where}".rstrip(), class_="facts")


def _side(title: str, operations: list[Json]) -> Markup:
    inner = [_operation(each) for each in operations]
    nobody = tag("p", "nobody in this document", class_="facts")
    return tag("div", tag("h4", title), tag("ul", *inner, class_="operations") if inner else nobody)


def _operation(operation: Json) -> Markup:
    facts = as_object(operation.get("x-unimsg"))
    more: list[str] = []
    if isinstance(facts.get("retry"), list):
        waits = [duration(each) for each in facts["retry"] if isinstance(each, int | float)]
        more.append(f"tried again after {', '.join(waits)}" if waits else "not tried again")
    batch = as_object(facts.get("batch"))
    if batch:
        more.append(f"in batches of up to {batch.get('size')}")
    if facts.get("handledOnce") is True:
        more.append("each message once")
    dead = facts.get("deadLetters")
    return tag(
        "li",
        tag("strong", service_of(operation)),
        tag("span", f" subscription {facts['subscription']}", class_="note") if facts.get("subscription") else None,
        joined(" ", tag("code", str(facts["handler"]))) if facts.get("handler") else None,
        prose(_text(operation.get("summary"))),
        prose(_text(operation.get("description"))),
        tag("p", "; ".join(more), class_="facts") if more else None,
        tag("p", "dead letters in ", tag("code", str(dead)), class_="facts") if dead else None,
    )


def service_of(operation: Json) -> str:
    """Of another maker's document the tag, or nothing better than "this application"."""
    named = as_object(operation.get("x-unimsg")).get("service")
    tags = [as_object(each).get("name") for each in as_list(operation.get("tags"))]
    return str(named or next(filter(None, tags), "this application"))


def _messages(document: Json, name: str, channel: Json, *, level: int) -> Markup:
    messages = as_object(channel.get("messages")).items()
    return joined(
        *(
            message_of(
                document,
                message := as_object(resolved(document, part)),
                anchor_of("message", name, str(key)),
                level=level,
                name=str(message.get("name") or key),
            )
            for key, part in messages
        )
    )


def _replies(document: Json, name: str, operations: list[Json]) -> Markup | None:
    replies = [as_object(resolved(document, each.get("reply"))) for each in operations]
    parts = {
        name_of(each.get("channel")): as_object(resolved(document, each.get("channel"))) for each in replies if each
    }
    if not parts:
        return None
    where = as_object(resolved(document, next(filter(None, replies)).get("address"))).get("location")
    return tag(
        "div",
        tag("h4", "Replies", id=anchor_of("replies", name)),
        tag("p", "sent to the address in ", tag("code", where), class_="facts") if isinstance(where, str) else None,
        *(_messages(document, key, channel, level=5) for key, channel in parts.items()),
        class_="replies",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
