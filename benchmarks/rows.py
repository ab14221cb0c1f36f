"""What is measured: the rows of the table, and the messages that every contestant sends or handles."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

BODY_BYTES = 256
HEADERS: Mapping[str, str] = {"tenant": "acme", "trace-id": "0af7651916cd43dd8448eb211c80319c"}
PARTITIONS = 8
"""Of a Kafka topic, and of ordered queues on RabbitMQ; what unimsg makes by default."""
LANES = 64
"""Keys, in turn."""
RETRY_DELAY = 0.1
"""Seconds from a failure to the next try."""
IN_FLIGHT = 1000
"""Unconfirmed messages in the rows `concurrent` and `pipeline`."""

_KEYS = [f"key-{number}" for number in range(LANES)]
_FAIL_ONE_IN = 20


class Row(StrEnum):
    EACH = "each"
    CONCURRENT = "concurrent"
    PIPELINE = "pipeline"
    CONSUME_1 = "consume-1"
    CONSUME_50 = "consume-50"
    CONSUME_64 = "consume-64"
    ORDERED_64 = "ordered-64"
    RETRY_64 = "retry-64"
    REQUEST_1 = "request-1"
    REQUEST_50 = "request-50"

    @property
    def publishes(self) -> bool:
        return self in (Row.EACH, Row.CONCURRENT, Row.PIPELINE)

    @property
    def asks(self) -> bool:
        """Whether each message is a request that waits for its reply."""
        return self in (Row.REQUEST_1, Row.REQUEST_50)

    @property
    def consumes(self) -> bool:
        return not (self.publishes or self.asks)

    @property
    def concurrency(self) -> int:
        """Handlers at once of a consuming row, or requests in flight."""
        return {Row.CONSUME_1: 1, Row.CONSUME_50: 50, Row.REQUEST_1: 1, Row.REQUEST_50: 50}.get(self, LANES)

    @property
    def plain(self) -> "Row | None":
        """The row with the same work but without what this one adds to it."""
        return Row.CONSUME_64 if self in (Row.ORDERED_64, Row.RETRY_64) else None

    @property
    def heading(self) -> str:
        return _HEADINGS[self]


_HEADINGS = {
    Row.EACH: "publish, await each",
    Row.CONCURRENT: f"publish, {IN_FLIGHT:,} concurrent",
    Row.PIPELINE: "publish, pipeline",
    Row.CONSUME_1: "consume, concurrency 1",
    Row.CONSUME_50: "consume, concurrency 50",
    Row.CONSUME_64: f"consume, concurrency {LANES}",
    Row.ORDERED_64: f"consume, {LANES} ordered lanes",
    Row.RETRY_64: f"consume, concurrency {LANES}, {100 // _FAIL_ONE_IN} % fail once",
    Row.REQUEST_1: "request, 1 in flight",
    Row.REQUEST_50: "request, 50 in flight",
}

COUNTS = {
    "rabbitmq": {
        Row.EACH: 2_000,
        Row.CONCURRENT: 10_000,
        Row.PIPELINE: 10_000,
        Row.CONSUME_1: 10_000,
        Row.CONSUME_50: 10_000,
        Row.CONSUME_64: 20_000,
        Row.ORDERED_64: 20_000,
        Row.RETRY_64: 20_000,
        Row.REQUEST_1: 1_000,
        Row.REQUEST_50: 5_000,
    },
    "kafka": {
        Row.EACH: 3_000,
        Row.CONCURRENT: 50_000,
        Row.PIPELINE: 100_000,
        Row.CONSUME_1: 200_000,
        Row.CONSUME_50: 200_000,
        Row.CONSUME_64: 200_000,
        Row.ORDERED_64: 200_000,
        Row.RETRY_64: 200_000,
        Row.REQUEST_1: 1_000,
        Row.REQUEST_50: 5_000,
    },
    "pubsub": {
        Row.EACH: 2_000,
        Row.CONCURRENT: 20_000,
        Row.PIPELINE: 20_000,
        Row.CONSUME_1: 5_000,
        Row.CONSUME_50: 5_000,
        Row.CONSUME_64: 5_000,
        Row.ORDERED_64: 5_000,
        Row.RETRY_64: 5_000,
        Row.REQUEST_1: 500,
        Row.REQUEST_50: 3_000,
    },
}
"""Messages by broker and row: a few seconds of work for the clients that are fast at it, so that the RETRY_DELAY with
which a row ends, when there is nothing else to do, is a small part of it."""


def prefetch(concurrency: int) -> int:
    """Unsettled deliveries: unimsg's default, given to every contestant that has such a limit."""
    return max(2 * concurrency, 20)


def bodies(count: int, *, first: int = 0) -> list[bytes]:
    """`count` bodies, each with its number. None is JSON: FastStream would decode it into something else."""
    filler = b"." * (BODY_BYTES - 9)
    return [b"#%08d%b" % (number, filler) for number in range(first, first + count)]


def number_of(body: bytes) -> int:
    return int(body[1:9])


def key_of(body: bytes) -> str:
    """Its key on Kafka, the same for every contestant, so that all fill the same partitions; on every broker where
    order is kept."""
    return _KEYS[number_of(body) % LANES]


def fails_once(number: int) -> bool:
    """Whether a message fails the first time that it is handled, in the row for that."""
    return number % _FAIL_ONE_IN == _FAIL_ONE_IN - 1


def windows(bodies: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Cut into pieces of IN_FLIGHT."""
    return [bodies[start : start + IN_FLIGHT] for start in range(0, len(bodies), IN_FLIGHT)]
