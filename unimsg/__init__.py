"""One messaging API over RabbitMQ, Kafka and Google Cloud Pub/Sub, with the same observable behaviour on each."""

from typing import TYPE_CHECKING, Any

from unimsg._connect import connect, run
from unimsg._message import Message
from unimsg._sending import Sender
from unimsg._survey import Survey
from unimsg.bus import Bus
from unimsg.channel import Queue, ReplyQueue, Topic, message
from unimsg.codecs import Codec
from unimsg.context import Context
from unimsg.dead_letters import DeadLetter
from unimsg.errors import (
    AuthenticationError,
    BusClosed,
    CapabilityError,
    ConfigurationError,
    ConnectError,
    DecodeError,
    EncodeError,
    MessageTooLarge,
    PermissionDenied,
    PublishError,
    PublishForbidden,
    PublishRejected,
    PublishUnconfirmed,
    Refused,
    RemoteError,
    RequestTimeout,
    TopologyError,
    UnimsgError,
    Unroutable,
)
from unimsg.health import Health
from unimsg.retry import Reject, Retry, RetryAfter
from unimsg.service import Service
from unimsg.store import MemoryStore, Store

if TYPE_CHECKING:
    from unimsg.config import Settings

__all__ = [
    "AuthenticationError",
    "Bus",
    "BusClosed",
    "CapabilityError",
    "Codec",
    "ConfigurationError",
    "ConnectError",
    "Context",
    "DeadLetter",
    "DecodeError",
    "EncodeError",
    "Health",
    "MemoryStore",
    "Message",
    "MessageTooLarge",
    "PermissionDenied",
    "PublishError",
    "PublishForbidden",
    "PublishRejected",
    "PublishUnconfirmed",
    "Queue",
    "Refused",
    "Reject",
    "RemoteError",
    "ReplyQueue",
    "RequestTimeout",
    "Retry",
    "RetryAfter",
    "Sender",
    "Service",
    "Settings",
    "Store",
    "Survey",
    "Topic",
    "TopologyError",
    "UnimsgError",
    "Unroutable",
    "connect",
    "message",
    "run",
]


def __getattr__(name: str) -> Any:  # a class of the module below
    """`Settings` is imported when it is asked for: pydantic takes longer to import than all of unimsg."""
    if name == "Settings":
        from unimsg.config import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
