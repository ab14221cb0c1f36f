"""What waits for a group: counted, or read beside the group. Nothing here joins one, or commits."""

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
)

from unimsg.adapter import Address, ChannelMissing, Wire
from unimsg_kafka import positions
from unimsg_kafka.clients import stop_consumer
from unimsg_kafka.offsets import Run, done_above
from unimsg_kafka.topics import Topics
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


async def browse(topics: Topics, places: Mapping[TopicPartition, Waiting], limit: int) -> list[Wire]:
    """The `limit` oldest by their timestamps; of one partition in its order."""
    if not places or limit < 1:
        return []
    # Its own, because what is paused or read by one browse is none of another's business.
    consumer = topics.clients.consumer(auto_offset_reset="earliest", fetch_max_wait_ms=100)
    try:
        await consumer.start()
        records = await _read(consumer, places, limit)
    finally:
        await stop_consumer(consumer, topics.admin, _STOP_WITHIN)
    oldest = merge(*records.values(), key=lambda record: record.timestamp)
    return [decode(record) for record in islice(oldest, limit)]


async def _read(
    consumer: AIOKafkaConsumer, places: Mapping[TopicPartition, Waiting], limit: int
) -> Mapping[TopicPartition, list[ConsumerRecord]]:
    """Up to `limit` of each partition, because each may hold all of the oldest."""
    consumer.assign(list(places))
    for place, wanted in places.items():
        consumer.seek(place, wanted.start)
    found: dict[TopicPartition, list[ConsumerRecord]] = {place: [] for place in places}
    unread = set(places)
    while unread:
        for place, batch in (await consumer.getmany(timeout_ms=100, max_records=_AT_ONCE)).items():
            found[place] += [record for record in batch if record.offset in places[place]]
        for place in list(unread):
            # The position, not the last record: behind it there may be marks of transactions only, or nothing any more.
            if len(found[place]) >= limit or await consumer.position(place) >= places[place].end:
                consumer.pause(place)
                unread.discard(place)
        await asyncio.sleep(0)  # what is there already is read without waiting: others have their turn
    return found
