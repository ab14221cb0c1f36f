"""How a receiver that holds messages for long shares out what it may hold among its partitions."""

from types import SimpleNamespace

from aiokafka import TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed
from unimsg_kafka.assignment import Assignment
from unimsg_kafka.positions import Member, Position

from unimsg.mailbox import MAX_BYTES

PLACES = [TopicPartition("t", number) for number in range(4)]


def records(start: int, count: int, size: int = 1) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(topic="t", partition=0, offset=start + n, key=None, value=b"x" * size, headers=[])
        for n in range(count)
    ]


def assignment(shared: int, known: Position | None = None) -> Assignment:
    made = Assignment(Member("m", 1), PLACES, shared=shared)
    made.begin("id", {PLACES[0]: known} if known else {}, {})
    return made


def test_one_partition_takes_no_more_than_its_share() -> None:
    held = assignment(40)
    partition, batch = held.partitions[PLACES[0]], records(0, 25)
    taken = held.take(partition, batch)
    share = partition.share
    assert share is not None
    assert (len(taken), held.open, share.stopped_at, partition.mark.mark) == (10, 10, 10, 0)
    assert len(held.take(held.partitions[PLACES[1]], batch)) == 10

    goes_on = [share.remove(record) for record in batch[:10]]
    assert goes_on == [False] * 4 + [True] + [False] * 5, "at half, and once"
    assert share.stopped_at is None


def test_what_was_done_before_takes_no_room() -> None:
    known = assignment(40, Position(0, "u2:id:1,20")).partitions[PLACES[0]]
    taken = known.assignment.take(known, records(0, 25))
    assert [delivery.raw.offset for delivery in taken] == [0, 21, 22, 23, 24]  # type: ignore[attr-defined]  # a record
    assert known.share is not None
    assert known.share.stopped_at is None


def test_large_bodies_are_fewer() -> None:
    held = assignment(4000)
    partition = held.partitions[PLACES[0]]
    taken = held.take(partition, records(0, 20, MAX_BYTES // 16))
    assert len(taken) == 4
    assert len(held.take(partition, records(20, 1, 1))) == 0


def test_others_share_nothing() -> None:
    held = assignment(0)
    assert len(held.take(held.partitions[PLACES[0]], records(0, 25))) == 25


def test_what_is_held_there_is_not_stuck() -> None:
    for shared, says in ((40, None), (0, "partition 0, offset 0 is not settled for over 60 s")):
        held = assignment(shared)
        held.take(held.partitions[PLACES[0]], records(0, 1))
        held.partitions[PLACES[0]].moved -= 100
        assert held.stuck() == says
