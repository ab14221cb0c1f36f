"""unimsg on RabbitMQ: options of channels, and the client's own message."""

from typing import TYPE_CHECKING

from aiormq.abc import DeliveredMessage

from unimsg_rabbitmq.options import RabbitOptions

if TYPE_CHECKING:
    from typing import Any

    from unimsg import Message

__all__ = ["RabbitOptions", "delivery"]


def delivery(message: "Message[Any]") -> DeliveredMessage:  # Any: the body's type does not matter here
    """What RabbitMQ delivered: delivery, header and body as aiormq has them. Settle nothing through it.

    Raises:
        TypeError: the message did not come from RabbitMQ.
    """
    if not isinstance(message.raw, DeliveredMessage):
        raise TypeError("the message was not received from RabbitMQ")
    return message.raw
