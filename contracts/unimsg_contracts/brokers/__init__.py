"""The brokers that unimsg itself is proved on."""

from importlib import import_module

from unimsg_contracts.harness import Harness

KNOWN = {
    "memory": "unimsg_contracts.brokers.memory:MemoryHarness",
    "rabbitmq": "unimsg_contracts.brokers.rabbitmq:RabbitHarness",
    "kafka": "unimsg_contracts.brokers.kafka:KafkaHarness",
    "pubsub": "unimsg_contracts.brokers.pubsub:PubSubHarness",
}
"""By `--broker NAME`, where its harness is. Imported when it is used: each imports its broker's client."""


def load(path: str) -> type[Harness]:
    """The harness class at "package.module:Class".

    Raises:
        ImportError, AttributeError, TypeError: there is none.
    """
    module, _, name = path.partition(":")
    found = getattr(import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, Harness)):
        raise TypeError(f"{path} is no subclass of unimsg_contracts.Harness")
    return found
