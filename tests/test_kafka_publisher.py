"""What Kafka's publisher makes of a batch without an answer, over aiokafka's own queue and no broker."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed
from aiokafka.producer.message_accumulator import MessageAccumulator  # type: ignore[import-untyped]
from unimsg_kafka import lane
from unimsg_kafka.publisher import Publisher
from unimsg_kafka.topics import Topic
from waiting import until

from unimsg.adapter import Address, Kind, Wire
from unimsg.errors import PublishError, PublishRejected, PublishUnconfirmed, Unroutable

QUEUE = Address("q", Kind.QUEUE)
PLACE = TopicPartition("q", 0)


class Producer:
    """aiokafka's, whose sender is the test."""

    def __init__(self) -> None:
        self._message_accumulator = MessageAccumulator(None, 1 << 20, 0, 30.0)
        self.known: set[int] | None = {0}
        self.client = SimpleNamespace(cluster=SimpleNamespace(partitions_for_topic=lambda _topic: self.known))

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def partitions_for(self, _topic: str) -> set[int]:
        return {0}

    @property
    def waiting(self) -> int:
        return len(self._message_accumulator._batches.get(PLACE, ()))

    def sends_in_vain(self) -> None:
        """Its connection breaks after the request."""
        self._message_accumulator.reenqueue(self._message_accumulator._pop_batch(PLACE))

    def answers(self) -> None:
        self._message_accumulator._pop_batch(PLACE).done(0, -1)


class Cluster:
    """What the publisher asks about topics; the test says what is there."""

    def __init__(self) -> None:
        self.looks: list[Callable[[], Topic | None]] = []
        """The next answers; then, `topic`."""
        self.topic: Topic | None = Topic("q", 1, 1, led=True)
        self.looked = 0
        self.producer = Producer()
        self.clients = SimpleNamespace(producer=lambda: self.producer)
        self.publisher = Publisher(self)  # type: ignore[arg-type]  # what a publisher uses of the topics

    async def find(self, _name: str) -> Topic | None:
        self.looked += 1
        return self.looks.pop(0)() if self.looks else self.topic

    async def limit(self, _name: str) -> int:
        return 1 << 20

    def send(self, timeout: float = 5.0) -> "asyncio.Task[Sequence[PublishError | None]]":
        return asyncio.create_task(self.publisher.send(QUEUE, [Wire("1", b"x")], timeout))


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:  # Any: an asynchronous generator of it
    monkeypatch.setattr(lane, "_LOOK_AFTER", 0.02)
    monkeypatch.setattr("unimsg_kafka.publisher._WATCH_EVERY", 0.01)
    cluster = Cluster()
    yield cluster
    await cluster.publisher.aclose(1.0)


async def test_a_batch_that_was_sent_and_lost_its_topic_may_be_stored(cluster: Cluster) -> None:
    sending = cluster.send()
    await until(lambda: cluster.producer.waiting, "a batch")
    cluster.producer.sends_in_vain()
    cluster.topic = None
    (outcome,) = await sending
    assert isinstance(outcome, PublishUnconfirmed), repr(outcome)
    (outcome,) = await cluster.send()
    assert isinstance(outcome, Unroutable), repr(outcome)


async def test_a_batch_that_was_never_sent_is_certainly_not_stored(cluster: Cluster) -> None:
    sending = cluster.send()
    await until(lambda: cluster.producer.waiting, "a batch")
    cluster.topic = None
    (outcome,) = await sending
    assert isinstance(outcome, Unroutable), repr(outcome)


async def test_one_broker_that_does_not_know_the_topic_proves_nothing(cluster: Cluster) -> None:
    """It has just started, and learns of the topics one by one."""
    sending = cluster.send()
    await until(lambda: cluster.producer.waiting, "a batch")
    looked = cluster.looked
    cluster.looks = [lambda: None]
    await until(lambda: cluster.looked > looked + 2, "more looks")
    assert not sending.done()
    cluster.producer.answers()
    assert await sending == [None]


async def test_the_next_batch_goes_out_as_soon_as_the_one_before_is_answered(cluster: Cluster) -> None:
    sends = [cluster.send(), cluster.send()]
    await until(lambda: cluster.producer.waiting, "a batch")
    third = cluster.send()
    await asyncio.sleep(0)
    assert cluster.producer.waiting == 1
    cluster.producer.answers()
    assert cluster.producer.waiting == 1, "the third, in the same turn of the event loop"
    cluster.producer.answers()
    assert await asyncio.gather(*sends, third) == [[None]] * 3


async def test_a_producer_that_has_not_heard_of_the_topic_gets_it_later(cluster: Cluster) -> None:
    cluster.producer.known = None
    sending = cluster.send()
    await until(lambda: cluster.looked > 1, "a second look")
    cluster.producer.known = {0}
    await until(lambda: cluster.producer.waiting, "a batch")
    cluster.producer.answers()
    assert await sending == [None]


async def test_one_that_knows_too_few_partitions_is_replaced(cluster: Cluster) -> None:
    cluster.producer.known = set()
    sending = cluster.send()
    await until(lambda: cluster.publisher.producer is not None, "the first")
    cluster.producer = Producer()
    await until(lambda: cluster.producer.waiting, "a batch in the second")
    cluster.producer.answers()
    assert await sending == [None]


def odd() -> Topic:
    raise ValueError("odd")


async def test_what_nobody_expected_keeps_no_message_from_being_sent(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.looks = [odd, odd]
    sending = cluster.send()
    await until(lambda: "ValueError: odd" in (cluster.publisher.problem or ""), "a problem in health")
    await until(lambda: cluster.producer.waiting, "a batch")
    assert cluster.publisher.problem is None
    looked = cluster.looked
    cluster.looks = [odd, odd]
    await until(lambda: cluster.looked > looked + 2, "looks for the topic of a batch without an answer")
    cluster.producer.answers()
    assert await sending == [None]
    assert [one.exc_info is not None for one in caplog.records if one.levelno == logging.ERROR] == [True, True]


async def test_what_nobody_expected_ends_with_the_deadline(cluster: Cluster) -> None:
    cluster.looks = [odd] * 100
    (outcome,) = await cluster.send(0.3)
    assert type(outcome) is PublishRejected
    assert "odd" in str(outcome)
