"""A document, looked at channel by channel: what is received there, and what is sent."""

from dataclasses import dataclass, field
from typing import Any

from unimsg.asyncapi._changes import Direction
from unimsg.asyncapi._references import as_list, as_object, name_of, resolved

Json = dict[str, Any]


@dataclass(slots=True)
class MessageView:
    """A message of a channel."""

    key: str
    type: str
    content_type: str
    """The media type, without parameters."""
    payload: Any
    facts: Json
    is_deprecated: bool
    direction: Direction = Direction.NONE

    @property
    def written(self) -> Any:
        """The payload as it is sent, where it is told from what is read."""
        return self.facts.get("written", self.payload)

    @property
    def is_any_type(self) -> bool:
        return self.facts.get("anyType") is True


@dataclass(slots=True)
class OperationView:
    action: str
    """receive or send."""
    service: str
    subscription: str
    reply: str
    """The channel of the replies; empty: there are none."""

    @property
    def name(self) -> str:
        """What stays the same as long as it is the same operation, for those at the other end."""
        return f"{self.action} {self.subscription}"


@dataclass(slots=True)
class ChannelView:
    """`name` is the key in the document; of replies, that of the channel that they answer."""

    name: str
    address: Any
    facts: Json
    protocols: list[str]
    messages: dict[str, MessageView]
    operations: list[OperationView] = field(default_factory=list)

    @property
    def direction(self) -> Direction:
        found = Direction.NONE
        for operation in self.operations:
            found |= _direction_of(operation.action)
        return found

    @property
    def is_reply(self) -> bool:
        return self.facts.get("channel") == "reply"

    @property
    def kind(self) -> str:
        """ "queue" or "topic"; empty: not said."""
        return str(self.facts.get("channel", ""))


def channels_of(document: Json) -> dict[str, ChannelView]:
    """By name."""
    default = str(document.get("defaultContentType") or "application/json")
    views: dict[str, ChannelView] = {}
    for name, part in as_object(document.get("channels")).items():
        channel = as_object(resolved(document, part))
        views[name] = ChannelView(
            name=name,
            address=channel.get("address"),
            facts=as_object(channel.get("x-unimsg")),
            protocols=_protocols(document, channel),
            messages={
                key: _message(document, key, each, default) for key, each in as_object(channel.get("messages")).items()
            },
        )
    for part in as_object(document.get("operations")).values():
        _add_operation(document, views, as_object(resolved(document, part)))
    return views


def _add_operation(document: Json, views: dict[str, ChannelView], operation: Json) -> None:
    view = views.get(name_of(operation.get("channel")))
    if view is None:
        return
    facts = as_object(operation.get("x-unimsg"))
    reply = as_object(resolved(document, operation.get("reply")))
    answered = name_of(reply.get("channel"))
    action = str(operation.get("action"))
    view.operations.append(
        OperationView(action, str(facts.get("service", "")), str(facts.get("subscription", "")), answered)
    )
    _mark(view, operation, _direction_of(action))
    if answered in views:  # who receives a request sends its reply
        other = Direction.SENT if action == "receive" else Direction.RECEIVED
        _mark(views[answered], reply, other)


def _mark(view: ChannelView, part: Json, direction: Direction) -> None:
    """Its messages go in this direction: those that it names, or all."""
    named = [name_of(each) for each in as_list(part.get("messages"))]
    for key in named or view.messages:
        if key in view.messages:
            view.messages[key].direction |= direction


def _direction_of(action: str) -> Direction:
    return Direction.RECEIVED if action == "receive" else Direction.SENT


def _message(document: Json, key: str, part: Any, default: str) -> MessageView:
    message = as_object(resolved(document, part))
    content_type = str(message.get("contentType") or default)
    return MessageView(
        key=key,
        type=str(message.get("name") or key),
        content_type=content_type.partition(";")[0].strip().lower(),
        payload=message.get("payload"),
        facts=as_object(message.get("x-unimsg")),
        is_deprecated=message.get("deprecated") is True,
    )


def _protocols(document: Json, channel: Json) -> list[str]:
    """What its servers speak, told apart no further than who sends has to."""
    servers = as_list(channel.get("servers")) or list(as_object(document.get("servers")).values())
    found = {str(as_object(resolved(document, each)).get("protocol", "")).lower() for each in servers}
    return sorted({_FAMILIES.get(each, each) for each in found if each})


_FAMILIES = {"amqps": "amqp", "kafka-secure": "kafka"}
