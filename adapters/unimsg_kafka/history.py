"""What was sent to a topic since a moment, read beside all groups."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime

from aiokafka import TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed

from unimsg.adapter import Address, Wire
from unimsg_kafka.browsing import Waiting, read_beside
from unimsg_kafka.topics import Topics, persist

_DO = "read the history of"


async def read(
    topics: Topics, address: Address, since: datetime, timeout: float
) -> AsyncGenerator[Sequence[Wire], None]:
    """As `Operations.history`: up to the ends that the partitions had when it began, in no group."""
    places = await persist(lambda: _stretches(topics, address, since), _DO, address.name, timeout=timeout)
    async with aclosing(read_beside(topics, places, _DO, address.name, timeout)) as batches:
        async for batch in batches:
            yield batch


async def _stretches(topics: Topics, address: Address, since: datetime) -> dict[TopicPartition, Waiting]:
    topic = await topics.get(address.channel)
    ends = await topics.ends(topic)
    starts = await topics.since(topic, since, ends)
    return {place: Waiting(starts[place], end) for place, end in ends.items() if starts[place] < end}
