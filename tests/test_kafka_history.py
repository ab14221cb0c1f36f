"""How long a topic on Kafka keeps what it has, and from where to where its history is read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed
from unimsg_kafka import history
from unimsg_kafka.keeping import forgets, with_history
from unimsg_kafka.options import KafkaOptions
from unimsg_kafka.topics import Topic, Topics

from unimsg.adapter import Address, ChannelMissing, Kind

TOPIC = Address("placed", Kind.TOPIC)
DAY = timedelta(days=1)


def test_a_topic_is_made_to_keep_its_history_and_never_less_than_kafka_does() -> None:
    kept = {"retention.bytes": "-1", "cleanup.policy": "delete"}
    assert with_history(KafkaOptions(), None).config == {}
    assert with_history(KafkaOptions(), timedelta(hours=1)).config == {**kept, "retention.ms": "604800000"}
    assert with_history(KafkaOptions(), 30 * DAY).config == {**kept, "retention.ms": "2592000000"}
    given = KafkaOptions(config={"retention.ms": "-1", "segment.ms": "1000"})
    assert with_history(given, 30 * DAY).config == {**kept, "retention.ms": "-1", "segment.ms": "1000"}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, []),
        ({"retention.ms": "-1"}, []),
        ({"retention.ms": "86400000"}, []),
        ({"retention.ms": "86399999"}, ["topic placed retention.ms"]),
        ({"retention.bytes": "1000000"}, ["topic placed retention.bytes"]),
        ({"cleanup.policy": "compact,delete"}, ["topic placed cleanup.policy"]),
    ],
)
def test_a_topic_that_forgets_too_soon_is_told(changed: Mapping[str, str], what: list[str]) -> None:
    real = {"retention.ms": "604800000", "retention.bytes": "-1", "cleanup.policy": "delete", **changed}
    assert [each.what for each in forgets("placed", real, DAY)] == what


class Fake:
    """The topics of a cluster where a record is written to partition 1 whenever its end was asked for."""

    def __init__(self, topic: Topic | None) -> None:
        self.topic = topic
        self.end = 5

    async def get(self, name: str) -> Topic:
        if self.topic is None:
            raise ChannelMissing(name)
        return self.topic

    async def ends(self, topic: Topic) -> dict[Any, int]:
        ends = {TopicPartition(topic.name, 0): 3, TopicPartition(topic.name, 1): self.end}
        self.end += 1
        return ends

    async def since(self, topic: Topic, moment: datetime, ends: Mapping[Any, int]) -> dict[Any, int]:
        return {TopicPartition(topic.name, 0): 3, TopicPartition(topic.name, 1): 2}


async def test_the_history_ends_where_its_reading_began() -> None:
    topics = cast("Topics", Fake(Topic("placed", 2, 1, True)))  # stands in for one
    found = await history._stretches(topics, TOPIC, datetime.now(UTC))
    assert found == {TopicPartition("placed", 1): history.Waiting(2, 5)}
    with pytest.raises(ChannelMissing):
        await history._stretches(cast("Topics", Fake(None)), TOPIC, datetime.now(UTC))
