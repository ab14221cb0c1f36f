"""Receiving as a member of a consumer group.

Kafka takes all partitions of a group's members away at every change of it, and gives them out anew: one assignment is
one epoch. What the group hands over between members is one offset per partition, with our metadata beside it.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import cast

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.sticky.sticky_assignor import (  # type: ignore[import-untyped]
    StickyPartitionAssignor,
)

from unimsg.adapter import Address, ChannelMissing, Delivery, Epoch, Receiver, ReceiverHealth, SettlementLost
from unimsg.backoff import Backoff
from unimsg.mailbox import Mailbox
from unimsg_kafka import positions
from unimsg_kafka.clients import Clients, stop_consumer
from unimsg_kafka.errors import UNREACHABLE, describe
from unimsg_kafka.offsets import Watermark, done_above
from unimsg_kafka.positions import Member, Position
from unimsg_kafka.topics import Topic, find
from unimsg_kafka.wire import decode

_COMMIT_EVERY = 0.05
_COMMIT_WITHIN = 5.0
_WATCH_EVERY = 1.0
_STUCK_AFTER = 60.0
_CLOSE_WITHIN = 5.0
_NEVER_MS = 2**31 - 1
FETCHING = {"fetch_max_wait_ms": 100, "fetch_max_bytes": 16 * 1024 * 1024}
"""A paused partition that is resumed waits for the fetch under way: a short wait keeps that short."""


class _Partition:
    """One partition in one assignment; the token of its deliveries."""

    __slots__ = ("assignment", "committed", "mark", "moved")

    def __init__(self, assignment: "_Assignment", mark: Watermark) -> None:
        self.assignment = assignment
        self.mark = mark
        self.committed: Position | None = None
        self.moved = monotonic()
        """When `committed` last changed, or the last time that nothing was open."""

    def position(self) -> Position | None:
        offset = self.mark.mark
        return None if offset is None else Position(offset, self.mark.metadata())


class _Assignment:
    """What the group gave to this member until the next change: one epoch."""

    def __init__(self, member: Member, places: Sequence[TopicPartition]) -> None:
        self.member = member
        self.places = places
        self.epoch = Epoch()
        self.partitions: dict[TopicPartition, _Partition] = {}
        self.ready = False
        self.open = 0
        """Records taken and not settled."""
        self.handed = 0
        """Those of them that the core has."""
        self.quiet = asyncio.Event()
        self.quiet.set()


class KafkaReceiver(Receiver, ConsumerRebalanceListener):  # type: ignore[misc]  # the listener's base is untyped
    """A member of the group `address.name` on one topic."""

    def __init__(
        self,
        clients: Clients,
        admin: AIOKafkaAdminClient,
        topic: Topic,
        address: Address,
        *,
        prefetch: int,
        grace: float,
        session: float,
    ) -> None:
        self.closed = False
        self._clients, self._admin = clients, admin
        self._topic, self._address, self._group = topic, address, address.name
        self._prefetch, self._grace, self._session = prefetch, grace, session
        self._mailbox = Mailbox(prefetch)
        self._assignment: _Assignment | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._room = asyncio.Event()
        self._dirty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._preparing: asyncio.Task[None] | None = None
        self._closing = asyncio.Lock()
        self._problem: str | None = "has not joined its group yet"
        self._consuming, self._since = False, monotonic()
        self._last_delivery: float | None = None

    async def open(self) -> None:
        """Starts without waiting for the group: joining takes as long as the other members' handlers run."""
        await self._begin()
        self._tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._keep())]

    # The port

    async def receive(self) -> Sequence[Delivery]:
        got = await self._mailbox.get()
        assignment = self._assignment
        if assignment is not None:  # always so: what the mailbox gives out is of the live epoch
            assignment.handed += len(got)
            assignment.quiet.clear()
        return got

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        lost = 0
        for delivery in self._mailbox.settle(deliveries):
            partition = _partition(delivery)
            if delivery.epoch.over:
                lost += 1
            else:
                partition.mark.done(_offset(delivery))
            self._settled(partition.assignment, left_open=False)
        self._dirty.set()
        self._room.set()
        if lost:
            raise SettlementLost(f"kafka: {lost} messages of {self._address.name} may come again: the group changed")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Kafka takes no single record back: it stays open, and is handed out here again while the epoch lives."""
        again = []
        for delivery in self._mailbox.settle(deliveries):
            alive = not (delivery.epoch.draining or self._mailbox.closed)
            self._settled(_partition(delivery).assignment, left_open=alive)
            if alive:
                again.append(Delivery(delivery.wire, delivery.epoch, delivery.token, delivery.raw))
        self._mailbox.put(again)
        self._room.set()

    async def stop(self) -> None:
        self._mailbox.close()
        if self._tasks:
            self._tasks[0].cancel()  # polling; commits go on

    async def aclose(self) -> None:
        async with self._closing:
            if self.closed:
                return
            await self.stop()
            for task in [*self._tasks, *([self._preparing] if self._preparing else [])]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            assignment, self._assignment = self._assignment, None
            if assignment is not None:
                await self._commit(assignment)
                assignment.epoch.end()
                assignment.quiet.set()  # a change of the group that waits for the core need not any more
            if self._consumer is not None:
                await stop_consumer(self._consumer, self._admin, _CLOSE_WITHIN)
            self._set_consuming(False)
            self.closed = True

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(
            self._address,
            consuming=self._consuming,
            since=self._since,
            last_delivery=self._last_delivery,
            unsettled=self._mailbox.unsettled,
            problem=self._problem or self._stuck() or self._idle(),
        )

    # The group. aiokafka logs what these two raise and goes on, so they must not.

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        # First of all, and without waiting before it: aiokafka already fetches for the new assignment, and a record
        # that no watermark has seen would be jumped over by a later commit.
        consumer.pause(*assigned)
        self._assignment = _Assignment(positions.member_of(consumer), list(assigned))
        # Not here: the member sends no heartbeat before this returns.
        self._preparing = asyncio.create_task(self._prepare(consumer, self._assignment))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        assignment = self._assignment
        if assignment is None:
            return
        if self._preparing is not None:
            self._preparing.cancel()
        self._set_consuming(False)
        assignment.epoch.drain()
        try:
            async with asyncio.timeout(self._grace + 5.0):
                await assignment.quiet.wait()
        except TimeoutError:
            self._problem = f"{assignment.handed} messages were not given back when the group changed: they come again"
        await self._commit(assignment)
        assignment.epoch.end()
        if self._assignment is assignment:
            self._assignment = None
        self._room.set()

    async def _prepare(self, consumer: AIOKafkaConsumer, assignment: _Assignment) -> None:
        """Reads what the last owners settled above their commits, then lets records come."""
        backoff = Backoff()
        while not assignment.ready:
            try:
                known: dict[TopicPartition, Position] = {}
                if assignment.places:
                    async with asyncio.timeout(_COMMIT_WITHIN):
                        known = await positions.read(self._admin, self._group, assignment.places)
            except UNREACHABLE as error:
                self._problem = f"cannot read the group's position: {describe(error)}"
                await asyncio.sleep(backoff.next())
                continue
            if assignment.epoch.draining:
                return
            for place in assignment.places:
                at = known.get(place)
                mark = Watermark(done_above(at.offset, at.metadata) if at else ())
                assignment.partitions[place] = _Partition(assignment, mark)
            assignment.ready = True
            self._problem = None
            self._set_consuming(True)
            consumer.resume(*assignment.places)

    async def _commit(self, assignment: _Assignment) -> None:
        """Gives the broker what is done, once it differs from what it has. An epoch whose commit it refuses is over:
        another member may own the partitions."""
        consumer = self._consumer
        fresh = {
            place: position
            for place, partition in assignment.partitions.items()
            if (position := partition.position()) is not None and position != partition.committed
        }
        if consumer is None or not fresh or assignment.epoch.over:
            return
        try:
            async with asyncio.timeout(_COMMIT_WITHIN):
                valid = await positions.commit(consumer, self._group, assignment.member, fresh)
        except UNREACHABLE as error:
            self._problem = f"cannot commit: {describe(error)}"
            self._dirty.set()
            return
        if not valid:
            self._problem = "was put out of its group"
            assignment.epoch.end()
            return
        if assignment.ready and not assignment.epoch.draining:
            self._problem = None
        for place, position in fresh.items():
            partition = assignment.partitions[place]
            partition.committed, partition.moved = position, monotonic()

    async def _keep(self) -> None:
        """Commits, and looks whether the topic is still there."""
        next_look = monotonic() + _WATCH_EVERY
        missing = 0
        while True:
            try:
                async with asyncio.timeout(max(0.0, next_look - monotonic())):
                    await self._dirty.wait()
            except TimeoutError:
                next_look = monotonic() + _WATCH_EVERY
                missing = missing + 1 if await self._topic_is_gone() else 0
                if missing > 1:  # twice, because a broker that just started may not know all its topics
                    self._lose_channel()
                    return
                continue
            self._dirty.clear()
            if self._assignment is not None:
                await self._commit(self._assignment)
            await asyncio.sleep(_COMMIT_EVERY)

    async def _topic_is_gone(self) -> bool:
        if self._consumer is None or self._consumer.partitions_for_topic(self._topic.name) is not None:
            return False
        try:
            async with asyncio.timeout(_COMMIT_WITHIN):
                return await find(self._admin, self._topic.name) is None
        except UNREACHABLE:
            return False

    def _lose_channel(self) -> None:
        self._problem = f"topic {self._topic.name} was deleted"
        self._set_consuming(False)
        if self._assignment is not None:
            self._assignment.epoch.end()
            self._assignment.quiet.set()
        self._mailbox.close(ChannelMissing(f"kafka: topic {self._topic.name} was deleted"))

    # Intake

    async def _poll(self) -> None:
        backoff = Backoff()
        while True:
            room = self._prefetch - self._held()
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                consumer = await self._living()
                records = await consumer.getmany(timeout_ms=1000, max_records=room)
            except Exception as error:  # noqa: BLE001  # whatever it is, a receiver must not end silently
                self._problem = f"cannot receive: {describe(error)}"
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            for place, batch in records.items():  # no await since getmany: this is still the same assignment
                self._take(consumer, place, batch)

    def _take(self, consumer: AIOKafkaConsumer, place: TopicPartition, batch: Sequence[ConsumerRecord]) -> None:
        assignment = self._assignment
        partition = assignment.partitions.get(place) if assignment is not None else None
        if assignment is None or partition is None or assignment.epoch.draining:
            # A later assignment starts at the commit. Should it be this one, then from here: nothing is skipped.
            if place in consumer.assignment():
                consumer.seek(place, batch[0].offset)
            return
        arrived, epoch = partition.mark.arrived, assignment.epoch
        deliveries = [Delivery(decode(record), epoch, partition, record) for record in batch if arrived(record.offset)]
        assignment.open += len(deliveries)
        self._last_delivery = monotonic()
        self._mailbox.put(deliveries)
        if len(deliveries) < len(batch):
            self._dirty.set()  # the mark moved over what was settled before

    def _held(self) -> int:
        """What is taken and not settled, with what the core still has of earlier assignments."""
        assignment = self._assignment
        if assignment is None:
            return self._mailbox.unsettled
        return assignment.open + self._mailbox.unsettled - assignment.handed

    def _settled(self, assignment: _Assignment, *, left_open: bool) -> None:
        assignment.handed -= 1
        if not left_open:
            assignment.open -= 1
        if not assignment.handed:
            assignment.quiet.set()

    # The client

    async def _begin(self) -> AIOKafkaConsumer:
        consumer = self._clients.consumer(
            group_id=self._group,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._session * 1000),
            heartbeat_interval_ms=min(1000, int(self._session * 1000) // 10),
            rebalance_timeout_ms=int((self._grace + 10.0) * 1000),
            # Not to receive is how this waits for handlers: no reason to leave the group.
            max_poll_interval_ms=_NEVER_MS,
            partition_assignment_strategy=(StickyPartitionAssignor,),
            **FETCHING,
        )
        try:
            await consumer.start()  # without a topic: with one that does not exist it would never return
        except BaseException:
            await stop_consumer(consumer, self._admin, 1.0)
            raise
        self._consumer = consumer
        consumer.subscribe([self._topic.name], listener=self)
        return consumer

    async def _living(self) -> AIOKafkaConsumer:
        """The client, made anew if its own tasks have died: it would do nothing any more, and say nothing."""
        consumer = self._consumer
        if consumer is not None and not _is_dead(consumer):
            return consumer
        self._consumer = None
        assignment, self._assignment = self._assignment, None
        if assignment is not None:
            assignment.epoch.end()
        if consumer is not None:
            await stop_consumer(consumer, self._admin, 1.0)
        async with asyncio.timeout(10.0):
            return await self._begin()

    # Health

    def _set_consuming(self, consuming: bool) -> None:
        if consuming != self._consuming:
            self._consuming, self._since = consuming, monotonic()

    def _stuck(self) -> str | None:
        assignment = self._assignment
        for place, partition in assignment.partitions.items() if assignment is not None else ():
            if partition.mark.open and monotonic() - partition.moved > _STUCK_AFTER:
                oldest = next(iter(partition.mark.open))
                return f"partition {place.partition} offset {oldest} is not settled since over {_STUCK_AFTER:g} s"
        return None

    def _idle(self) -> str | None:
        if self._assignment is not None and self._assignment.ready and not self._assignment.places:
            return (
                "has no partition: normal while the group has more receivers than the topic has partitions "
                f"({self._topic.partitions})"
            )
        return None


def _partition(delivery: Delivery) -> _Partition:
    return cast("_Partition", delivery.token)  # the port has it as object; we put it there


def _offset(delivery: Delivery) -> int:
    return cast("int", cast("ConsumerRecord", delivery.raw).offset)  # likewise


def _is_dead(consumer: AIOKafkaConsumer) -> bool:
    return bool(consumer._coordinator._coordination_task.done() or consumer._fetcher.error_future.done())
