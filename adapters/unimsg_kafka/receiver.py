"""Receiving as a member of a consumer group.

Kafka takes all partitions of a group's members away at every change of it, and gives them out anew. What it hands over
between members is one offset per partition, with our metadata beside it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import cast

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.coordinator.assignors.sticky.sticky_assignor import (  # type: ignore[import-untyped]
    StickyPartitionAssignor,
)

from unimsg.adapter import Address, ChannelMissing, Delivery, Receiver, ReceiverHealth, SettlementLost
from unimsg.backoff import Backoff
from unimsg.mailbox import Mailbox
from unimsg.surprises import Surprises
from unimsg_kafka import positions
from unimsg_kafka.assignment import Assignment, Partition
from unimsg_kafka.caution import clear_what_is_empty, first_alone, is_careful, look, lose_patience
from unimsg_kafka.clients import FETCHING, stop_consumer
from unimsg_kafka.deaths import Deaths
from unimsg_kafka.derived import is_room
from unimsg_kafka.errors import log, problem
from unimsg_kafka.positions import Position
from unimsg_kafka.topics import Topic, Topics

_COMMIT_EVERY = 0.05
_COMMIT_WITHIN = 5.0
_WATCH_EVERY = 1.0
_CLOSE_WITHIN = 5.0
_NEVER_MS = 2**31 - 1


class KafkaReceiver(Receiver, ConsumerRebalanceListener):  # type: ignore[misc]  # the listener's base is untyped
    """A member of the group `address.name` on one topic."""

    def __init__(
        self,
        topics: Topics,
        topic: Topic,
        address: Address,
        *,
        prefetch: int,
        grace: float,
        session: float,
        limit: int = 0,
    ) -> None:
        """`limit`: deaths of one message after which it is given up; 0: they are not counted."""
        self.closed = self._ending = False
        self._topics = topics
        self._topic, self.address, self._group = topic, address, address.name
        self._prefetch, self._grace, self._session, self._limit = prefetch, grace, session, limit
        self._mailbox = Mailbox(prefetch)
        self._consumer: AIOKafkaConsumer | None = None
        self._assignment: Assignment | None = None
        self._room = asyncio.Event()
        self._dirty = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._closing, self._committing = asyncio.Lock(), asyncio.Lock()
        self._surprises = Surprises(log)
        self._problems: dict[str, str] = {"group": "has not joined its group yet"}  # by the activity that has it
        self._consuming, self._since = False, monotonic()
        self._last_delivery: float | None = None

    async def open(self) -> None:
        """Starts without waiting for the group: joining takes as long as the other members' handlers run."""
        await self._begin()
        self._polling = asyncio.create_task(self._poll())
        self._keeping = asyncio.create_task(self._keep())

    async def receive(self) -> Sequence[Delivery]:
        got = await self._mailbox.get()
        _partition(got[0]).assignment.hand(len(got))  # all of one: what the mailbox gives out is of the live epoch
        return got

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        lost = 0
        for delivery in self._mailbox.settle(deliveries):
            partition = _partition(delivery)
            if delivery.epoch.over or partition.mark.lost:
                lost += 1
            else:
                record = cast("ConsumerRecord", delivery.raw)  # ours, as the token
                partition.mark.done(record.offset)
                if partition.share is not None and partition.share.remove(record):
                    self._go_on(partition, TopicPartition(record.topic, record.partition))
            partition.assignment.take_back(left_open=False)
        self._dirty.set()
        self._room.set()
        if lost:
            raise SettlementLost(f"kafka: {lost} messages of {self._group} may come again: their group has changed")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Kafka takes no single record back: it stays open, and is handed out here again while its epoch lives."""
        again = []
        for delivery in self._mailbox.settle(deliveries):
            alive = not (delivery.epoch.draining or self._mailbox.closed)
            _partition(delivery).assignment.take_back(left_open=alive)
            if alive:
                again.append(replace(delivery))
        self._mailbox.put(again)
        self._room.set()

    async def stop(self) -> None:
        """What waits inside stays here until `aclose`: the group gives partitions away, not records."""
        self._mailbox.close()
        if self._polling is not None:
            self._polling.cancel()

    async def aclose(self) -> None:
        await self.close(_CLOSE_WITHIN)

    async def close(self, timeout: float) -> None:
        """Ends it, with a dead broker within about `timeout` seconds."""
        async with self._closing:
            if self.closed:
                return
            self._ending = True
            await self.stop()
            tasks = [task for task in (self._polling, self._keeping, self._preparing) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end(commit_within=timeout / 2)
            if self._consumer is not None:
                await stop_consumer(self._consumer, self._topics.admin, timeout / 2)
            self.closed = True

    def health(self) -> ReceiverHealth:
        problems = list(self._problems.values())
        if self._assignment is not None and self._assignment.ready and (stuck := self._assignment.stuck()) is not None:
            problems.append(stuck)
        return ReceiverHealth(
            self.address,
            consuming=self._consuming,
            since=self._since,
            last_delivery=self._last_delivery,
            unsettled=self._mailbox.unsettled,
            problem="; ".join(problems) or None,
        )

    # The group. aiokafka only logs what these two raise, and goes on.

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        consumer = self._consumer
        if consumer is None or self._ending:  # it joins a little too late: nobody would end what begins here
            return
        try:
            # First of all, and without waiting before it: aiokafka already fetches for the new assignment, and a
            # record that no watermark has seen would be jumped over by a later commit.
            consumer.pause(*assigned)
            shared = self._prefetch if is_room(self.address) else 0
            member = positions.member_of(consumer)
            self._assignment = Assignment(member, list(assigned), shared=shared, limit=self._limit)
            # Not here: the member sends no heartbeat before this returns.
            self._preparing = asyncio.create_task(self._prepare(consumer, self._assignment))
        except Exception as error:  # noqa: BLE001  # or nobody would see it
            self._trouble("group", "cannot take its partitions", error)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        try:
            if self._assignment is not None:
                await self._give_up(self._assignment)
        except Exception as error:  # noqa: BLE001  # or nobody would see it
            self._trouble("group", "cannot give up its partitions", error)

    async def _give_up(self, assignment: Assignment) -> None:
        """The core finishes what runs and gives back the rest; then the next owner learns what is done."""
        if self._preparing is not None:
            self._preparing.cancel()
        self._set_consuming(False)
        assignment.epoch.drain()
        try:
            async with asyncio.timeout(self._grace + 5.0):
                await assignment.quiet.wait()
            self._problems.pop("drain", None)
        except TimeoutError:
            self._problems["drain"] = f"{assignment.handed} messages still ran when the group changed: they come again"
        if self._assignment is assignment:  # `aclose` may have come first
            await self._end(commit_within=_COMMIT_WITHIN)
        self._room.set()

    async def _prepare(self, consumer: AIOKafkaConsumer, assignment: Assignment) -> None:
        """Reads what the last owners settled above their commits, then lets records come."""
        backoff = Backoff()
        while not assignment.ready:
            try:
                known: dict[TopicPartition, Position] = {}
                died: dict[TopicPartition, Deaths] = {}
                if assignment.places:
                    async with asyncio.timeout(_COMMIT_WITHIN):
                        known = await positions.read(self._topics.admin, self._group, self._topic, assignment.places)
                        if unknown := [place for place in assignment.places if place not in known]:
                            await consumer.seek_to_beginning(*unknown)  # it would use a commit for an earlier topic
                        if self._limit:
                            died = await look(self._topics, self._topic, known, self._prefetch)
            except Exception as error:  # noqa: BLE001  # whatever it is, the partitions would stay paused for ever
                self._trouble("group", "cannot read the group's position", error)
                await asyncio.sleep(backoff.next())
                continue
            if assignment.epoch.draining:
                return
            assignment.begin(self._topic.id, known, died)
            self._problems.pop("group", None)
            self._set_consuming(True)
            consumer.resume(*(assignment.doubtful or assignment.places))

    async def _end(self, *, commit_within: float = 0.0) -> None:
        assignment, self._assignment = self._assignment, None
        self._set_consuming(False)
        if assignment is not None:
            if commit_within:
                assignment.leaving = True
                await self._commit(assignment, commit_within)
            assignment.epoch.end()
            assignment.quiet.set()  # nothing waits for the core any more

    async def _commit(self, assignment: Assignment, timeout: float = _COMMIT_WITHIN) -> None:
        """Gives the broker what is done. An epoch whose commit it refuses is over: another may own the partitions."""
        try:
            async with asyncio.timeout(timeout), self._committing:
                if self._consumer is None or assignment.epoch.over:
                    return
                fresh = assignment.uncommitted()
                if fresh and not await positions.commit(self._consumer, self._group, assignment.member, fresh):
                    assignment.epoch.end()
                    return
                assignment.committed(fresh)
                self._problems.pop("commit", None)
        except Exception as error:  # noqa: BLE001  # whatever it is, commits go on, and an epoch comes to its end
            self._trouble("commit", "cannot commit", error)

    async def _keep(self) -> None:
        """Commits, and looks whether the topic is still there, and the same one."""
        backoff, next_look, missing = Backoff(), monotonic() + _WATCH_EVERY, 0
        went_back = False
        while not went_back and missing < 2:  # twice, because a broker that just started may not know all its topics
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_EVERY):
                    await self._dirty.wait()
            self._dirty.clear()
            if (assignment := self._assignment) is not None:
                await self._commit(assignment)
                went_back = assignment.went_back
                if self.address.ordered and lose_patience(assignment):
                    self._room.set()
            if monotonic() >= next_look:
                next_look = monotonic() + _WATCH_EVERY
                missing = missing + 1 if await self._topic_is_gone() else 0
            if "commit" in self._problems:
                self._dirty.set()
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                await asyncio.sleep(_COMMIT_EVERY)
        why = "lost records, or was made anew" if went_back else "was deleted"
        self._problems["topic"] = f"topic {self._topic.name} {why}"
        self._mailbox.close(ChannelMissing(f"kafka: {self._problems['topic']}"))
        await self._end()

    async def _topic_is_gone(self) -> bool:
        try:
            gone = await self._topics.is_gone(self._topic)
        except Exception as error:  # noqa: BLE001  # whatever it is, commits go on
            self._trouble("topic", "cannot look for its topic", error)
            return False
        self._problems.pop("topic", None)
        return gone

    # Intake

    async def _poll(self) -> None:
        backoff = Backoff()
        while True:
            room = (1 if is_careful(self._consumer, self._assignment) else self._prefetch) - self._held()
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                consumer = await self._living()
                records = await consumer.getmany(timeout_ms=1000, max_records=room)
            except Exception as error:  # noqa: BLE001  # whatever it is, a receiver must not end silently
                self._trouble("receive", "cannot receive", error)
                await asyncio.sleep(backoff.next())
                continue
            self._problems.pop("receive", None)
            backoff.reset()
            taken: list[Delivery] = []
            for place, batch in records.items():  # no await since getmany: this is still the same assignment
                taken += self._take(consumer, place, batch)
            if taken:
                await self._say_and_put(taken)
            elif not records:
                clear_what_is_empty(consumer, self._assignment)

    async def _say_and_put(self, taken: Sequence[Delivery]) -> None:
        """Before anybody can die of a message, the broker knows that somebody may."""
        partitions = {_partition(delivery) for delivery in taken}
        epoch, assignment, backoff = taken[0].epoch, _partition(taken[0]).assignment, Backoff()
        while not all(partition.is_said for partition in partitions):
            await self._commit(assignment)
            if epoch.draining:
                return  # they are for the next owner
            if "commit" in self._problems:
                await asyncio.sleep(backoff.next())
        self._mailbox.put(taken)

    def _take(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, batch: Sequence[ConsumerRecord]
    ) -> Sequence[Delivery]:
        assignment = self._assignment
        partition = assignment.partitions.get(place) if assignment is not None else None
        if assignment is None or partition is None or assignment.epoch.draining:
            # The next assignment starts at the commit. Should it be this one, then from here: nothing is skipped.
            if place in consumer.assignment():
                consumer.seek(place, batch[0].offset)
                consumer.pause(place)
            return []
        if is_careful(consumer, assignment):  # the request may be older than what was found out
            batch = first_alone(consumer, place, batch, self._held())
        deliveries = assignment.take(partition, batch)
        if partition.share is not None and partition.share.stopped_at is not None:
            consumer.seek(place, partition.share.stopped_at)
            consumer.pause(place)
        self._last_delivery = monotonic()
        if len(deliveries) < len(batch):
            self._dirty.set()  # the mark moved over what was settled before, or was lost
        return deliveries

    def _go_on(self, partition: Partition, place: TopicPartition) -> None:
        """It was paused because its share was full."""
        consumer, assignment = self._consumer, partition.assignment
        if consumer is not None and not assignment.epoch.draining and place in consumer.assignment():
            consumer.resume(place)

    def _held(self) -> int:
        """What is taken and not settled, with what the core still has of earlier assignments."""
        assignment, unsettled = self._assignment, self._mailbox.unsettled
        return unsettled if assignment is None else assignment.open + unsettled - assignment.handed

    # The client

    async def _begin(self) -> AIOKafkaConsumer:
        consumer = self._topics.clients.consumer(
            group_id=self._group,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._session * 1000),
            heartbeat_interval_ms=min(1000, int(self._session * 1000) // 10),
            rebalance_timeout_ms=int((self._grace + 10.0) * 1000),
            # Not to ask for records is how this waits for handlers: no reason to leave the group.
            max_poll_interval_ms=_NEVER_MS,
            partition_assignment_strategy=(StickyPartitionAssignor,),
            **FETCHING,
        )
        try:
            await consumer.start()  # without a topic: with one that does not exist it would never return
        except BaseException:
            await stop_consumer(consumer, self._topics.admin, 1.0)
            raise
        self._consumer = consumer
        consumer.subscribe([self._topic.name], listener=self)
        return consumer

    async def _living(self) -> AIOKafkaConsumer:
        """The client, made anew if its own tasks have died: it would do nothing any more, and say nothing."""
        consumer = self._consumer
        if consumer is not None:
            if not (consumer._coordinator._coordination_task.done() or consumer._fetcher.error_future.done()):
                return consumer
            self._consumer = None
            await self._end()
            await stop_consumer(consumer, self._topics.admin, 1.0)
        async with asyncio.timeout(10.0):
            return await self._begin()

    def _trouble(self, activity: str, what: str, error: Exception) -> None:
        self._problems[activity] = problem(self._surprises, self._group, what, error)

    def _set_consuming(self, consuming: bool) -> None:
        if consuming != self._consuming:
            self._consuming, self._since = consuming, monotonic()


def _partition(delivery: Delivery) -> Partition:
    return cast("Partition", delivery.token)  # the port has it as object; we put it there
