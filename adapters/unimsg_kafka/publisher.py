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
from functools import partial
from typing import Any

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.errors import UnknownTopicOrPartitionError  # type: ignore[import-untyped]
from aiokafka.producer.message_accumulator import BatchBuilder  # type: ignore[import-untyped]

from unimsg.backoff import Backoff
from unimsg.errors import PublishError
from unimsg.keys import partition_of
from unimsg_kafka.clients import Clients, stop_producer, withdraw
from unimsg_kafka.errors import (
    FORBIDDEN,
    MISSING,
    STALE_PRODUCER,
    UNREACHABLE,
    concerns_channel,
    describe,
    is_refusal,
    never_left,
    publish_error,
    unanswered,
)
from unimsg_kafka.options import Compression
from unimsg_kafka.topics import Topic, Topics
from unimsg_kafka.wire import Record

_CODECS = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # the numbers of Kafka's record format
_BATCH_BYTES = 256 * 1024
_KEYLESS_RUN = 16  # messages without a key that go to one partition together: a batch costs more than a message
_LOOK_AFTER = 1.0  # seconds without an answer, then we look whether the topic is still there
_RETIRE_WITHIN = 60.0


Outgoing = tuple[str, str | None, Record | PublishError]
"""Id, the key that chooses the partition, and the record, or what makes one impossible."""


class _Call:
    """One `send`: its outcomes as they come."""

    __slots__ = ("channel", "entries", "future", "left", "outcomes")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.entries: list[_Entry] = []
        self.outcomes: list[PublishError | None] = []
        self.left = 0
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, entry: "_Entry", outcome: PublishError | None) -> None:
        if not entry.open:
            return
        entry.open = False
        self.outcomes[entry.index] = outcome
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)

    def expire(self, why: str) -> None:
        """The deadline: what is not answered by now."""
        for entry in self.entries:
            if entry.open:
                in_doubt = entry.handed
                outcome = unanswered if in_doubt else partial(never_left, why)
                self.settle(entry, outcome(self.channel, entry.message_id))


class _Entry:
    """One message on its way."""

    __slots__ = ("call", "handed", "index", "key", "message_id", "open", "record")

    def __init__(self, call: _Call, index: int, message_id: str, key: str | None, record: Record) -> None:
        self.call = call
        self.index = index
        self.message_id = message_id
        self.key = key
        self.record = record
        self.handed = False
        """aiokafka has it: it may be stored."""
        self.open = True

    def fail(self, error: BaseException) -> None:
        self.call.settle(self, publish_error(error, self.call.channel, self.message_id))


class Publisher:
    """Sends to any topic of one cluster. The producer is made by the first send: a user who may only read has none."""

    def __init__(self, clients: Clients, topics: Topics) -> None:
        self._clients = clients
        self.topics = topics
        self.producer: AIOKafkaProducer | None = None
        self.problem: str | None = None
        """What keeps messages from being sent, None if nothing does."""
        self.compressions: dict[str, Compression | None] = {}
        """By topic, where its options name one."""
        self._routes: dict[str, _Route] = {}
        self._calls: set[_Call] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._making = asyncio.Lock()
        self._closed = False

    async def send(
        self, channel: str, topic: str, messages: Sequence[Outgoing], timeout: float
    ) -> Sequence[PublishError | None]:
        call = _Call(channel)
        for index, (message_id, key, record) in enumerate(messages):
            if isinstance(record, PublishError):
                call.outcomes.append(record)
            else:
                call.outcomes.append(None)
                call.entries.append(_Entry(call, index, message_id, key, record))
        call.left = len(call.entries)
        if not call.left:
            return call.outcomes
        route = self._routes.get(topic)
        if route is None:
            route = self._routes[topic] = _Route(self, topic)
        self._calls.add(call)
        timer = asyncio.get_running_loop().call_later(timeout, self._expire, call)
        try:
            route.add(call.entries)
            await call.future
        finally:
            timer.cancel()
            self._calls.discard(call)
            if call.left:  # cancelled: what is still queued is not sent
                for entry in call.entries:
                    entry.open = False
        return call.outcomes

    async def renew(self, dead: AIOKafkaProducer | None) -> AIOKafkaProducer:
        """A producer that is not `dead`. The dead one ends when its other partitions have their answers."""
        async with self._making:
            if self.producer is None or self.producer is dead:
                producer = self._clients.producer()
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
        if self._calls:
            await asyncio.wait([call.future for call in self._calls], timeout=timeout / 2)
        self._closed = True
        for call in list(self._calls):
            call.expire("closed")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.producer is not None:
            producer, self.producer = self.producer, None
            await stop_producer(producer, timeout / 2)

    def _expire(self, call: _Call) -> None:
        call.expire(self.problem or "the broker answers too slowly")


