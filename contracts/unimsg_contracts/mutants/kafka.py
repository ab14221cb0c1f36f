"""Mutants of the Kafka adapter, in its own code."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import AsyncMock, patch

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition  # type: ignore[import-untyped]  # no py.typed
from unimsg_kafka import caution, deaths, positions
from unimsg_kafka.assignment import Assignment, Partition
from unimsg_kafka.browsing import waiting
from unimsg_kafka.offsets import Watermark
from unimsg_kafka.operations import KafkaOperations
from unimsg_kafka.receiver import KafkaReceiver

from unimsg.adapter import Address, Delivery, Wire


@contextmanager
def commits_positions() -> Iterator[None]:
    """Commits how far it has read, not what is done."""
    with patch.object(Watermark, "mark", property(lambda mark: mark._next)):
        yield


@contextmanager
def no_metadata() -> Iterator[None]:
    """Commits the watermark alone: what is done above it is forgotten."""
    with patch.object(Watermark, "metadata", lambda _mark: ""):
        yield


@contextmanager
def no_drain() -> Iterator[None]:
    """Gives its partitions up without waiting for what runs."""

    async def give_up(receiver: KafkaReceiver, assignment: Assignment) -> None:
        assignment.epoch.drain()
        await receiver._end(commit_within=5.0)
        receiver._room.set()

    with patch.object(KafkaReceiver, "_give_up", give_up):
        yield


@contextmanager
def skips_what_comes_early() -> Iterator[None]:
    """Does not pause a new assignment, and drops records that come before it knows where its group stands: what an
    await at the beginning of the assignment callback does. The gap is made wide, or chance would decide."""
    read = positions.read

    # Any: as the function itself, whatever its parameters.
    async def slow_read(*where: Any) -> Any:
        await asyncio.sleep(0.5)
        return await read(*where)

    def take(
        receiver: KafkaReceiver, _consumer: AIOKafkaConsumer, place: TopicPartition, batch: Sequence[ConsumerRecord]
    ) -> None:
        assignment = receiver._assignment
        partition = assignment.partitions.get(place) if assignment is not None else None
        if assignment is not None and partition is not None:
            receiver._mailbox.put(assignment.take(partition, batch))

    with ExitStack() as stack:
        stack.enter_context(patch.object(KafkaReceiver, "_take", take))
        stack.enter_context(patch.object(positions, "read", slow_read))
        stack.enter_context(patch.object(AIOKafkaConsumer, "pause", lambda _consumer, *_places: None))
        # A new queue would be read from its beginning all the same.
        stack.enter_context(patch.object(AIOKafkaConsumer, "seek_to_beginning", AsyncMock()))
        yield


@contextmanager
def browse_commits() -> Iterator[None]:
    """Reads what waits as the group itself, and commits what it has read."""
    browse = KafkaOperations.browse

    async def browse_and_commit(
        operations: KafkaOperations, address: Address, *, limit: int, timeout: float
    ) -> AsyncGenerator[Sequence[Wire], None]:
        topics = operations._topics
        found = await waiting(topics, address)
        consumer = topics.clients.consumer(group_id=address.name)
        await consumer.start()
        try:
            async for page in browse(operations, address, limit=limit, timeout=timeout):
                yield page
            consumer.assign(list(found))
            if found:
                await consumer.commit({place: (what.end, "") for place, what in found.items()})
        finally:
            await consumer.stop()

    with patch.object(KafkaOperations, "browse", browse_and_commit):
        yield


_take = Assignment.take


def _gives_up_whatever_was_held(
    assignment: Assignment, partition: Partition, batch: Sequence[ConsumerRecord]
) -> list[Delivery]:
    deliveries = _take(assignment, partition, batch)
    for delivery in deliveries:
        delivery.given_up = partition.deaths.count >= assignment.limit
    return deliveries


@contextmanager
def forgets_deaths() -> Iterator[None]:
    """Does not look whether the last owner died."""
    with patch.object(caution, "found", lambda *_, **__: deaths.NONE):
        yield


@contextmanager
def suspects_all_alike() -> Iterator[None]:
    """Counts deaths, and never finds out whose fault they are."""
    with patch.object(deaths, "ALONE_FROM", 10**6), patch.object(Assignment, "take", _gives_up_whatever_was_held):
        yield


@contextmanager
def counts_shutdowns() -> Iterator[None]:
    """An orderly end counts as a death."""
    written = deaths.with_deaths
    with patch.object(deaths, "with_deaths", lambda metadata, count, in_hands: written(metadata, count, in_hands=True)):
        yield
