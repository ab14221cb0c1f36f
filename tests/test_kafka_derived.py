"""What the topics are made with that belong to a channel: its dead letters, and the rooms where its messages wait."""

import pytest
from unimsg_kafka.browsing import Waiting
from unimsg_kafka.derived import compared_with, is_dead_letters, is_room, made_with, origin
from unimsg_kafka.offsets import Run
from unimsg_kafka.options import KafkaOptions

from unimsg.adapter import Address, Kind

DEAD = Address("orders..dead", Kind.QUEUE)
ROOM = Address("placed..billing..retry.5m", Kind.QUEUE)


@pytest.mark.parametrize(
    ("address", "channel", "dead", "room"),
    [
        (Address("orders", Kind.QUEUE), None, False, False),
        (Address("orders.dead", Kind.QUEUE), None, False, False),
        (Address("placed", Kind.TOPIC, "dead"), None, False, False),
        (DEAD, "orders", True, False),
        (Address("orders..retry", Kind.QUEUE), "orders", False, True),
        (ROOM, "placed", False, True),
        (Address("placed..delay.24h", Kind.QUEUE), "placed", False, True),
        (Address("placed..retry..dead", Kind.QUEUE), "placed", True, False),
    ],
)
def test_what_belongs_to_a_channel(address: Address, channel: str | None, dead: bool, room: bool) -> None:
    assert (origin(address), is_dead_letters(address), is_room(address)) == (channel, dead, room)


def test_they_keep_what_they_have_however_short_the_channel_does() -> None:
    options = KafkaOptions(
        partitions=24,
        replication=3,
        config={"retention.ms": "1000", "retention.bytes": "1", "cleanup.policy": "compact", "segment.ms": "1000"},
    )
    dead, room = made_with(DEAD, options, 1000), made_with(ROOM, options, 1000)
    kept = {"cleanup.policy": "delete", "max.message.bytes": "66536", "segment.ms": "1000", "retention.bytes": "-1"}
    assert dead.config == {**kept, "retention.ms": "-1"}
    assert room.config == {**kept, "retention.ms": "604800000"}
    assert (dead.replication, room.replication) == (3, 3)
    assert (dead.partitions, room.partitions) == (1, 24)


def test_what_was_said_of_dead_letters_counts() -> None:
    options = KafkaOptions(dead_letter_config={"retention.ms": "5000"})
    assert made_with(DEAD, options, 1).config["retention.ms"] == "5000"
    assert made_with(ROOM, options, 1).config["retention.ms"] == "604800000"
    assert compared_with(DEAD, options).config == {"retention.ms": "5000"}
    assert compared_with(ROOM, options).config == {}


def test_an_operator_may_change_what_nobody_declared() -> None:
    options = KafkaOptions(partitions=24, config={"retention.ms": "1000"}, max_body=5_000_000)
    assert compared_with(DEAD, options) == KafkaOptions(max_body=5_000_000)
    assert not compared_with(DEAD, KafkaOptions()).model_fields_set - {"config"}


def test_what_waits_is_told_from_what_is_done() -> None:
    place = Waiting(10, 20, [Run(12, 14), Run(17, 18)])
    assert [offset for offset in range(8, 22) if offset in place] == [10, 11, 14, 15, 16, 18, 19]
    assert place.count == 7
