"""One messaging API over RabbitMQ, Kafka and Google Cloud Pub/Sub, with the same observable behaviour on each."""

from unimsg._connect import connect, run
from unimsg._message import Message
from unimsg._sending import Sender
from unimsg.bus import Bus
from unimsg.channel import Queue, Topic, message
from unimsg.codecs import Codec
from unimsg.config import Settings
from unimsg.context import Context
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
from unimsg.service import Service

__all__ = [
    "AuthenticationError",
    "Bus",
    "BusClosed",
    "CapabilityError",
    "Codec",
    "ConfigurationError",
    "ConnectError",
    "Context",
    "DecodeError",
    "EncodeError",
    "Health",
    "Message",
    "MessageTooLarge",
    "PermissionDenied",
    "PublishError",
    "PublishForbidden",
    "PublishRejected",
    "PublishUnconfirmed",
    "Queue",
    "Refused",
    "RemoteError",
    "RequestTimeout",
    "Sender",
    "Service",
    "Settings",
    "Topic",
    "TopologyError",
    "UnimsgError",
    "Unroutable",
    "connect",
    "message",
    "run",
]
