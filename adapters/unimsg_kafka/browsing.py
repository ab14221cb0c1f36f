"""What waits for a group: counted, or read beside the group. Nothing here joins one, or commits."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from heapq import merge

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
)

from unimsg.adapter import Address, ChannelMissing, Wire
from unimsg.mailbox import pages
from unimsg_kafka import positions
from unimsg_kafka.clients import FETCHING, stop_consumer
from unimsg_kafka.offsets import Run, done_above
from unimsg_kafka.topics import Topics, persist
from unimsg_kafka.wire import decode

_AT_ONCE = 500
_STOP_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of one partition: the offsets from `start` up to, not including, `end`, but for those that are done between."""

    start: int
    end: int
    done: Sequence[Run] = ()

    @property
    def count(self) -> int:
        return self.end - self.start - sum(run.end - run.start for run in self.done)

    def __contains__(self, offset: int) -> bool:
        before = bisect_right(self.done, offset, key=lambda run: run.start)
        is_done = before > 0 and offset < self.done[before - 1].end
        return self.start <= offset < self.end and not is_done


async def waiting(topics: Topics, address: Address) -> Mapping[TopicPartition, Waiting]:
    """What a queue's or subscription's group has not settled, of partitions where that is anything.

    Raises:
        ChannelMissing: the topic does not exist, or the subscription has no position on it.
    """
    topic = await topics.get(address.channel)
    at = await positions.read(topics.admin, address.name, topic)
    if address.subscription and not at:
        raise ChannelMissing(f"kafka: consumer group {address.name} has no position on {address.channel}")
    firsts, ends = await topics.beginnings(topic), await topics.ends(topic)
    found: dict[TopicPartition, Waiting] = {}
    for place in topic.all:
        position, start, end = at.get(place), firsts[place], ends[place]
        done: list[Run] = []
        if position is not None:
            start = max(start, position.offset)
            done = done_above(position.offset, position.metadata)
        if start < end:
            clipped = (Run(max(run.start, start), min(run.end, end)) for run in done)
            found[place] = Waiting(start, end, [run for run in clipped if run.start < run.end])
    return found


async def read_beside(
    topics: Topics, places: Mapping[TopicPartition, Waiting], do: str, name: str, timeout: float
) -> AsyncGenerator[list[Wire], None]:
    """What is in these places, in no group: of one partition in its order, and of what comes at once the oldest first
    by its timestamps. `do` and `name`: for the text of errors. `timeout`: seconds for each batch."""
    if not places:
        return
    # Its own, because what is paused or read by one reader is none of another's business.
    consumer = topics.clients.consumer(auto_offset_reset="earliest", **FETCHING)
    try:
        await persist(consumer.start, do, name, timeout=timeout)
        consumer.assign(list(places))
        for place, stretch in places.items():
            consumer.seek(place, stretch.start)
        unread = dict(places)
        while unread:
            batch = await persist(lambda: _next(consumer, unread), do, name, timeout=timeout)
            if batch:
                yield batch
    finally:
        await stop_consumer(consumer, topics.admin, _STOP_WITHIN)


async def browse(
    topics: Topics, places: Mapping[TopicPartition, Waiting], limit: int, name: str, timeout: float
) -> AsyncGenerator[Sequence[Wire], None]:
    """As `Operations.browse`."""
    left = limit
    async with aclosing(read_beside(topics, places, "browse", name, timeout)) as batches:
        async for batch in batches:
            for page in pages(batch[:left]):
                yield page
            left -= len(batch)
            if left <= 0:
                return


async def _next(consumer: AIOKafkaConsumer, unread: dict[TopicPartition, Waiting]) -> list[Wire]:
    """What comes next, perhaps only that there is no more in a partition, which is then no longer among the unread.
    aiokafka holds what one fetch brought: no more than a megabyte of a partition, but for a larger record."""
    found: list[list[ConsumerRecord]] = []
    while unread and not found:
        for place, records in (await consumer.getmany(timeout_ms=100, max_records=_AT_ONCE)).items():
            wanted = [record for record in records if record.offset in unread[place]]
            found += [wanted] if wanted else []
        for place in list(unread):
            # The position, not the last record: behind it there may be marks of transactions only, or nothing any more.
            if await consumer.position(place) >= unread[place].end:
                consumer.pause(place)
                del unread[place]
        await asyncio.sleep(0)  # what is there already is read without waiting: others have their turn
    return [decode(record) for record in merge(*found, key=lambda record: record.timestamp)]
