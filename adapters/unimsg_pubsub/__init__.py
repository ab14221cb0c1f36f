"""unimsg on Google Cloud Pub/Sub: `pubsub://project`."""

from typing import TYPE_CHECKING, Any

from unimsg_pubsub.options import PubSubOptions

if TYPE_CHECKING:
    from google.pubsub_v1.types import ReceivedMessage

    from unimsg import Message

__all__ = ["PubSubOptions", "received"]


def received(message: "Message[Any]") -> "ReceivedMessage":
    """Pub/Sub's own message: publish time, message id, delivery attempt, all attributes.

    Raises:
        TypeError: `message` did not come from Pub/Sub.
    """
    from google.pubsub_v1.types import ReceivedMessage

    raw = message.raw
    if not isinstance(raw, ReceivedMessage.pb()):
        raise TypeError("this message was not received from Pub/Sub")
    typed: ReceivedMessage = ReceivedMessage.wrap(raw)
    return typed
