"""Sending: our own queue per partition before aiokafka's producer, with one batch of it in flight.

aiokafka's idempotent producer counts a sequence per partition and does not take it back when the broker refuses a
batch: from then on that partition refuses everything of this producer. With one batch in flight, the producer can be
replaced between two batches without breaking the order. A refused batch is sent again in halves until the record is
alone that the broker does not want.

What is certain at a deadline follows from it too: a message still in our queue was never sent; one that aiokafka has
may be stored at any later time.
"""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.errors import UnknownTopicOrPartitionError  # type: ignore[import-untyped]

from unimsg.adapter import Address, Kind, Wire
from unimsg.backoff import Backoff
from unimsg.errors import PublishError
from unimsg.keys import partition_of
from unimsg.surprises import Surprises
from unimsg_kafka.clients import stop_producer
from unimsg_kafka.errors import FINAL, log, never_left, problem, publish_error, unanswered
from unimsg_kafka.flights import Flights
from unimsg_kafka.lane import BATCH_BYTES, Lane
from unimsg_kafka.options import Compression
from unimsg_kafka.topics import Topic, Topics
from unimsg_kafka.wire import topic_of

_CODECS = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # the numbers of Kafka's record format
_KEYLESS_RUN = 16  # messages without a key that go to one partition together: a batch costs more than a message
_DEADLINES = 50.0  # calls whose deadlines fall into the same part of a second, of so many, share a timer
_WATCH_EVERY = 0.5
_RETIRE_WITHIN = 60.0


class Call:
    """One `send`: its outcomes as they come."""

    __slots__ = ("address", "entries", "future", "inbox", "left", "outcomes")

    def __init__(self, address: Address, messages: Sequence[Wire]) -> None:
        self.address = address
        self.inbox = address.channel if address.kind is Kind.INBOX else None
        """The name of the inbox that it goes to."""
        self.entries = [Entry(self, index, wire) for index, wire in enumerate(messages)]
        self.outcomes: list[PublishError | None] = [None] * len(messages)
        self.left = len(messages)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def expire(self, why: str) -> None:
        """The deadline, for what has no answer by now."""
        name = self.address.name
        for entry in list(self.entries):
            wire = entry.wire
            entry.settle(unanswered(name, wire.id) if entry.handed else never_left(why, name, wire.id))

    def abandon(self) -> None:
        """Nobody waits for it any more: what is still queued is not sent."""
        for entry in self.entries:
            entry.open = False
        self.entries = []


class Entry:
    """One message on its way."""

    __slots__ = ("call", "handed", "index", "open", "wire")

    def __init__(self, call: Call, index: int, wire: Wire) -> None:
        self.call = call
        self.index = index
        self.wire = wire
        self.handed = False
        """aiokafka has it: it may be stored."""
        self.open = True

    def settle(self, outcome: PublishError | None) -> None:
        if self.open:
            self.open = False
            call = self.call
            if outcome is not None:
                call.outcomes[self.index] = outcome
            call.left -= 1
            if not call.left:
                call.entries = []
                if not call.future.done():
                    call.future.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.settle(publish_error(error, self.call.address.name, self.wire.id))


