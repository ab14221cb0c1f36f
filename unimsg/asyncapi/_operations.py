"""Operations of the document: what services receive, and what they send."""

from typing import TYPE_CHECKING, Any

from unimsg.asyncapi._bindings import receive_bindings, send_bindings
from unimsg.asyncapi._places import Place
from unimsg.asyncapi._uses import Use, about_handler, name_of
from unimsg.service import Handler, Service

if TYPE_CHECKING:
    from unimsg.config import Settings

Json = dict[str, Any]


def receive_of(
    service: Service[Any], handler: Handler, place: Place, settings: "Settings", messages: list[str]
) -> Json:
    """The operation of a handler. `messages`: their keys in the channel."""
    channel = handler.channel.name
    summary, description = about_handler(handler)
    source = f"{place.name}..{handler.subscription}" if handler.subscription else place.name
    made = _operation("receive", name_of(handler), channel, service, messages)
    if summary:
        made["summary"] = summary
    if description:
        made["description"] = description
    if bindings := receive_bindings(place, source):
        made["bindings"] = bindings
    made["x-unimsg"] = _facts(service, handler, settings, dead_letters=f"{source}..dead")
    return made


def send_of(service: Service[Any], use: Use, place: Place, messages: list[str]) -> Json:
    made = _operation("send", None, use.channel.name, service, messages)
    if bindings := send_bindings(place, is_topic=use.is_topic):
        made["bindings"] = bindings
    made["x-unimsg"] = {"service": service.name}
    return made


def reply_of(channel: str, prefix: str, messages: list[str]) -> Json:
    """How an operation on the channel is answered."""
    where = f"#/channels/{channel}..reply"
    return {
        "address": {
            "location": f"$message.header#/{prefix}replyto",
            "description": "where the sender of the request waits for its reply",
        },
        "channel": {"$ref": where},
        "messages": [{"$ref": f"{where}/messages/{key}"} for key in messages],
    }


def _operation(action: str, title: str | None, channel: str, service: Service[Any], messages: list[str]) -> Json:
    made: Json = {"action": action}
    if title:
        made["title"] = title
    made["channel"] = {"$ref": f"#/channels/{channel}"}
    made["messages"] = [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in messages]
    made["tags"] = [{"name": service.name}]
    return made


def _facts(service: Service[Any], handler: Handler, settings: "Settings", *, dead_letters: str) -> Json:
    """Seconds, where it is time."""
    said = settings.handler(handler.source)
    retry = said.retry if said.retry is not None else (handler.retry or service.retry).delays
    facts: Json = {"service": service.name, "handler": name_of(handler)}
    if handler.subscription:
        facts["subscription"] = handler.subscription
    facts["retry"] = list(retry)
    facts["timeout"] = said.timeout if said.timeout is not None else handler.timeout
    facts["deadLetters"] = dead_letters
    if handler.batching is not None:
        facts["batch"] = {"size": handler.batching.size, "within": handler.batching.within}
    if handler.store is not None:
        facts["handledOnce"] = True
    return facts
