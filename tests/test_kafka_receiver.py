"""The Kafka receiver over a client under the test's thumb: what it commits, and that nothing ends it silently."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]
from unimsg_kafka import positions, receiver
from unimsg_kafka.offsets import written
from unimsg_kafka.positions import Position
from unimsg_kafka.receiver import KafkaReceiver
from unimsg_kafka.topics import Topic
from waiting import until

from unimsg.adapter import Address, ChannelMissing, Delivery, Kind, SettlementLost

REAL_READ = positions.read
ONE, TWO = TopicPartition("q", 0), TopicPartition("q", 1)


class Client:
    """A consumer of a group that is its only member: it gets all partitions, and the records that the test gives."""

    def __init__(self) -> None:
        self.begun: list[TopicPartition] = []
        never = asyncio.get_running_loop().create_future
        self._coordinator = SimpleNamespace(member_id="m", generation=1, _coordination_task=never())
        self._fetcher = SimpleNamespace(error_future=never())
        self.records: asyncio.Queue[dict[TopicPartition, list[Any]]] = asyncio.Queue()
        self.assigned: set[asyncio.Task[None]] = set()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def subscribe(self, _topics: object, *, listener: KafkaReceiver) -> None:
        self.assigned.add(asyncio.create_task(listener.on_partitions_assigned({ONE, TWO})))

    def assignment(self) -> set[TopicPartition]:
        return {ONE, TWO}

    def pause(self, *_places: TopicPartition) -> None: ...

    def resume(self, *_places: TopicPartition) -> None: ...

    def seek(self, _place: TopicPartition, _offset: int) -> None: ...

    async def seek_to_beginning(self, *places: TopicPartition) -> None:
        self.begun += places

    async def getmany(self, **_limits: object) -> dict[TopicPartition, list[Any]]:
        return await self.records.get()

    def give(self, place: TopicPartition, *offsets: int) -> None:
        self.records.put_nowait({place: [record(place, offset) for offset in offsets]})


class Group:
    """The broker's side, and a receiver on it."""

    def __init__(self) -> None:
        self.made: list[Client] = []
        self.clients = SimpleNamespace(consumer=self._client)
        self.admin = None
        self.commits: list[dict[TopicPartition, int]] = []
        self.topic = Topic("q", 2, 1, led=True, id="id")
        self.at: dict[TopicPartition, Position] = {}
        self.fails: dict[str, list[Exception]] = {"read": [], "commit": [], "find": []}
        """What each kind of request raises next."""
        self.receiver = KafkaReceiver(
            self,  # type: ignore[arg-type]  # what a receiver uses of the topics
            self.topic,
            Address("q", Kind.QUEUE),
            prefetch=10,
            grace=1.0,
            session=6.0,
        )

    @property
    def client(self) -> Client:
        return self.made[-1]

    async def open(self) -> None:
        await self.receiver.open()
        await until(lambda: self.receiver.health().consuming, "an assignment")

    def _client(self, **_settings: object) -> Client:
        self.made.append(Client())
        return self.client

    async def read(self, *_where: object) -> dict[TopicPartition, Position]:
        self._fail("read")
        return self.at

    async def commit(self, _client: Client, _group: str, _member: object, at: Mapping[Any, Position]) -> bool:
        self._fail("commit")
        self.commits.append({place: position.offset for place, position in at.items()})
        return True

    async def is_gone(self, topic: Topic) -> bool:
        self._fail("find")
        return topic != self.topic

    def committed(self, place: TopicPartition) -> list[int]:
        return [commit[place] for commit in self.commits if place in commit]

    async def take(self, count: int) -> list[Delivery]:
        taken: list[Delivery] = []
        async with asyncio.timeout(5.0):
            while len(taken) < count:
                taken += await self.receiver.receive()
        return taken

    def _fail(self, request: str) -> None:
        if self.fails[request]:
            raise self.fails[request].pop(0)


@pytest.fixture
async def group(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Group]:
    group = Group()
    monkeypatch.setattr(positions, "read", group.read)
    monkeypatch.setattr(positions, "commit", group.commit)
    yield group
    await group.receiver.aclose()


