"""Who is measured on which broker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from benchmarks.rows import COUNTS, Row

PUBLISHING = frozenset(row for row in Row if row.publishes)
ASKING = frozenset(row for row in Row if row.asks)
CONSUMING = frozenset({Row.CONSUME_1, Row.CONSUME_50})
ORDERED = frozenset({Row.ORDERED_64})
RETRYING = frozenset({Row.RETRY_64})
PLAIN = frozenset(Row) - ORDERED - RETRYING - ASKING
DOCUMENTED = PUBLISHING | CONSUMING
"""Where FastStream is measured; the rows beyond these are for what policies cost."""


class Group(Enum):
    UNIMSG = auto()
    RAW = auto()
    FASTSTREAM = auto()
    TUNED = auto()
    """Shown with its ratio, no goal: the raw client with settings that its documentation does not show."""
    WEAKER = auto()
    """Shown, not compared: it keeps less than unimsg does."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant, by the place of its class: only its own process imports it."""

    name: str
    group: Group
    path: str
    rows: frozenset[Row] = PLAIN
    shares: Mapping[Row, float] = field(default_factory=dict)
    """The part of a row's messages that it is given, where all would take it minutes. Figures are per message."""

    def count(self, broker: str, row: Row, wanted: int | None) -> int:
        return max(100, int((wanted or COUNTS[broker][row]) * self.shares.get(row, 1.0)))


ENTRIES: Mapping[str, tuple[Entry, ...]] = {
    "rabbitmq": (
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:Unimsg"),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgOrdered", ORDERED),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgRetrying", RETRYING),
        Entry("aio-pika", Group.RAW, "benchmarks.raw_rabbitmq:AioPika"),
        Entry("aio-pika", Group.RAW, "benchmarks.policies_rabbitmq:AioPikaOrdered", ORDERED),
        Entry("aio-pika", Group.RAW, "benchmarks.policies_rabbitmq:AioPikaRetrying", RETRYING),
        Entry("FastStream", Group.FASTSTREAM, "benchmarks.faststream_rabbitmq:FastStreamRabbit", DOCUMENTED),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgAsking", ASKING),
        Entry("aio-pika, reply queue", Group.RAW, "benchmarks.requests_rabbitmq:AioPikaTutorial", ASKING),
        Entry("aio-pika, direct reply-to", Group.RAW, "benchmarks.requests_rabbitmq:AioPikaDirect", ASKING),
        Entry("aio-pika, RPC", Group.WEAKER, "benchmarks.requests_rabbitmq:AioPikaRpc", ASKING),
        Entry(
            "aio-pika, direct reply-to, no confirms",
            Group.WEAKER,
            "benchmarks.requests_rabbitmq:AioPikaDirectUnconfirmed",
            ASKING,
        ),
        Entry("FastStream", Group.FASTSTREAM, "benchmarks.faststream_rabbitmq:FastStreamAsking", ASKING),
    ),
    "kafka": (
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgWithKeys"),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgOrdered", ORDERED),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgRetryingWithKeys", RETRYING),
        Entry("aiokafka", Group.RAW, "benchmarks.raw_kafka:AiokafkaAsDocumented", PUBLISHING),
        Entry("aiokafka, 256 KB batches", Group.TUNED, "benchmarks.raw_kafka:Aiokafka", PUBLISHING),
        Entry("aiokafka, getmany + commit", Group.RAW, "benchmarks.raw_kafka:Aiokafka", PLAIN - PUBLISHING),
        Entry("aiokafka, getmany + commit", Group.RAW, "benchmarks.policies_kafka:AiokafkaOrdered", ORDERED),
        Entry("aiokafka, getmany + commit", Group.RAW, "benchmarks.policies_kafka:AiokafkaRetrying", RETRYING),
        Entry(
            "aiokafka, commit every 100",
            Group.RAW,
            "benchmarks.raw_kafka:AiokafkaCommitEvery100",
            CONSUMING,
            {Row.CONSUME_1: 0.2, Row.CONSUME_50: 0.2},
        ),
        Entry(
            "aiokafka, commit each",
            Group.RAW,
            "benchmarks.raw_kafka:AiokafkaCommitEach",
            CONSUMING,
            {Row.CONSUME_1: 0.01, Row.CONSUME_50: 0.01},
        ),
        Entry(
            "FastStream",
            Group.FASTSTREAM,
            "benchmarks.faststream_kafka:FastStreamKafka",
            DOCUMENTED,
            {Row.CONCURRENT: 0.2, Row.PIPELINE: 0.2, Row.CONSUME_1: 0.01, Row.CONSUME_50: 0.01},
        ),
        Entry(
            "FastStream, batch",
            Group.FASTSTREAM,
            "benchmarks.faststream_kafka:FastStreamKafkaBatch",
            CONSUMING,
            {Row.CONSUME_1: 0.4, Row.CONSUME_50: 0.4},
        ),
        Entry(
            "FastStream, auto commit",
            Group.WEAKER,
            "benchmarks.faststream_kafka:FastStreamKafkaAutoCommit",
            CONSUMING,
            {Row.CONSUME_1: 0.2, Row.CONSUME_50: 0.2},
        ),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgAsking", ASKING),
        Entry("aiokafka, reply topic", Group.RAW, "benchmarks.requests_kafka:AiokafkaReplyTopic", ASKING),
        Entry(
            "aiokafka, reply topic, auto commit",
            Group.WEAKER,
            "benchmarks.requests_kafka:AiokafkaReplyTopicAutoCommit",
            ASKING,
        ),
    ),
    "pubsub": (
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:Unimsg"),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgOrdered", ORDERED),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgRetrying", RETRYING),
        Entry(
            "google-cloud-pubsub",
            Group.RAW,
            "benchmarks.raw_pubsub:GooglePubSub",
            shares={Row.EACH: 0.1},
        ),
        Entry("google-cloud-pubsub", Group.RAW, "benchmarks.policies_pubsub:GooglePubSubOrdered", ORDERED),
        Entry("google-cloud-pubsub", Group.RAW, "benchmarks.policies_pubsub:GooglePubSubRetrying", RETRYING),
        Entry("unimsg", Group.UNIMSG, "benchmarks.with_unimsg:UnimsgAsking", ASKING),
        Entry(
            "google-cloud-pubsub, reply topic",
            Group.RAW,
            "benchmarks.requests_pubsub:GoogleReplyTopic",
            ASKING,
            {Row.REQUEST_1: 0.2},
        ),
        Entry(
            "google-cloud-pubsub, reply topic, no batches",
            Group.RAW,
            "benchmarks.requests_pubsub:GoogleReplyTopicAtOnce",
            ASKING,
        ),
    ),
}

CHECKS = {"rabbitmq": "benchmarks.raw_rabbitmq", "kafka": "benchmarks.raw_kafka", "pubsub": "benchmarks.raw_pubsub"}
"""The module whose `read_back`, `unsettled` and `remove` look after every contestant of a broker."""
