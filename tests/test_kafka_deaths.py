"""Owners of a partition count each other's deaths: what they write, what the next one makes of it, and that a message
alone is handed out alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed
from test_kafka_receiver import ONE, TWO, Client, Group, offsets
from unimsg_kafka import caution, positions, receiver
from unimsg_kafka.deaths import NONE, Deaths, deaths_in, found, is_of_all, with_deaths
from unimsg_kafka.offsets import Run, done_above, log_of, written
from unimsg_kafka.positions import Position
from waiting import until

from unimsg.adapter import Address, Delivery, Kind

LIMIT = 5


# -- what is written


@pytest.mark.parametrize(
    ("count", "in_hands", "seen"), [(0, False, 0), (0, True, 1), (1, False, 1), (1, True, 2), (7, True, 8)]
)
def test_a_death_is_counted_unless_the_owner_left(count: int, in_hands: bool, seen: int) -> None:
    text = with_deaths(written("id", 5, [Run(7, 9)]), count, in_hands=in_hands)
    assert deaths_in(text) == seen
    assert is_of_all(text) is (in_hands and count < 2)
    assert done_above(5, text) == [Run(7, 9)]
    assert log_of(text) == "id"


@pytest.mark.parametrize("text", ["", "u2:id:", "u2:id:1,2", "a:b:c:7", "u1:id::7!", "u2:id::x", "u2:id::7:!", "of:a"])
def test_what_others_wrote_is_no_death(text: str) -> None:
    assert deaths_in(text) == 0


def test_the_first_that_is_not_settled_is_the_suspect() -> None:
    died = found(10, "u2:id::4!", window=20, end=100)
    assert died == Deaths(10, 5, 30)
    assert [died.at(mark) for mark in (None, 10, 11, 29, 30)] == [5, 5, 2, 2, 0]
    assert found(10, "u2:id::!", window=20, end=100).at(11) == 1


def test_what_was_not_there_killed_nobody() -> None:
    assert found(10, "u2:id::4!", window=20, end=12) == Deaths(10, 5, 12)
    assert found(10, "u2:id::4!", window=20, end=10) == NONE


# -- what a receiver makes of it


class Pausing(Client):
    def __init__(self) -> None:
        super().__init__()
        self.running: set[TopicPartition] = {ONE, TWO}
        self.sought: list[tuple[TopicPartition, int]] = []
        self.marks: dict[TopicPartition, int] = {}

    def pause(self, *places: TopicPartition) -> None:
        self.running -= set(places)

    def resume(self, *places: TopicPartition) -> None:
        self.running |= set(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.sought.append((place, offset))

    def highwater(self, place: TopicPartition) -> int | None:
        return self.marks.get(place)

    async def getmany(self, **limits: int) -> dict[TopicPartition, list[Any]]:
        try:
            async with asyncio.timeout(0.05):
                return await super().getmany(**limits)
        except TimeoutError:
            return {}


class Counting(Group):
    """One that keeps what was committed, and can be died of."""

    def __init__(self) -> None:
        super().__init__()
        self.receiver._limit = LIMIT
        self.end = {ONE: 100, TWO: 100}
        self.refuses = False

    def _client(self, **_settings: object) -> Client:
        self.made.append(Pausing())
        return self.client

    @property
    def running(self) -> set[TopicPartition]:
        assert isinstance(self.client, Pausing)
        return self.client.running

    async def ends(self, _topic: object) -> dict[TopicPartition, int]:
        return self.end

    async def commit(self, *commit: Any) -> bool:
        if self.refuses:
            raise ValueError("not now")
        self.at = {**self.at, **commit[3]}
        return await super().commit(*commit)

    def said(self, place: TopicPartition) -> str:
        return self.at[place].metadata.rpartition(":")[2]


@pytest.fixture
async def counting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counting]:
    group = Counting()
    monkeypatch.setattr(positions, "read", group.read)
    monkeypatch.setattr(positions, "commit", group.commit)
    yield group
    await group.receiver.aclose()


async def nothing_comes(group: Counting) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await group.receiver.receive()


def hints(deliveries: list[Delivery]) -> list[tuple[int | None, bool]]:
    return [(delivery.redelivered, delivery.given_up) for delivery in deliveries]


async def test_nothing_is_handed_out_before_the_broker_knows(counting: Counting) -> None:
    counting.refuses = True
    await counting.open()
    counting.client.give(ONE, 0, 1)
    await nothing_comes(counting)
    counting.refuses = False
    assert offsets(await counting.take(2)) == [0, 1]
    assert counting.at == {ONE: Position(0, "u2:id::!")}


async def test_it_is_said_once_and_taken_back_at_the_end(counting: Counting) -> None:
    await counting.open()
    counting.client.give(ONE, 0, 1)
    first = await counting.take(2)
    counting.client.give(ONE, 2, 3)
    await counting.take(2)
    assert counting.committed(ONE) == [0]
    await counting.receiver.ack(first)
    await counting.receiver.aclose()
    assert counting.at == {ONE: Position(2, "u2:id:")}


async def test_one_death_changes_nothing_but_the_count(counting: Counting) -> None:
    counting.at = {ONE: Position(0, "u2:id::!")}
    await counting.open()
    counting.client.give(ONE, 0, 1)
    assert hints(await counting.take(2)) == [(None, False)] * 2
    assert counting.said(ONE) == "1!"


async def test_after_two_they_come_one_at_a_time_and_before_all_others(counting: Counting) -> None:
    counting.at = {ONE: Position(0, "u2:id::1!")}
    counting.end[ONE] = 2
    await counting.open()
    assert counting.running == {ONE}
    counting.client.give(ONE, 0, 1)  # both, as an answer to a request from before
    [first] = await counting.take(1)
    assert (offsets([first]), hints([first])) == ([0], [(2, False)])
    assert counting.said(ONE) == "2!"
    assert isinstance(counting.client, Pausing)
    assert counting.client.sought == [(ONE, 1)]
    await nothing_comes(counting)
    await counting.receiver.ack([first])
    counting.client.give(ONE, 1)
    [second] = await counting.take(1)
    assert counting.at[ONE] == Position(1, "u2:id::2!")
    await counting.receiver.ack([second])
    await until(lambda: counting.running == {ONE, TWO}, "the end of caution")
    counting.client.give(ONE, 2, 3)
    assert hints(await counting.take(2)) == [(None, False)] * 2
    assert counting.at[ONE] == Position(2, "u2:id::!")


@pytest.mark.parametrize(("before", "given_up"), [(LIMIT - 2, False), (LIMIT - 1, True)])
async def test_at_the_limit_it_is_given_up_and_its_neighbour_is_not(
    counting: Counting, before: int, given_up: bool
) -> None:
    counting.at = {ONE: Position(0, f"u2:id::{before}!")}
    await counting.open()
    counting.client.give(ONE, 0)
    [first] = await counting.take(1)
    assert hints([first]) == [(before + 1, given_up)]
    await counting.receiver.ack([first])
    counting.client.give(ONE, 1)
    assert hints(await counting.take(1)) == [(2, False)]


async def test_what_is_not_handed_out_is_no_suspect_of_the_next_death(counting: Counting) -> None:
    """Two partitions are doubtful; the process dies of the message of one."""
    counting.at = dict.fromkeys((ONE, TWO), Position(0, "u2:id::1!"))
    await counting.open()
    counting.client.give(ONE, 0)
    await counting.take(1)
    assert [deaths_in(counting.at[place].metadata) for place in (ONE, TWO)] == [3, 2]


async def test_an_orderly_end_keeps_the_count_and_adds_none(counting: Counting) -> None:
    counting.at = {ONE: Position(0, "u2:id::3!")}
    await counting.open()
    counting.client.give(ONE, 0)
    held = await counting.take(1)
    await counting.receiver.stop()
    await counting.receiver.release(held)
    await counting.receiver.aclose()
    assert counting.at == {ONE: Position(0, "u2:id::4")}


async def test_a_partition_where_nothing_comes_holds_up_nobody(counting: Counting) -> None:
    counting.at = {ONE: Position(0, "u2:id::1!")}
    await counting.open()
    await asyncio.sleep(0.2)
    assert counting.running == {ONE}, "the broker has not answered yet"
    assert isinstance(counting.client, Pausing)
    counting.client.marks = {ONE: 100}
    await until(lambda: counting.running == {ONE, TWO}, "the end of caution")


@pytest.mark.parametrize("ordered", [True, False])
async def test_on_an_ordered_channel_caution_has_an_end(
    counting: Counting, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a failed message waits in its place. It is not counted against it that others were in hands, too."""
    monkeypatch.setattr(caution, "_ALONE_FOR", 0.1)
    monkeypatch.setattr(receiver, "_WATCH_EVERY", 0.05)
    counting.receiver.address = Address("q", Kind.QUEUE, partitions=2 if ordered else 0)
    counting.at = {ONE: Position(0, "u2:id::3!")}
    await counting.open()
    counting.client.give(ONE, 0)
    [waiting] = await counting.take(1)
    counting.client.give(TWO, 0, 1)
    if not ordered:
        await nothing_comes(counting)
        return
    assert hints(await counting.take(2)) == [(None, False)] * 2
    assert counting.running == {ONE, TWO}
    assert (counting.said(ONE), counting.said(TWO)) == ("1!", "!")
    await counting.receiver.ack([waiting])


async def test_one_that_is_given_back_says_the_same_again(counting: Counting) -> None:
    counting.at = {ONE: Position(0, f"u2:id::{LIMIT}!")}
    await counting.open()
    counting.client.give(ONE, 0)
    [first] = await counting.take(1)
    await counting.receiver.release([first])
    [again] = await counting.take(1)
    assert again is not first
    assert (again.redelivered, again.given_up) == (first.redelivered, first.given_up) == (LIMIT + 1, True)