class _Route:
    """The way to one topic: its lanes, once the topic is known to us and to the producer."""

    def __init__(self, publisher: Publisher, topic: str) -> None:
        self.publisher = publisher
        self.topic = topic
        self.stale = True
        self.lanes: list[_Lane] = []
        self.batch_bytes = _BATCH_BYTES
        self.codec = 0
        self._waiting: deque[_Entry] = deque()
        self._turn = itertools.count(random.randrange(1 << 16))  # noqa: S311  # processes begin at different partitions
        self._preparing: asyncio.Task[None] | None = None

    def add(self, entries: Sequence[_Entry]) -> None:
        if self.stale:  # before the lanes are known, and in order with those that wait already
            _drop_expired(self._waiting)
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
                    self.batch_bytes = min(_BATCH_BYTES, await publisher.topics.limit(self.topic))
                    self._open(topic)
            except FORBIDDEN as error:
                self._fail(error)
                return
            except UNREACHABLE as error:
                publisher.problem = f"cannot send to {self.topic}: {describe(error)}"
                await asyncio.sleep(backoff.next())
            else:
                publisher.problem = None
                for lane in self.lanes:
                    lane.pump()
                return

    def _open(self, topic: Topic) -> None:
        self.codec = _CODECS[self.publisher.compressions.get(self.topic)]
        while len(self.lanes) < topic.partitions:  # lanes keep their queues: partitions are only ever added
            self.lanes.append(_Lane(self, TopicPartition(self.topic, len(self.lanes))))
        self.stale = False
        waiting, self._waiting = self._waiting, deque()
        self._distribute(waiting)

    def _distribute(self, entries: Sequence[_Entry]) -> None:
        lanes, touched = self.lanes, set()
        run = max(_KEYLESS_RUN, -(-len(entries) // len(lanes)))
        keyless, lane = 0, lanes[0]
        for entry in entries:
            if entry.key is not None:
                place = lanes[partition_of(entry.key, len(lanes))]
            else:
                if keyless % run == 0:
                    lane = lanes[next(self._turn) % len(lanes)]
                keyless += 1
                place = lane
            place.queue.append(entry)
            touched.add(place)
        for place in touched:
            _drop_expired(place.queue)
            place.pump()

    def _wanted(self) -> bool:
        queues = [self._waiting, *(lane.queue for lane in self.lanes)]
        for queue in queues:
            _drop_expired(queue)
        return any(queues)

    def _fail(self, error: BaseException) -> None:
        """Everything that waits is refused, and the next send looks again."""
        self.stale = True
        for queue in (self._waiting, *(lane.queue for lane in self.lanes)):
            while queue:
                queue.popleft().fail(error)


class _Lane:
    """One partition: its queue, and its one batch in flight. All of it runs in callbacks, without a task."""

    def __init__(self, route: _Route, place: TopicPartition) -> None:
        self.route = route
        self.place = place
        self.queue: deque[_Entry] = deque()
        self.poisoned: AIOKafkaProducer | None = None
        """The producer that this partition no longer accepts."""
        self._busy = False
        self._most = 1 << 30  # messages in a batch: halved by a refusal, doubled by a success
        self._look: asyncio.TimerHandle | None = None

    def pump(self) -> None:
        """Sends the next batch, if none is in flight."""
        if self._busy or not self.queue:
            return
        producer = self.route.publisher.producer
        if producer is None or producer is self.poisoned or self.route.stale:
            self.route.prepare()
            return
        batch = BatchBuilder(self.route.batch_bytes, self.route.codec, is_transactional=False)
        taken = self._fill(batch)
        if not taken:
            return
        batch.close()
        future = self._hand_over(producer, batch)
        if future is None:
            self.queue.extendleft(reversed(taken))
            self.route.prepare()
            return
        self._busy = True
        for entry in taken:
            entry.handed = True
        future.add_done_callback(partial(self._done, producer, taken))
        self._look = asyncio.get_running_loop().call_later(_LOOK_AFTER, self._begin_look, producer, future)

    def _fill(self, batch: BatchBuilder) -> list[_Entry]:
        queue, most = self.queue, self._most
        taken: list[_Entry] = []
        while queue and len(taken) < most:
            entry = queue[0]
            if entry.open:
                key, value, headers = entry.record
                if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    break  # full
                taken.append(entry)
            queue.popleft()
        return taken

    def _hand_over(self, producer: AIOKafkaProducer, batch: BatchBuilder) -> "asyncio.Future[object] | None":
        """Gives the batch to aiokafka without waiting; None if it would wait: for the topic's metadata.

        `send_batch` is a coroutine that has nothing to wait for while the producer knows the topic and no batch of the
        partition is in flight. Stepping it here spares a task for each batch.
        """
        step = producer.send_batch(batch, self.place.topic, partition=self.place.partition)
        try:
            step.send(None)
        except StopIteration as handed:
            return handed.value  # type: ignore[no-any-return]  # a future, of an untyped package
        except (*UNREACHABLE, AssertionError, TypeError):  # closed, or the topic just vanished from its metadata
            self.poisoned = producer
            return None
        step.close()
        return None

    def _done(self, producer: AIOKafkaProducer, taken: list[_Entry], future: "asyncio.Future[object]") -> None:
        self._busy = False
        if self._look is not None:
            self._look.cancel()
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._most = min(self._most * 2, 1 << 30)
            for entry in taken:
                entry.call.settle(entry, None)
        else:
            self.poisoned = producer
            self._failed(taken, error)
        self.pump()

    def _failed(self, taken: list[_Entry], error: BaseException) -> None:
        refused = is_refusal(error)
        if isinstance(error, MISSING):
            self.route.stale = True
        if isinstance(error, STALE_PRODUCER) or (refused and len(taken) > 1 and not concerns_channel(error)):
            for entry in taken:
                entry.handed = False  # the broker stored nothing of it
            self.queue.extendleft(reversed(taken))
            if refused:
                self._most = len(taken) // 2
        else:
            for entry in taken:
                entry.fail(error)

    def _begin_look(self, producer: AIOKafkaProducer, future: "asyncio.Future[object]") -> None:
        self.route.publisher.spawn(self._look_for_topic(producer, future))

    async def _look_for_topic(self, producer: AIOKafkaProducer, future: "asyncio.Future[object]") -> None:
        """aiokafka sends a batch for a deleted topic again and again, and so into a topic made anew under its name."""
        while not future.done():
            try:
                if await self.route.publisher.topics.find(self.place.topic) is None:
                    withdraw(producer, self.place, UnknownTopicOrPartitionError(self.place.topic))
            except UNREACHABLE as error:
                self.route.publisher.problem = f"no answer of {self.place.topic}: {describe(error)}"
            await asyncio.wait([future], timeout=_LOOK_AFTER / 2)
        self.route.publisher.problem = None


def _drop_expired(queue: deque[_Entry]) -> None:
    """Keeps a queue bounded that cannot be sent: its oldest entries expire first."""
    while queue and not queue[0].open:
        queue.popleft()
