"""An ordered broker whose partitions move between its receivers, as Kafka's and RabbitMQ's do: it drains their epochs,
waits for the core, and gives the rest to the next owner, each key from its first message that is not done."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import monotonic
from typing import ClassVar, cast

from policies import wrong

from unimsg.adapter import Address, Delivery, Epoch, Receiver, ReceiverHealth, SettlementLost, Wire
from unimsg.errors import PublishError
from unimsg.keys import partition_of
from unimsg.mailbox import Mailbox
from unimsg.memory import MemoryAdapter

LATE = 1.0
"""Seconds beyond the grace period after which a receiver waits no longer for the core."""


class Partition:
    """A log, and who reads it."""

    def __init__(self) -> None:
        self.waiting: dict[int, Wire] = {}
        """What is not done, in the order sent."""
        self.deliveries: dict[int, int] = {}
        self.length = 0
        self.owner: GroupReceiver | None = None
        self.epoch = Epoch()
        self.given: set[int] = set()
        """In this epoch."""

    def begin(self, owner: "GroupReceiver | None", epoch: Epoch) -> None:
        self.owner, self.epoch, self.given = owner, epoch, set()


class Group:
    """The receivers of one address. `one_epoch`: a receiver's partitions have one together, as on Kafka; else each has
    its own, as on RabbitMQ."""

    def __init__(self, partitions: int, pace: random.Random, *, one_epoch: bool) -> None:
        self.partitions = [Partition() for _ in range(partitions)]
        self.members: list[GroupReceiver] = []
        self._pace = pace
        self._one_epoch = one_epoch
        self._moving: set[Partition] = set()
        """Those that somebody else is to get once their epoch is over."""
        self._together = False
        """Whether they wait for each other."""

    @property
    def left(self) -> int:
        """How many messages are not done."""
        return sum(len(partition.waiting) for partition in self.partitions)

    def put(self, wire: Wire) -> None:
        partition = self.partitions[partition_of(wire.key or "", len(self.partitions))]
        partition.waiting[partition.length] = wire
        partition.length += 1
        self.look()

    def join(self, member: "GroupReceiver") -> None:
        self.members.append(member)
        self.regroup()

    def leave(self, member: "GroupReceiver") -> None:
        """What is unsettled goes back."""
        self.members.remove(member)
        self._end(partition for partition in self.partitions if partition.owner is member)
        self.regroup()

    def regroup(self) -> None:
        """All partitions are given out anew, once all of them are given up."""
        self._together = True
        self._drain(self.partitions)

    def hand_over(self) -> None:
        """One partition, or all of one receiver where they share an epoch, goes to somebody else."""
        owned = [partition for partition in self.partitions if partition.owner is not None]
        if owned:
            epoch = self._pace.choice(owned).epoch
            self._drain(partition for partition in self.partitions if partition.epoch is epoch)

    def cut(self, member: "GroupReceiver") -> None:
        """Its connection is lost: everything unsettled goes back at once."""
        self._end(partition for partition in self.partitions if partition.owner is member)
        self.look()

    def look(self) -> None:
        """Ends what is given up, gives it to the next owner, and hands out what there is room for."""
        held = {delivery.epoch for member in self.members for delivery in member.mailbox.handed_out()}
        self._end(partition for partition in self._moving if partition.epoch not in held)
        over = [partition for partition in self.partitions if partition in self._moving and partition.epoch.over]
        if over and (not self._together or len(over) == len(self._moving)):
            self._assign(over)
        for partition in self.partitions:
            if partition.owner is not None and not partition.epoch.draining:
                partition.owner.feed(partition)

    def _drain(self, partitions: Iterable[Partition]) -> None:
        moving = list(partitions)
        self._moving.update(moving)
        for partition in moving:
            if not partition.epoch.draining and partition.owner is not None:
                late = partition.owner.grace + LATE
                asyncio.get_running_loop().call_later(late, self._end_late, partition, partition.epoch)
            partition.epoch.drain()
        self.look()

    def _end_late(self, partition: Partition, epoch: Epoch) -> None:
        if partition.epoch is epoch and not epoch.over:
            self._end([partition])
            self.look()

    def _end(self, partitions: Iterable[Partition]) -> None:
        ended = list(partitions)
        self._moving.update(ended)
        for partition in ended:
            partition.epoch.end()

    def _assign(self, partitions: Sequence[Partition]) -> None:
        """At random, to a receiver that was stopped too: it is a member until it is closed."""
        self._moving.difference_update(partitions)
        self._together = self._together and bool(self._moving)
        epochs = {member: Epoch() for member in self.members}
        for partition in partitions:
            owner = self._pace.choice(self.members) if self.members else None
            partition.begin(owner, epochs[owner] if owner is not None and self._one_epoch else Epoch())


class GroupReceiver(Receiver):
    def __init__(self, group: Group, address: Address, prefetch: int, grace: float) -> None:
        self.mailbox = Mailbox(prefetch)
        self.grace = grace
        self.closed = False
        self._group = group
        self._address = address
        self._prefetch = prefetch

    def feed(self, partition: Partition) -> None:
        """What there is room for."""
        mine = [one for one in self._group.partitions if one.owner is self]
        room = self._prefetch - sum(len(one.given & one.waiting.keys()) for one in mine)
        fresh = [number for number in partition.waiting if number not in partition.given]
        if self.mailbox.closed:
            return
        for number in fresh[: max(0, room)]:
            partition.given.add(number)
            before = partition.deliveries.get(number, 0)
            partition.deliveries[number] = before + 1
            wire, epoch = partition.waiting[number], partition.epoch
            self.mailbox.put([Delivery(wire, epoch, (partition, number), raw=epoch, redelivered=before)])

    async def receive(self) -> Sequence[Delivery]:
        return await self.mailbox.get()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        lost = 0
        for delivery in self._settled(deliveries):
            partition, number = cast("tuple[Partition, int]", delivery.token)  # ours
            if delivery.epoch.over:
                lost += 1
            else:
                del partition.waiting[number]
        self._group.look()
        if lost:
            raise SettlementLost(f"{lost} come again")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """They wait for the end of their epoch: an older one of their key may still run here."""
        alive = [delivery.wire.id for delivery in deliveries if not delivery.epoch.draining]
        if alive:
            wrong.append(f"{self._address.name}: {alive} released in a live epoch of an ordered address")
        self._settled(deliveries)
        self._group.look()

    def _settled(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        settled = self.mailbox.settle(deliveries)
        if len(settled) < len(deliveries):
            wrong.append(f"{self._address.name}: {len(deliveries) - len(settled)} settled twice")
        return settled

    async def stop(self) -> None:
        self.mailbox.close()

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            self.mailbox.close()
            self._group.leave(self)

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(self._address, True, monotonic(), None, self.mailbox.unsettled)


class Regrouping(MemoryAdapter):
    """Its ordered queues are groups; all else is memory's. `begin` before use."""

    one_epoch: ClassVar[bool] = True
    pace: ClassVar[random.Random] = random.Random(0)
    groups: ClassVar[dict[str, Group]] = {}

    @classmethod
    def begin(cls, seed: int) -> None:
        cls.pace, cls.groups = random.Random(seed), {}

    @classmethod
    def group(cls, address: Address) -> Group:
        if address.name not in cls.groups:
            cls.groups[address.name] = Group(address.partitions, cls.pace, one_epoch=cls.one_epoch)
        return cls.groups[address.name]

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if not address.ordered:
            return await super().send(address, messages, timeout=timeout, delay=delay)
        for wire in messages:
            self.group(address).put(wire)
        return [None] * len(messages)

    async def receiver(  # type: ignore[override]  # another receiver than memory's
        self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0
    ) -> Receiver:
        if not address.ordered:
            return await super().receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)
        receiver = GroupReceiver(self.group(address), address, prefetch, grace)
        self.group(address).join(receiver)
        return receiver


class LikeKafka(Regrouping):
    """One epoch for all partitions of a receiver; no count of deliveries."""

    capabilities = replace(MemoryAdapter.capabilities, counts_redeliveries=False)


class LikeRabbitMQ(Regrouping):
    """An epoch for each partition, and a count of deliveries."""

    one_epoch = False
