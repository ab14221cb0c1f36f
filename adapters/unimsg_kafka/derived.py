"""Topics that belong to a channel: its dead letters, and the rooms where its messages wait.

They are made with the channel's options, but for how long they keep what they have: a channel that keeps its records
for an hour, or one per key, must lose neither dead letters nor what waits for longer than that.
"""

from collections.abc import Mapping

from unimsg.adapter import Address, Kind
from unimsg_kafka.options import KafkaOptions

COPY = 64 * 1024
"""Bytes that a copy may need above its original: what it says of its failures and of its wait, some 2,000 at most."""
_KEPT_FOR_EVER: Mapping[str, str] = {"retention.ms": "-1", "retention.bytes": "-1"}
_KEPT_A_WEEK: Mapping[str, str] = {"retention.ms": "604800000", "retention.bytes": "-1"}
"""Kafka deletes by age only, what was handled too. Longer than anything waits, and as long as by default a queue's own
messages are kept while nobody receives them."""
_OF_KEEPING = ("retention.", "local.retention.", "cleanup.policy", "max.message.bytes")


def dead_letters_of(address: Address) -> Address:
    """The dead-letter queue of a queue or subscription."""
    return Address(f"{address.name}..dead", Kind.QUEUE)


def is_dead_letters(address: Address) -> bool:
    return address.kind is Kind.QUEUE and address.channel.endswith("..dead")


def is_room(address: Address) -> bool:
    """Whether messages are held there for as long as they are to wait."""
    _, found, last = address.channel.rpartition("..")
    return address.kind is Kind.QUEUE and bool(found) and last.split(".")[0] in ("retry", "delay")


def origin(address: Address) -> str | None:
    """The topic of the channel that it belongs to; None: it is a channel itself."""
    return address.channel.split("..")[0] if is_dead_letters(address) or is_room(address) else None


def made_with(address: Address, options: KafkaOptions, limit: int) -> KafkaOptions:
    """The channel's `options`, as they are for making a topic that belongs to it. `limit`: the bytes of the largest
    batch that the channel takes."""
    config = {name: value for name, value in options.config.items() if not name.startswith(_OF_KEEPING)}
    config |= {"cleanup.policy": "delete", "max.message.bytes": str(limit + COPY)}
    if is_dead_letters(address):
        # One partition: nobody receives from it but redrive, and what is browsed and put back is in order.
        return _changed(options, config={**config, **_KEPT_FOR_EVER, **options.dead_letter_config}, partitions=1)
    # The channel's own number: who holds a message handles it, so as many processes share these as share those.
    return _changed(options, config={**config, **_KEPT_A_WEEK})


def compared_with(address: Address, options: KafkaOptions) -> KafkaOptions:
    """What of the channel's `options` such a topic must have if it exists: an operator may have changed the rest."""
    given = {name: getattr(options, name) for name in ("replication", "max_body") if name in options.model_fields_set}
    return KafkaOptions(**given, config=options.dead_letter_config if is_dead_letters(address) else {})


def _changed(options: KafkaOptions, **values: object) -> KafkaOptions:
    return options.model_copy(update={**values, "max_body": None})
