"""Delay queues: one for each step that messages to an address are kept back by.

RabbitMQ moves what has waited its queue's time-to-live to where it is due, at least once. All messages of one queue
wait equally long, so that the one at its head is the next one due. No `x-expires`: it would delete the queue with what
waits in it.
"""

from functools import lru_cache
from math import ceil

from unimsg.adapter import Address, Kind

MAX_DELAY = 24 * 3600.0
"""Seconds. RabbitMQ itself could do more: it is what all brokers can."""
UNITS = (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))

Arguments = dict[str, bool | int | str]


@lru_cache(maxsize=1024)
def delay_queue(address: Address, delay: float) -> str:
    """Where messages to `address` wait `delay` seconds: `orders..retry.10s`; of a topic, whose subscriptions all get
    what is due, `placed..delay.10s`."""
    time = _milliseconds(delay)
    step = next(f"{time // size}{unit}" for unit, size in UNITS if time % size == 0)
    return f"{delays_of(address)}.{step}" if is_topic(address) else f"{address.name}..retry.{step}"


def delays_of(topic: Address) -> str:
    """The exchange behind the delay queues of a topic: what is due goes on to the topic, and to a queue that drops it.
    Without that, RabbitMQ would keep what no subscription takes, and give it to the first one that comes."""
    return f"{topic.channel}..delay"


def delay_queues(address: Address, delays: tuple[float, ...]) -> list[tuple[str, Arguments]]:
    """Names and arguments, in the order of making them. Each is made after what it leads to: what is due
    before that exists is looked at again only after minutes."""
    queues: list[tuple[str, Arguments]] = []
    if delays and is_topic(address):
        queues.append((delays_of(address), {"x-queue-type": "quorum", "x-max-length": 0}))  # drops all, and confirms it
    for delay in delays:
        arguments: Arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": _milliseconds(delay),
            "x-dead-letter-exchange": delays_of(address) if is_topic(address) else "",
            "x-dead-letter-routing-key": "" if is_topic(address) else address.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": -1,  # looking at what waits must not make it due
        }
        queues.append((delay_queue(address, delay), arguments))
    return queues


def is_topic(address: Address) -> bool:
    """Whether what is due goes to all subscriptions."""
    return address.kind is Kind.TOPIC and address.subscription is None


def _milliseconds(delay: float) -> int:
    """Rounded up: never too early. 0.29 s are 290 ms, whatever floating point makes of it."""
    return max(1, ceil(round(delay * 1000, 3)))
