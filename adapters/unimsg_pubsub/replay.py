"""What was published since a moment, read through a subscription of its own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import uuid4

from unimsg.adapter import Address, ChannelMissing, Delivery, SettlementLost, Wire
from unimsg.errors import ConnectError
from unimsg_pubsub.link import Link
from unimsg_pubsub.receiver import PubSubReceiver
from unimsg_pubsub.topology import Topology

FIRST = 10.0
"""Seconds within which the first message has to come, else there is none: Pub/Sub tells no end."""
NEXT = 5.0
"""Seconds after a message within which another one has to come, else that was all."""
SKEW = timedelta(seconds=1)
"""Between this clock and Pub/Sub's: what was confirmed just before is read all the same."""
HELD = 1000


async def read(
    link: Link, topology: Topology, topic: Address, since: datetime, *, ack_deadline: int, timeout: float
) -> AsyncGenerator[Sequence[Wire], None]:
    """As `Operations.history`. What comes twice of a subscription, which is rare, comes twice here."""
    end = datetime.now(UTC) + SKEW
    found = await topology.get_topic(topology.source(topic), monotonic() + timeout)
    if not found.message_retention_duration:
        raise ChannelMissing(f"pubsub: topic {topic.name} keeps no history")
    source = replace(topic, subscription=f"history-{uuid4().hex[:12]}")
    receiver = PubSubReceiver(link, topology, source, prefetch=HELD, ack_deadline=ack_deadline)
    try:
        await topology.make_reader(source, since, timeout=timeout)
        receiver.start()
        wait = FIRST
        while batch := await _next(receiver, since, end, wait, timeout):
            yield [delivery.wire for delivery in batch]
            with suppress(SettlementLost):  # it comes again
                await receiver.ack(batch)
            wait = NEXT
    finally:
        await receiver.aclose()
        with suppress(ChannelMissing, ConnectError):  # it expires in a day
            await topology.delete_subscription(topology.subscription(source), timeout=timeout)


async def _next(
    receiver: PubSubReceiver, since: datetime, end: datetime, wait: float, timeout: float
) -> Sequence[Delivery]:
    """The next ones of that time; none: there are no more.

    Raises:
        ConnectError: nothing came, and the stream was down.
    """
    begun = monotonic()
    until = begun + wait
    while (left := until - monotonic()) > 0:
        try:
            async with asyncio.timeout(left):
                batch = await receiver.receive()
        except TimeoutError:
            if receiver.health().problem is None:
                continue
            if monotonic() - begun > timeout:
                text = f"pubsub: {receiver.address.name} could not be read ({receiver.health().problem})"
                raise ConnectError(text, reason="timeout") from None
            until = monotonic() + wait
            continue
        inside = [delivery for delivery in batch if since <= _published(delivery) <= end]
        with suppress(SettlementLost):
            await receiver.ack([delivery for delivery in batch if delivery not in inside])
        if inside:
            return inside
    return []


def _published(delivery: Delivery) -> datetime:
    raw: Any = delivery.raw  # a protobuf message, which no type checker can know (see wire.py)
    moment = raw.message.publish_time
    return datetime.fromtimestamp(moment.seconds, UTC) + timedelta(microseconds=moment.nanos // 1000)
