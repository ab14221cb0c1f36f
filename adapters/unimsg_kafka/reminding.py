"""Groups of dead letters are kept from being forgotten.

A broker forgets where a group stands that had no member for `offsets.retention.minutes`, 7 days by default. A group of
dead letters has a member only while letters are put back: a week later, all that were put back would be there again.
A commit does not count as a sign of life, but a member does. So whoever handles a channel joins the group of its dead
letters for a moment, now and then.
"""

import asyncio
import random
from collections.abc import Callable, Iterable

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]  # aiokafka has no py.typed

from unimsg.adapter import Address
from unimsg_kafka import positions
from unimsg_kafka.clients import stop_consumer
from unimsg_kafka.errors import describe, log
from unimsg_kafka.topics import Topic, Topics

_FIRST = 300.0
"""Seconds after the start: a process that fails and starts again and again must not add to the work of brokers."""
_EVERY = 12 * 3600.0
_WITHIN = 60.0


async def remind(topics: Topics, addresses: Callable[[], Iterable[Address]]) -> None:
    """Never returns. `addresses`: the dead-letter queues of what is handled here."""
    wait = _FIRST
    while True:
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  # not all processes at once
        for address in addresses():
            try:
                async with asyncio.timeout(_WITHIN):
                    await _touch(topics, address)
            except Exception as error:  # noqa: BLE001  # whatever it is, it has days to succeed
                log.info("kafka: cannot join group %s to keep it: %s", address.name, describe(error))
        wait = _EVERY


async def _touch(topics: Topics, address: Address) -> None:
    topic = await topics.find(address.channel)
    if topic is None or not await positions.read(topics.admin, address.name, topic):
        return  # nothing was ever put back: there is nothing to forget
    if await _is_empty(topics.admin, address.name):  # else somebody puts letters back just now
        await _join(topics, address.name, topic)


async def _is_empty(admin: AIOKafkaAdminClient, group: str) -> bool:
    (reply,) = await admin.describe_consumer_groups([group])
    return any(found[1] == group and found[2] == "Empty" for found in reply.groups)


async def _join(topics: Topics, group: str, topic: Topic) -> None:
    consumer = topics.clients.consumer(group_id=group)
    try:
        await consumer.start()
        consumer.subscribe([topic.name])
        while not consumer.assignment():  # noqa: ASYNC110  # aiokafka sets no event
            await asyncio.sleep(0.05)
    finally:
        await stop_consumer(consumer, topics.admin, 5.0)
