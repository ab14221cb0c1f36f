"""What operators ask."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from time import monotonic
from typing import Any

from unimsg.adapter import (
    About,
    Address,
    ChannelMissing,
    Delivery,
    Difference,
    Kind,
    Missing,
    Operations,
    Right,
    Wanted,
    Wire,
)
from unimsg.errors import ConnectError, PermissionDenied, TopologyError, UnimsgError
from unimsg.mailbox import PAGE, PAGE_BYTES, pages
from unimsg_pubsub import derived, rights
from unimsg_pubsub.history import unfinished
from unimsg_pubsub.link import Link
from unimsg_pubsub.receiver import PubSubReceiver
from unimsg_pubsub.replay import read
from unimsg_pubsub.topology import LABEL, Topology, has_subscription, options_of, topic_changes

FIRST = 2.0
"""Seconds within which the first message has to come, else nothing waits."""
NEXT = 0.5
"""Seconds after a message within which another one has to come, else that was all."""
SOME = 8
"""Partitions of an ordered channel. Pub/Sub orders each key by itself: how many there are is nothing to it."""


class PubSubOperations(Operations):
    def __init__(self, link: Link, topology: Topology, ack_deadline: int) -> None:
        self._link = link
        self._topology = topology
        self._ack_deadline = ack_deadline

    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        if address.kind is Kind.INBOX:
            return []
        until = monotonic() + timeout
        differences = await self._inspect(address, wanted, until)
        if has_subscription(address) and not derived.role_of(address):  # `ensure` makes its dead-letter queue, too
            dead = derived.graveyard_of(address)
            nothing_kept = replace(wanted, start=None, history=None)
            differences += await self._inspect(dead, nothing_kept, until) if dead is not None else []
        return differences

    async def backlog(self, address: Address, *, timeout: float) -> int | None:
        """None: the service only tells it through Cloud Monitoring, minutes late."""
        await self._check(address, monotonic() + timeout)
        return None

    async def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        """Receives, and gives it all back at the end: the oldest of each page first. Where a dead-letter policy is,
        that counts as one delivery of each message; dead-letter queues have none.

        A snapshot, read through a subscription made for it, would count nothing. But the service makes none of a
        backlog older than 7 days, as dead letters are, and the emulator only of topics that retain what is old.
        """
        await self._check(address, monotonic() + timeout)
        most = min(limit, PAGE)
        receiver = PubSubReceiver(self._link, self._topology, address, prefetch=most, ack_deadline=self._ack_deadline)
        receiver.start()
        try:
            while limit > 0 and (found := await _page(receiver, min(limit, most), timeout)):
                wires = [delivery.wire for delivery in sorted(found, key=_published)][:limit]
                limit -= len(wires)
                found.clear()
                for page in pages(wires):
                    yield page
        finally:
            await receiver.aclose()

    def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        return read(self._link, self._topology, topic, since, ack_deadline=self._ack_deadline, timeout=timeout)

    async def find(self, address: Address, *, timeout: float) -> Address:
        """A topic that others made says not what it is: it is what it is used as, without order."""
        until = monotonic() + timeout
        topic = await self._topology.get_topic(self._topology.source(address), until)
        kind, _, ordered = topic.labels.get(LABEL, address.kind.value).partition("-")
        if kind != address.kind.value:
            raise TopologyError(f"pubsub: {address.channel} is a {kind}, not a {address.kind.value}")
        if address.subscription is not None:
            await self._topology.get_subscription(self._topology.subscription(address), until)
        return replace(address, partitions=(address.partitions or SOME) if ordered else 0)

    async def delete(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        if not has_subscription(address):
            raise ValueError(f"pubsub: {address.name} is a topic: only queues and subscriptions are deleted")
        until = monotonic() + timeout
        await self._delete(address, until)
        if not wanted.temporary and (dead := derived.graveyard_of(address)) is not None:
            await self._delete(dead, until)

    async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
        if address.kind is Kind.INBOX and right is Right.MAKE:
            return []
        return await rights.missing(self._link, self._topology, address, right, timeout=timeout)

    async def about(self, *, timeout: float) -> About:
        """A service has no version, and it tells its time with messages only."""
        broker = (
            f"Pub/Sub's emulator at {self._link.target}" if self._link.emulator else f"Pub/Sub, {self._link.target}"
        )
        return About(broker, f"google-cloud-pubsub {version('google-cloud-pubsub')}")

    async def _delete(self, address: Address, until: float) -> None:
        """The subscription first: without its topic it would stay, and be of no topic."""
        topology = self._topology
        with suppress(ChannelMissing):
            await topology.delete_subscription(topology.subscription(address), timeout=until - monotonic())
        if address.kind is Kind.QUEUE:
            with suppress(ChannelMissing):
                await topology.delete_topic(topology.source(address), timeout=until - monotonic())

    async def _inspect(self, address: Address, wanted: Wanted, until: float) -> list[Difference]:
        try:
            topic = await self._topology.get_topic(self._topology.source(address), until)
        except ChannelMissing:
            return [Difference(f"topic {address.channel}", "exists", None)]
        differences = [each.difference for each in topic_changes(address, wanted, topic)]
        if not has_subscription(address):
            return differences
        try:
            found = await self._topology.get_subscription(self._topology.subscription(address), until)
        except ChannelMissing:
            return [*differences, Difference(f"subscription {address.name}", "exists", None)]
        changes = self._topology.subscription_changes(address, options_of(address, wanted), found)
        return [*differences, *(each.difference for each in changes), *unfinished(address, found)]

    async def _check(self, address: Address, until: float) -> None:
        """
        Raises:
            ChannelMissing: it does not exist.
        """
        if address.kind is Kind.TOPIC and address.subscription is None:
            await self._topology.get_topic(self._topology.source(address), until)
        else:
            await self._topology.get_subscription(self._topology.subscription(address), until)


async def _page(receiver: PubSubReceiver, most: int, timeout: float) -> list[Delivery]:
    """What comes until there are so many, or as many bytes as a page may have, or nothing more; kept from others.

    Raises:
        PermissionDenied, ConnectError: nothing came, and the stream was down.
    """
    found: dict[str, Delivery] = {}  # by Pub/Sub's own id: it may deliver one twice
    until, size = monotonic() + timeout, 0
    last = monotonic() + FIRST
    while len(found) < most and size < PAGE_BYTES and (left := min(last, until) - monotonic()) > 0:
        try:
            async with asyncio.timeout(left):
                batch = await receiver.receive()
        except TimeoutError:
            if receiver.is_open:
                break
            if monotonic() >= until or "PERMISSION_DENIED" in (receiver.health().problem or ""):
                raise _not_browsed(receiver.address, receiver.health().problem or "no stream in time") from None
            last = monotonic() + NEXT  # what the next stream brings is still to come
            continue
        found.update({_message(delivery).message_id: delivery for delivery in batch})
        size += sum(len(delivery.wire.body) for delivery in batch)
        receiver.set_aside(batch)
        last = monotonic() + NEXT
    return list(found.values())


def _message(delivery: Delivery) -> Any:
    """The protobuf message, which no type checker can know (see wire.py)."""
    raw: Any = delivery.raw
    return raw.message


def _published(delivery: Delivery) -> tuple[int, int]:
    moment = _message(delivery).publish_time
    return (moment.seconds, moment.nanos)


def _not_browsed(address: Address, problem: str) -> UnimsgError:
    text = f"pubsub: subscription {address.name} could not be read ({problem})"
    if "PERMISSION_DENIED" in problem:
        return PermissionDenied(f"{text}: grant pubsub.subscriptions.consume")
    return ConnectError(text, reason="timeout")
