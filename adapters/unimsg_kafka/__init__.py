"""unimsg on Apache Kafka. What a program needs of it beside a `kafka://` URL: the options of a channel, and the
client's own record of a message."""

from typing import TYPE_CHECKING, Any, cast

from aiokafka import ConsumerRecord  # type: ignore[import-untyped]  # aiokafka has no py.typed

from unimsg_kafka.options import KafkaOptions

if TYPE_CHECKING:
    from unimsg import Message

__all__ = ["KafkaOptions", "record"]


# Any: a message of whatever body. The record has bytes for key and value.
def record(message: "Message[Any]") -> "ConsumerRecord[bytes | None, bytes | None]":
    """The Kafka record that a received message came in: topic, partition, offset, timestamp, exact key and headers.

    Raises:
        TypeError: the message did not come from Kafka.
    """
    if not isinstance(message.raw, ConsumerRecord):
        raise TypeError("this message did not come from Kafka")
    return cast("ConsumerRecord[bytes | None, bytes | None]", message.raw)  # aiokafka is untyped
