"""What AsyncAPI tells of one broker only: its bindings of channels, operations and messages."""

from typing import Any

from unimsg.asyncapi._places import Place
from unimsg.asyncapi._servers import virtual_host

Json = dict[str, Any]

_AMQP: Json = {"bindingVersion": "0.3.0"}
_KAFKA: Json = {"bindingVersion": "0.5.0"}
_PUBSUB: Json = {"bindingVersion": "0.2.0"}
_LISTS_OF_KAFKA = ("cleanup.policy",)
_NUMBERS_OF_KAFKA = ("retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes")


def channel_bindings(place: Place, *, is_topic: bool, partitions: int) -> Json:
    """`partitions`: of an ordered channel; RabbitMQ has a queue for each. Of Pub/Sub no bindings: its own are about
    schemas that Pub/Sub keeps, of which unimsg uses none."""
    if place.broker.kind == "rabbitmq":
        own: Json = {"name": place.name, "durable": True, "autoDelete": False, "vhost": virtual_host(place.broker)}
        parts = [f"p{number}" for number in range(partitions)]
        if is_topic:
            routing = {"x-routing-keys": parts} if parts else {}
            return {"amqp": {"is": "routingKey", "exchange": {**own, "type": "direct"}, **routing, **_AMQP}}
        queues = {"x-queues": [f"{place.name}..{part}" for part in parts]} if parts else {}
        return {"amqp": {"is": "queue", "queue": {**own, "exclusive": False}, **queues, **_AMQP}}
    if place.broker.kind == "kafka":
        options: Any = place.options  # its class is the adapter's, which is not imported here
        kafka: Json = {"topic": place.name, "partitions": options.partitions}
        if options.replication is not None:
            kafka["replicas"] = options.replication
        if options.config:
            kafka["topicConfiguration"] = {name: _kafka_value(name, text) for name, text in options.config.items()}
        return {"kafka": {**kafka, **_KAFKA}}
    return {}


def receive_bindings(place: Place, source: str) -> Json:
    """`source`: the broker's name of what is read: of a topic, of its subscription."""
    if place.broker.kind == "rabbitmq":
        return {"amqp": {"ack": True, **_AMQP}}
    if place.broker.kind == "kafka":
        return {"kafka": {"groupId": {"type": "string", "enum": [source]}, **_KAFKA}}
    return {}


def send_bindings(place: Place, *, is_topic: bool) -> Json:
    if place.broker.kind == "rabbitmq":
        return {"amqp": {"deliveryMode": 2, "mandatory": not is_topic, "timestamp": True, **_AMQP}}
    return {}


def message_bindings(place: Place, type: str, key: str | None) -> Json:
    """`key`: what it is made of, in words; None: the message has none."""
    if place.broker.kind == "rabbitmq":
        return {"amqp": {"messageType": type, **_AMQP}}
    if key is None:
        return {}
    if place.broker.kind == "kafka":
        return {"kafka": {"key": {"type": "string", "description": key}, **_KAFKA}}
    return {"googlepubsub": {"orderingKey": key, **_PUBSUB}} if place.broker.kind == "pubsub" else {}


def _kafka_value(name: str, text: str) -> Any:  # JSON, as the binding wants it
    if name in _NUMBERS_OF_KAFKA and text.removeprefix("-").isdecimal():
        return int(text)
    return [part.strip() for part in text.split(",")] if name in _LISTS_OF_KAFKA else text
