"""Typed options: of a Kafka cluster, and of a channel on it."""

from typing import ClassVar, Literal

from pydantic import Field

from unimsg.options import BrokerOptions, ChannelOptions

Compression = Literal["gzip", "snappy", "lz4", "zstd"]
DEFAULT_PARTITIONS = 8
DEFAULT_DELIVERY_LIMIT = 10


class KafkaBrokerOptions(BrokerOptions):
    """Of a cluster: from the URL's query and from its configuration table."""

    username: str | None = None
    """The user of the SASL login; the URL's `user@` is the same."""
    sasl: Literal["plain", "scram-sha-256", "scram-sha-512"] | None = None
    """How to log in with `username` and `password`. `plain` shows the password to whoever sees the connection: it
    needs `kafkas://` unless all hosts are this machine."""
    session_timeout: float = Field(default=10.0, ge=6.0, le=300.0)
    """Seconds without a heartbeat after which the broker gives a dead receiver's partitions to others. The broker's
    own `group.min.session.timeout.ms` is 6 seconds by default."""


class KafkaOptions(ChannelOptions):
    """Options of a channel on Kafka. They hold for a topic that unimsg creates; of a topic that exists, those that are
    given explicitly are compared with it, and a difference is an error."""

    broker: ClassVar[str] = "kafka"

    partitions: int = Field(default=DEFAULT_PARTITIONS, ge=1, le=10_000)
    """How many partitions the topic has: at most as many receivers share its messages."""
    replication: int | None = Field(default=None, ge=1, le=100)
    """Copies of each partition; None: the cluster's own default."""
    compression: Compression | None = None
    """How this process compresses what it sends. All but gzip need the package `cramjam` at both ends."""
    config: dict[str, str] = Field(default_factory=dict)
    """Kafka's own topic settings, as it names them: {"retention.ms": "604800000"}."""
    dead_letter_config: dict[str, str] = Field(default_factory=dict)
    """The same of the topic of its dead letters, which is made like the channel's, but keeps them for ever:
    {"retention.ms": "2592000000"}."""
    delivery_limit: int = Field(default=DEFAULT_DELIVERY_LIMIT, ge=3, le=1000)
    """Deaths of processes while they handle one message, after which it is a dead letter. Shutdowns count as none."""