class Publisher:
    """Sends to any topic of one cluster. The producer is made by the first send: a user who may only read has none."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.producer: AIOKafkaProducer | None = None
        self.problem: str | None = None
        self.surprises = Surprises(log)
        """What keeps messages from being sent, None if nothing does."""
        self.compressions: dict[str, Compression | None] = {}
        """By topic, where its options name one."""
        self.flights = Flights()
        self._routes: dict[str, Route] = {}
        self._calls: dict[int, set[Call]] = {}  # by the part of a second in which they end
        self._tasks: set[asyncio.Task[None]] = set()
        self._making = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._watching = False

    async def send(self, address: Address, messages: Sequence[Wire], timeout: float) -> Sequence[PublishError | None]:
        call = Call(address, messages)
        due = int((self._loop.time() + timeout) * _DEADLINES)
        calls = self._calls.get(due)
        if calls is None:
            calls = self._calls[due] = set()
            self._loop.call_at(due / _DEADLINES, self._expire, due)
        calls.add(call)
        topic = topic_of(address)
        route = self._routes.get(topic)
        if route is None:
            route = self._routes[topic] = Route(self, topic)
        route.add(call.entries)
        if not self._watching:
            self._watching = True
            self._loop.call_later(_WATCH_EVERY, self._watch)
        try:
            if call.left:
                await call.future
        finally:
            calls.discard(call)
            call.abandon()
        return call.outcomes

    async def renew(self, dead: AIOKafkaProducer | None) -> AIOKafkaProducer:
        """A producer that is not `dead`. The dead one ends when its other partitions have their answers."""
        async with self._making:
            if self.producer is None or self.producer is dead:
                producer = self.topics.clients.producer()
                try:
                    await producer.start()
                except BaseException:
                    await stop_producer(producer, 1.0)
                    raise
                if self.producer is not None:
                    self.spawn(stop_producer(self.producer, _RETIRE_WITHIN))
                self.producer = producer
            return self.producer

    def forget(self, topic: str) -> None:
        """Looks at the topic again before the next send: it was made or changed."""
        if topic in self._routes:
            self._routes[topic].stale = True

    # Any: what a coroutine takes and yields, which concerns nobody.
    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self, timeout: float) -> None:
        """Waits for what is under way, within the time; the rest gets the outcome of its deadline."""
        pending = [call.future for calls in self._calls.values() for call in calls]
        if pending:
            await asyncio.wait(pending, timeout=timeout / 2)
        for due in list(self._calls):
            self._expire(due)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        producer, self.producer = self.producer, None
        if producer is not None:
            await stop_producer(producer, timeout / 2)
        await self.flights.aclose()

    def _expire(self, due: int) -> None:
        for call in self._calls.pop(due, ()):
            call.expire(self.problem or "the broker answers too slowly")

    def _watch(self) -> None:
        self._watching = any(self._calls.values())
        if self._watching:
            self._loop.call_later(_WATCH_EVERY, self._watch)
            for route in self._routes.values():
                for lane in route.lanes:
                    lane.watch()


class Route:
    """The way to one topic: its lanes, once the topic is known to us and to the producer."""

    def __init__(self, publisher: Publisher, topic: str) -> None:
        self.publisher = publisher
        self.topic = topic
        self.stale = True
        self.lanes: list[Lane] = []
        self.batch_bytes = BATCH_BYTES
        self.codec = 0
        self._waiting: deque[Entry] = deque()
        self._turn = itertools.count(random.randrange(1 << 16))  # noqa: S311  # processes begin at different partitions
        self._preparing: asyncio.Task[None] | None = None

    def add(self, entries: Sequence[Entry]) -> None:
        if self.stale:  # before the lanes are known, and in order with those that wait already
            drop_expired(self._waiting)
            self._waiting.extend(entries)
            self.prepare()
        else:
            self._distribute(entries)

    def prepare(self) -> None:
        """Gets ready to send in the background, then sends what waits."""
        if self._preparing is None or self._preparing.done():
            self._preparing = self.publisher.spawn(self._prepare())

    async def _prepare(self) -> None:
        publisher, backoff = self.publisher, Backoff(0.05, 1.0)
        while self._wanted():
            try:
                topic = await publisher.topics.find(self.topic)
                if topic is None:
                    self._fail(UnknownTopicOrPartitionError(self.topic))
                    return
                dead = next((lane.poisoned for lane in self.lanes if lane.poisoned is publisher.producer), None)
                producer = await publisher.renew(dead)
                async with asyncio.timeout(5.0):
                    await producer.partitions_for(self.topic)
                if self.stale:
                    self.batch_bytes = min(BATCH_BYTES, await publisher.topics.limit(self.topic))
                    self._open(topic)
            except FINAL as error:
                self._fail(error)
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, what waits is tried again until its deadline
                publisher.problem = problem(publisher.surprises, self.topic, "cannot send", error)
                await asyncio.sleep(backoff.next())
            else:
                for lane in self.lanes:
                    lane.pump()
                if not any(lane.stands for lane in self.lanes):
                    publisher.problem = None
                    return
                # The producer did not take it, as when partitions were added that it has not heard of yet.
                await asyncio.sleep(backoff.next())

    def _open(self, topic: Topic) -> None:
        self.codec = _CODECS[self.publisher.compressions.get(self.topic)]
        while len(self.lanes) < topic.partitions:  # lanes keep their queues: partitions are only ever added
            self.lanes.append(Lane(self, TopicPartition(self.topic, len(self.lanes))))
        self.stale = False
        waiting, self._waiting = self._waiting, deque()
        self._distribute(waiting)

    def _distribute(self, entries: Sequence[Entry]) -> None:
        lanes, number = self.lanes, len(self.lanes)
        run = max(_KEYLESS_RUN, -(-len(entries) // number))
        keyless, current = 0, lanes[0]
        touched = set()
        for entry in entries:
            key = entry.call.inbox or entry.wire.key
            if key is not None:
                lane = lanes[partition_of(key, number)]
            else:
                if keyless % run == 0:
                    current = lanes[next(self._turn) % number]
                keyless += 1
                lane = current
            lane.queue.append(entry)
            touched.add(lane)
        for lane in touched:
            drop_expired(lane.queue)
            lane.pump(lone=len(touched) == 1)

    def _wanted(self) -> bool:
        queues = [self._waiting, *(lane.queue for lane in self.lanes)]
        for queue in queues:
            drop_expired(queue)
        return any(queues)

    def _fail(self, error: BaseException) -> None:
        """Everything that waits is refused, and the next send looks again."""
        self.stale = True
        for queue in (self._waiting, *(lane.queue for lane in self.lanes)):
            while queue:
                queue.popleft().fail(error)


def drop_expired(queue: deque[Entry]) -> None:
    """Keeps a queue bounded that cannot be sent: its oldest entries expire first."""
    while queue and not queue[0].open:
        queue.popleft()
