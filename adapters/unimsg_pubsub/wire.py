"""A message as Pub/Sub carries it, in both directions; exact bytes, attributes as text."""

from typing import Any

from google.pubsub_v1 import types

from unimsg.adapter import Wire
from unimsg.errors import MessageTooLarge, PublishError, Refused
from unimsg_pubsub import derived

# The protobuf classes behind Google's typed ones cost a third of the time per message. They are built at run time:
# no type checker can know them.
PubsubMessage: Any = types.PubsubMessage.pb()
ReceivedMessage: Any = types.ReceivedMessage.pb()

PREFIX = "ce-"
ID, KEY = f"{PREFIX}id", f"{PREFIX}partitionkey"
INBOX = "unimsg-inbox"
"""Attribute that names the inbox a message on the shared topic of replies is for."""

SOURCE = "CloudPubSubDeadLetterSourceSubscription"
"""Attribute of what Pub/Sub itself moved to a dead-letter topic."""
DEAD_PREFIX = "unimsg-dead-"
"""Of the headers that the core reads a dead letter from."""

# Attributes that Pub/Sub and its clients add for themselves.
BOOKKEEPING = ("goog", "CloudPubSub", INBOX)

# Limits of the service (Pub/Sub quotas and limits, "Resource limits"); the emulator enforces none of these.
MOST_ATTRIBUTES = 100
MOST_NAME_BYTES = 256
MOST_VALUE_BYTES = 1024
MOST_KEY_BYTES = 1024
MOST_BYTES = 10_000_000 - 10_000
"""Of a message, and of a whole request: 10 MB less what the request adds around the messages."""


def encode(wire: Wire, *, ordered: bool, inbox: str | None) -> Any:
    """`wire` as a protobuf message. `inbox`: whom it is for, on the topic of replies."""
    attributes = {**wire.headers, ID: wire.id}
    if wire.key is not None:
        attributes[KEY] = wire.key
    if inbox is not None:
        attributes[INBOX] = inbox
    return PubsubMessage(data=wire.body, attributes=attributes, ordering_key=(wire.key or "") if ordered else "")


def refusal(message: Any, channel: str, message_id: str) -> PublishError | None:
    """Why Pub/Sub would not take this message, None if it would."""
    size: int = message.ByteSize()
    if size > MOST_BYTES:
        text = f"pubsub: {channel}: a message of {size} bytes with its headers; at most {MOST_BYTES}: send a reference"
        return MessageTooLarge(text, channel=channel, message_id=message_id)
    attributes = message.attributes
    if len(attributes) > MOST_ATTRIBUTES:
        problem = f"{len(attributes)} headers, id and key included; at most {MOST_ATTRIBUTES}"
    elif size - len(message.data) <= MOST_NAME_BYTES:  # nothing in it can be too long
        return None
    elif len(message.ordering_key.encode()) > MOST_KEY_BYTES:
        problem = f"a key of more than {MOST_KEY_BYTES} bytes"
    elif long := next((name for name, value in attributes.items() if _too_long(name, value)), None):
        problem = f"header {long[:40]!r}: at most {MOST_NAME_BYTES} bytes of name and {MOST_VALUE_BYTES} of value"
    else:
        return None
    return Refused(f"pubsub: {channel}: {problem}", channel=channel, message_id=message_id)


def _too_long(name: str, value: str) -> bool:
    return len(name.encode()) > MOST_NAME_BYTES or len(value.encode()) > MOST_VALUE_BYTES


def decode(message: Any) -> Wire:
    """A protobuf message as a Wire, whoever wrote it."""
    headers = dict(message.attributes)
    message_id = headers.pop(ID, "") or message.message_id
    key = headers.pop(KEY, None) or message.ordering_key or None
    if any(name.startswith(BOOKKEEPING) for name in headers):
        record = _record(headers[SOURCE], message) if SOURCE in headers else {}
        headers = {name: value for name, value in headers.items() if not name.startswith(BOOKKEEPING)} | record
    return Wire(message_id, message.data, headers, key)


def _record(source: str, message: Any) -> dict[str, str]:
    """A dead letter's, as far as Pub/Sub knows it. `source`: the subscription that it was moved from."""
    return {
        f"{DEAD_PREFIX}reason": "delivery-limit",
        f"{DEAD_PREFIX}attempts": "0",
        f"{DEAD_PREFIX}origin": derived.owner_of(source).replace("..", "/"),
        f"{DEAD_PREFIX}last-failed": message.publish_time.ToJsonString(),
    }
