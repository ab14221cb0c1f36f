"""The headers that messages carry: CloudEvents attributes, as the broker's binding names them."""

from typing import Any

from unimsg._message import CONTENT_TYPE
from unimsg.asyncapi._schemas import COMPONENTS

Json = dict[str, Any]

_ATTRIBUTES: dict[str, Json] = {
    "id": {"type": "string", "minLength": 1, "maxLength": 128, "description": "the message's id, the same in a repeat"},
    "specversion": {"type": "string", "const": "1.0", "description": "of CloudEvents"},
    "source": {"type": "string", "description": "the service that sent it"},
    "type": {"type": "string", "description": "which message it is"},
    "time": {"type": "string", "format": "date-time", "description": "when it was made"},
    "messagekind": {"type": "string", "enum": ["command", "event", "document"]},
    "partitionkey": {"type": "string", "description": "the key, where the message has one"},
    "correlationid": {
        "type": "string",
        "description": "the conversation: the id of its first message, which is without this header itself",
    },
    "causationid": {"type": "string", "description": "the id of the message whose handling sent this one"},
    "expirytime": {"type": "string", "format": "date-time", "description": "not to be handled any more after it"},
}
_REPLY_TO: Json = {"type": "string", "description": "where a reply is to be sent"}
_ALWAYS = ("id", "specversion", "source", "type", "time", "messagekind")
"""unimsg writes these on each message; of foreign messages it needs none."""


def component_name(kind: str) -> str:
    """No class can have this name."""
    return f"{kind}-headers"


def headers_of(prefix: str) -> Json:
    """All that a message may carry, on a broker with this prefix."""
    properties: Json = {f"{prefix}{name}": schema for name, schema in _ATTRIBUTES.items()}
    properties[f"{prefix}replyto"] = _REPLY_TO
    properties[CONTENT_TYPE] = {"type": "string", "description": "the media type of the body"}
    return {"type": "object", "properties": properties}


def message_headers(
    kind: str, prefix: str, *, type: str | None, message_kind: str, key: bool, expires: bool, is_written: bool
) -> Json:
    """Of one message. `type`: None where any is read. `is_written`: it is sent by unimsg, not only received."""
    own: Json = {"properties": {f"{prefix}messagekind": {"const": message_kind}}}
    if type is not None:
        own["properties"][f"{prefix}type"] = {"const": type}
    if is_written:
        more = [name for name, said in (("partitionkey", key), ("expirytime", expires)) if said]
        own["required"] = [*(f"{prefix}{name}" for name in (*_ALWAYS, *more)), CONTENT_TYPE]
    return {"allOf": [{"$ref": COMPONENTS + component_name(kind)}, own]}


def correlations_of(kind: str, prefix: str) -> dict[str, Json]:
    """How messages belong together: those of one conversation, and a reply to its request."""
    return {
        conversation(kind): {
            "location": f"$message.header#/{prefix}correlationid",
            "description": "the same for everything that followed from one first message",
        },
        request(kind): {
            "location": f"$message.header#/{prefix}causationid",
            "description": "of a reply: the id of the request",
        },
    }


def conversation(kind: str) -> str:
    return f"{kind}-conversation"


def request(kind: str) -> str:
    return f"{kind}-request"
