"""How batches go out through aiokafka's own sender, over a broker that the test plays."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    MessageAccumulator,
)
from aiokafka.producer.sender import Sender  # type: ignore[import-untyped]
from aiokafka.producer.transaction_manager import TransactionManager  # type: ignore[import-untyped]
from unimsg_kafka.publisher import Publisher
from unimsg_kafka.topics import Topic
from waiting import until

from unimsg.adapter import Address, Kind, Wire
from unimsg.errors import PublishError, PublishRejected, PublishUnconfirmed
from unimsg.keys import partition_of

QUEUE = Address("q", Kind.QUEUE)
NODE, PARTITIONS = 7, 4
STORED, NOT_LEADER, TOO_LARGE = 0, 6, 10
KEYS = list({partition_of(key, PARTITIONS): key for key in "abcdefghijkl"}.values())  # one for each partition


class Broker:
    """aiokafka's client; the test answers its requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[list[int], asyncio.Future[Any]]] = []  # Any: a response, or what is none
        self.cluster = SimpleNamespace(
            partitions_for_topic=lambda _topic: set(range(PARTITIONS)),
            leader_for_partition=lambda _place: NODE,
        )

    async def send(self, _node: int, request: Any) -> Any:
        [(_, batches)] = request._topics
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.requests.append(([partition for partition, _ in batches], answer))
        return await answer

    def answer(self, code: int = STORED) -> None:
        """To the oldest request."""
        partitions, answer = self.requests.pop(0)
        infos = [(partition, code, 0, -1, 0) for partition in partitions]
        answer.set_result(SimpleNamespace(API_VERSION=7, topics=[("q", infos)]))

    def force_metadata_update(self) -> None: ...

    async def _maybe_wait_metadata(self) -> None: ...


class Producer:
    """aiokafka's, with its own sender."""

    def __init__(self, client: Broker) -> None:
        transactions = TransactionManager(None, 0)
        transactions.set_pid_and_epoch(1, 0)
        self.client = client
        self._message_accumulator = MessageAccumulator(client.cluster, 1 << 20, 0, 30.0, txn_manager=transactions)
        self._sender = Sender(
            client,
            acks=-1,
            txn_manager=transactions,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=1,
            request_timeout_ms=1000,
        )

    async def start(self) -> None:
        await self._sender.start()

    async def stop(self) -> None:
        await self._sender.close()

    async def partitions_for(self, _topic: str) -> set[int]:
        return set(range(PARTITIONS))


class Cluster:
    def __init__(self) -> None:
        self.broker = Broker()
        self.clients = SimpleNamespace(producer=lambda: Producer(self.broker))
        self.publisher = Publisher(self)  # type: ignore[arg-type]  # what a publisher uses of the topics

    async def find(self, _name: str) -> Topic:
        return Topic("q", PARTITIONS, 1, led=True)

    async def limit(self, _name: str) -> int:
        return 1 << 20

    def send(self, *keys: str) -> "asyncio.Task[Sequence[PublishError | None]]":
        return asyncio.create_task(self.publisher.send(QUEUE, [Wire(key, b"x", {}, key) for key in keys], 5.0))

    async def request(self) -> list[int]:
        """The partitions of the next request."""
        await until(lambda: self.broker.requests, "a request")
        return self.broker.requests[0][0]

    async def alone(self) -> None:
        """One message after the other was sent, so that the next is taken for such a one."""
        for _ in range(2):
            sending = self.send("a")
            await self.request()
            self.broker.answer()
            assert await sending == [None]


@pytest.fixture
async def cluster() -> Any:  # Any: an asynchronous generator of it
    cluster = Cluster()
    yield cluster
    await cluster.publisher.aclose(1.0)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_one_message_alone_goes_out_without_waking_the_producers_own_task(cluster: Cluster) -> None:
    await cluster.alone()
    sending = cluster.send("a")
    await turns(2)  # its own task, and that of the request
    assert cluster.broker.requests
    cluster.broker.answer()
    assert await sending == [None]


async def test_several_at_once_share_a_request(cluster: Cluster) -> None:
    """Of senders that each wait for their own messages, too: else each but the first would wait for the first's."""
    await cluster.alone()
    for already_several in (False, True, True):
        sendings = [cluster.send(key) for key in KEYS]
        if not already_several:
            assert len(await cluster.request()) == 1
            cluster.broker.answer()
        assert len(await cluster.request()) == len(KEYS) - (not already_several)
        cluster.broker.answer()
        assert await asyncio.gather(*sendings) == [[None]] * len(KEYS)
    assert not cluster.broker.requests


async def test_one_call_with_several_partitions_is_one_request(cluster: Cluster) -> None:
    await cluster.alone()
    sending = cluster.send(*KEYS)
    assert len(await cluster.request()) > 1
    cluster.broker.answer()
    assert await sending == [None] * len(KEYS)


async def test_what_comes_meanwhile_goes_out_when_the_one_alone_is_answered(cluster: Cluster) -> None:
    await cluster.alone()
    first = cluster.send(KEYS[0])
    await cluster.request()
    others = cluster.send(*KEYS)
    await turns(10)
    assert len(cluster.broker.requests) == 1, "one request at a time to a broker"
    cluster.broker.answer()
    assert len(await cluster.request()) == len(KEYS)
    cluster.broker.answer()
    assert await asyncio.gather(first, others) == [[None], [None] * len(KEYS)]


async def test_one_alone_is_sent_again_where_the_broker_asks_for_it(cluster: Cluster) -> None:
    await cluster.alone()
    sending = cluster.send("a")
    await cluster.request()
    cluster.broker.answer(NOT_LEADER)
    await cluster.request()
    cluster.broker.answer()
    assert await sending == [None]


async def test_one_alone_that_is_refused_is_rejected_and_the_next_is_sent_by_a_new_producer(cluster: Cluster) -> None:
    await cluster.alone()
    used = cluster.publisher.producer
    sending = cluster.send("a")
    await cluster.request()
    cluster.broker.answer(TOO_LARGE)
    [outcome] = await sending
    assert isinstance(outcome, PublishRejected), repr(outcome)
    sending = cluster.send("a")
    await cluster.request()
    cluster.broker.answer()
    assert await sending == [None]
    assert cluster.publisher.producer is not used


async def test_an_answer_that_aiokafka_cannot_read_leaves_one_alone_unconfirmed(cluster: Cluster) -> None:
    """In its own task it would end the producer; so it does here."""
    await cluster.alone()
    sending = cluster.send("a")
    await cluster.request()
    cluster.broker.requests.pop()[1].set_result(object())
    [outcome] = await sending
    assert isinstance(outcome, PublishUnconfirmed), repr(outcome)
    again = cluster.send("a")
    await cluster.request()
    cluster.broker.answer()
    assert await again == [None]


async def test_one_alone_without_an_answer_ends_when_the_publisher_is_closed(cluster: Cluster) -> None:
    await cluster.alone()
    sending = cluster.send("a")
    await cluster.request()
    await cluster.publisher.aclose(0.2)
    [outcome] = await sending
    assert isinstance(outcome, PublishUnconfirmed), repr(outcome)
    assert not cluster.publisher.flights._sending
