"""Where groups stand: reading it, the start of a new subscription, and commits that count only for their own epoch."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    TopicPartition,
)
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.protocol.commit import OffsetCommitRequest  # type: ignore[import-untyped]

from unimsg.backoff import Backoff
from unimsg_kafka.clients import stop_producer
from unimsg_kafka.offsets import log_of, written
from unimsg_kafka.topics import Topic, Topics

_LOST = (kafka.UnknownMemberIdError, kafka.IllegalGenerationError, kafka.RebalanceInProgressError)


@dataclass(frozen=True, slots=True)
class Position:
    """A commit: everything below `offset` is done, and `metadata` says what above it is."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Member:
    """Who a receiver is in its group, in one generation."""

    member_id: str
    generation: int


NOBODY = Member("", -1)
"""Who commits without being in the group."""


async def read(
    admin: AIOKafkaAdminClient, group: str, topic: Topic, places: Sequence[TopicPartition] = ()
) -> dict[TopicPartition, Position]:
    """Where the group stands in this topic, of the partitions (all, or these) that it has a commit for. One that was
    made for an earlier topic of the name counts for nothing. aiokafka's consumer drops the metadata."""
    found = await admin.list_consumer_group_offsets(group, partitions=list(places or topic.all))
    return {
        place: Position(at.offset, at.metadata)
        for place, at in found.items()
        if at.offset >= 0 and log_of(at.metadata) in (None, topic.id)
    }


async def begin(topics: Topics, group: str, topic: Topic, start: datetime | None) -> None:
    """Makes a new subscription start with what was sent since `start`, or is from now on. Moves nothing that has a
    position.

    The commit is in a transaction whose id is the group's: whoever starts one fences all who looked before, so that of
    racing processes none commits what it saw before another was done. A group with a position on some partitions is
    not new, the others are partitions that were added: they start at their first record.
    """
    admin = topics.admin
    if await read(admin, group, topic):
        return
    fence = topics.clients.producer(transactional_id=f"unimsg.begin.{group}", transaction_timeout_ms=10_000)
    try:
        await fence.start()
        if not await read(admin, group, topic):
            begins = await topics.ends(topic)
            if start is not None:  # the ends are looked up first: what comes meanwhile is behind them
                begins = await topics.since(topic, start, begins)
            commits = {place: (offset, written(topic.id)) for place, offset in begins.items()}
            async with fence.transaction():
                await fence.send_offsets_to_transaction(commits, group)
    finally:
        await stop_producer(fence, 2.0)
        ended = fence._txn_manager.wait_for_transaction_end()
        if ended is not None and ended.done():
            ended.exception()  # of one that was fenced; aiokafka leaves it to be reported as never retrieved
    backoff = Backoff(0.01, 0.1)
    while not await read(admin, group, topic):  # noqa: ASYNC110  # a commit returns before its coordinator shows it
        await asyncio.sleep(backoff.next())


async def may_read(admin: AIOKafkaAdminClient, group: str, topic: Topic) -> None:
    """Whether this user may read the topic in this group: a commit that no generation can have is refused for a missing
    right before it is refused for its generation.

    Raises:
        KafkaError: the right that is missing.
    """
    request = _request(group, Member("unimsg-may-read", 2**31 - 1), {topic.all[0]: Position(0, "")})
    reply = await admin._send_request(request, await admin.find_coordinator(group))
    for error in _errors(reply, group):
        if not isinstance(error, _LOST):
            raise error


async def begin_for_one(topics: Topics, group: str, topic: Topic) -> None:
    """The same from now on, for a group that only one process knows: nobody races with it."""
    begins = {place: Position(offset, written(topic.id)) for place, offset in (await topics.ends(topic)).items()}
    request = _request(group, NOBODY, begins)
    reply = await topics.admin._send_request(request, await topics.admin.find_coordinator(group))
    for error in _errors(reply, group):
        raise error


def member_of(consumer: AIOKafkaConsumer) -> Member:
    coordinator = consumer._coordinator
    return Member(coordinator.member_id, coordinator.generation)


async def commit(
    consumer: AIOKafkaConsumer, group: str, member: Member, positions: Mapping[TopicPartition, Position]
) -> bool:
    """Commits as that member in that generation. False: it is over, and no commit of it can succeed any more.

    `AIOKafkaConsumer.commit` commits as whatever its consumer is now: after it was thrown out of the group as nobody,
    which the broker accepts of a group without members and so overwrites what newer owners committed.

    Raises:
        KafkaError: not now; it may be tried again.
    """
    coordinator = consumer._coordinator
    await coordinator.ensure_coordinator_known()
    reply = await coordinator._send_req(_request(group, member, positions))
    errors = _errors(reply, group)
    if any(isinstance(error, _LOST) for error in errors):
        return False
    if any(isinstance(error, kafka.NotCoordinatorForGroupError) for error in errors):
        coordinator.coordinator_dead()
    if errors:
        raise errors[0]
    return True


def _request(group: str, member: Member, positions: Mapping[TopicPartition, Position]) -> OffsetCommitRequest:
    topics: dict[str, list[tuple[int, int, str]]] = {}
    for place, position in positions.items():
        topics.setdefault(place.topic, []).append((place.partition, position.offset, position.metadata))
    retention = OffsetCommitRequest.DEFAULT_RETENTION_TIME
    return OffsetCommitRequest(group, member.generation, member.member_id, retention, list(topics.items()))


def _errors(reply: Any, group: str) -> list[kafka.KafkaError]:  # Any: aiokafka is untyped
    codes = [code for _, partitions in reply.topics for _, code in partitions if code]
    return [kafka.for_code(code)(group) for code in codes]