def record(place: TopicPartition, offset: int) -> SimpleNamespace:
    return SimpleNamespace(
        topic=place.topic, partition=place.partition, offset=offset, key=None, value=b"1", headers=[]
    )


def offsets(deliveries: list[Delivery]) -> list[int]:
    return [delivery.raw.offset for delivery in deliveries]  # type: ignore[attr-defined]  # ours


async def test_a_log_that_went_back_gets_no_commit_of_the_old_one(group: Group) -> None:
    """Another topic of the name is there, and the receiver holds a message of the old one."""
    await group.open()
    group.client.give(ONE, 500, 501)
    group.client.give(TWO, 7, 8)
    held, done, *others = await group.take(4)
    await group.receiver.ack([done, others[0]])
    await until(lambda: group.committed(TWO) == [8], "a commit")
    group.client.give(ONE, 0, 1)
    await until(lambda: held.epoch.draining, "the end of the epoch")
    await group.receiver.ack([others[1]])
    with pytest.raises(SettlementLost):
        await group.receiver.ack([held])
    with pytest.raises(ChannelMissing, match="made anew"):
        await group.take(1)
    assert group.committed(ONE) == [500]
    assert group.committed(TWO) == [8, 9], "the other partition's log is what it was"


async def test_a_group_that_lets_it_in_while_it_closes_leaves_nothing_behind(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What begins then would go on after its clients were closed, and open them again."""
    await group.open()
    joined: list[None] = []

    async def unanswered(*_where: object) -> None:
        await asyncio.Event().wait()

    async def join_and_stop() -> None:
        monkeypatch.setattr(positions, "read", unanswered)
        await group.receiver.on_partitions_assigned({ONE, TWO})
        joined.append(None)

    group.client.stop = join_and_stop  # type: ignore[method-assign]  # the client's own task, which is ended there
    await group.receiver.aclose()
    assert joined
    assert group.receiver._preparing is None or group.receiver._preparing.done()


async def test_a_topic_made_anew_ends_its_receivers(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "_WATCH_EVERY", 0.02)
    await group.open()
    group.topic = Topic("q", 2, 1, led=True, id="new")
    with pytest.raises(ChannelMissing):
        await group.take(1)


async def test_a_commit_for_an_earlier_topic_counts_for_nothing() -> None:
    """A receiver that had not noticed yet that the topic was made anew committed on it."""
    old, new, foreign = (OffsetAndMetadata(5, text) for text in (written("old"), written("new"), "of a tool"))
    topic = Topic("q", 4, 1, led=True, id="new")
    places = topic.all
    found = {places[0]: old, places[1]: new, places[2]: foreign, places[3]: OffsetAndMetadata(-1, "")}
    admin = AsyncMock()
    admin.list_consumer_group_offsets.return_value = found
    assert list(await REAL_READ(admin, "q", topic)) == [places[1], places[2]]


async def test_where_no_commit_counts_it_reads_from_the_beginning(group: Group) -> None:
    """Not where the client would begin: at the commit."""
    group.at = {TWO: Position(5, written("id"))}
    await group.open()
    assert group.client.begun == [ONE]


@pytest.mark.parametrize("request_", ["read", "commit", "find"])
async def test_what_nobody_expected_stops_nothing_and_is_logged_once(
    group: Group, request_: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_WATCH_EVERY", 0.05)
    group.fails[request_] = [ValueError("odd") for _ in range(3)]

    def problem() -> str:
        return group.receiver.health().problem or ""

    async def use() -> None:
        await group.open()
        group.client.give(ONE, 0, 1)
        await group.receiver.ack(await group.take(2))

    using = asyncio.create_task(use())
    await until(lambda: "ValueError: odd" in problem(), "a problem in health")
    await using
    await until(lambda: group.committed(ONE)[-1:] == [2], "a commit")
    await until(lambda: not group.fails[request_] and not problem(), "recovery")
    logged = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(logged) == 1
    assert logged[0].exc_info is not None
