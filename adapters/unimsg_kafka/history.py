"""What was sent to a topic since a moment, read beside all groups."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed

from unimsg.adapter import Address, Wire
from unimsg_kafka.clients import stop_consumer
from unimsg_kafka.topics import Topics, persist
from unimsg_kafka.wire import decode

_AT_ONCE = 500
_STOP_WITHIN = 2.0
_DO = "read the history of"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of one partition: the offsets from `start` up to, not including, `end`."""

    start: int
    end: int


async def read(
    topics: Topics, address: Address, since: datetime, timeout: float
) -> AsyncGenerator[Sequence[Wire], None]:
    """As `Operations.history`: up to the ends that the partitions had when it began, in no group."""
    places = await persist(lambda: _stretches(topics, address, since), _DO, address.name, timeout=timeout)
    if not places:
        return
    consumer = topics.clients.consumer(auto_offset_reset="earliest", fetch_max_wait_ms=100)
    try:
        await persist(consumer.start, _DO, address.name, timeout=timeout)
        consumer.assign(list(places))
        for place, stretch in places.items():
            consumer.seek(place, stretch.start)
        unread = dict(places)
        while unread:
            batch = await persist(lambda: _next(consumer, unread), _DO, address.name, timeout=timeout)
            if batch:
                yield batch
    finally:
        await stop_consumer(consumer, topics.admin, _STOP_WITHIN)


async def _stretches(topics: Topics, address: Address, since: datetime) -> dict[TopicPartition, Stretch]:
    topic = await topics.get(address.channel)
    ends = await topics.ends(topic)
    starts = await topics.since(topic, since, ends)
    return {place: Stretch(starts[place], end) for place, end in ends.items() if starts[place] < end}


async def _next(consumer: AIOKafkaConsumer, unread: dict[TopicPartition, Stretch]) -> Sequence[Wire]:
    """What comes next, perhaps only that there is no more in a partition, which is then no longer among the unread."""
    wires: list[Wire] = []
    while unread and not wires:
        for place, records in (await consumer.getmany(timeout_ms=100, max_records=_AT_ONCE)).items():
            wires += [decode(record) for record in records if record.offset < unread[place].end]
        for place in list(unread):
            # The position, not the last record: behind it there may be marks of transactions only.
            if await consumer.position(place) >= unread[place].end:
                consumer.pause(place)
                del unread[place]
        await asyncio.sleep(0)  # what is there already is read without waiting: others have their turn
    return wires
