"""One partition of what is sent: a queue, and one batch in flight. It runs in callbacks, without a task."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError  # type: ignore[import-untyped]

from unimsg_kafka.clients import withdraw
from unimsg_kafka.errors import FINAL, MISSING, STALE_PRODUCER, is_refusal, problem
from unimsg_kafka.flights import Batch, Flight, Future
from unimsg_kafka.wire import encode

if TYPE_CHECKING:
    from unimsg_kafka.publisher import Entry, Route

BATCH_BYTES = 256 * 1024
_ALL = 1 << 30
_LOOK_AFTER = 1.0  # seconds without an answer, then we look whether the topic is still there


class Lane:
    def __init__(self, route: "Route", place: TopicPartition) -> None:
        self.queue: deque[Entry] = deque()
        self.poisoned: AIOKafkaProducer | None = None
        """The producer that this partition no longer accepts."""
        self._route = route
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._in_flight: tuple[AIOKafkaProducer, Future] | None = None
        self._since = 0.0
        self._looking = False
        self._most = _ALL  # messages in a batch: halved by a refusal, doubled by a success

    @property
    def stands(self) -> bool:
        """Whether something waits and nothing is on its way."""
        return bool(self.queue) and self._in_flight is None

    def pump(self, *, lone: bool = False) -> None:
        """Sends the next batch, if none is in flight. `lone`: no other lane has anything to send now."""
        if self._in_flight is not None or not self.queue:
            return
        producer = self._route.publisher.producer
        if producer is None or producer is self.poisoned or self._route.stale:
            self._route.prepare()
            return
        batch = Batch(self._route.batch_bytes, self._route.codec, is_transactional=False)
        taken = self._fill(batch)
        if not taken:
            return
        batch.close()
        future = self._hand_over(producer, batch, taken, lone)
        if future is None:
            self.queue.extendleft(reversed(taken))
            self._route.prepare()
            return
        for entry in taken:
            entry.handed = True
        self._in_flight, self._since = (producer, future), self._loop.time()

    def watch(self) -> None:
        """To be called now and then. aiokafka sends a batch for a deleted topic again and again, and so into a topic
        made anew under its name."""
        if self._in_flight is not None and not self._looking and self._loop.time() - self._since > _LOOK_AFTER:
            self._looking = True
            self._route.publisher.spawn(self._look(*self._in_flight))

    def _fill(self, batch: Batch) -> "list[Entry]":
        queue, most = self.queue, self._most
        taken: list[Entry] = []
        while queue and len(taken) < most:
            entry = queue[0]
            if entry.open:
                try:
                    key, value, headers = encode(entry.wire, entry.call.inbox)
                except UnicodeEncodeError as error:
                    entry.fail(error)
                else:
                    if not batch.add(key, value, headers):
                        break  # full
                    taken.append(entry)
            queue.popleft()
        return taken

    def _hand_over(self, producer: AIOKafkaProducer, batch: Batch, taken: "list[Entry]", lone: bool) -> Future | None:
        """Gives the batch to aiokafka; None if it would not take it now. As `send_batch`, which is a coroutine with
        nothing to wait for while the producer knows the partition and no batch of it is in flight."""
        accumulator = producer._message_accumulator
        known = producer.client.cluster.partitions_for_topic(self._place.topic)
        if known is None or accumulator._batches.get(self._place):
            return None
        if self._place.partition not in known or accumulator._closed or accumulator._exception is not None:
            self.poisoned = producer
            return None
        flights = self._route.publisher.flights
        return flights.begin(producer, self._place, batch, Flight(flights, self, producer, taken), lone=lone)

    def land(self, producer: AIOKafkaProducer, taken: "list[Entry]", error: BaseException | None) -> None:
        self._in_flight = None
        if error is None:
            self._most = min(self._most * 2, _ALL)
            for entry in taken:
                entry.settle(None)
        else:
            self.poisoned = producer
            self._failed(taken, error)
        self.pump()

    def _failed(self, taken: "list[Entry]", error: BaseException) -> None:
        refused = is_refusal(error)
        if isinstance(error, MISSING):
            self._route.stale = True
        if isinstance(error, STALE_PRODUCER) or (refused and len(taken) > 1 and not isinstance(error, FINAL)):
            for entry in taken:
                entry.handed = False  # the broker stored nothing of it
            self.queue.extendleft(reversed(taken))
            if refused:
                self._most = len(taken) // 2
        else:
            for entry in taken:
                entry.fail(error)

    async def _look(self, producer: AIOKafkaProducer, future: Future) -> None:
        publisher, topic, missing = self._route.publisher, self._place.topic, 0
        while not future.done():
            try:
                missing = missing + 1 if await publisher.topics.find(topic) is None else 0
                if missing > 1:  # a broker that just started may not know all its topics
                    self._route.stale = True
                    # One that was sent may have been stored, and read, before the topic was deleted.
                    gone, unsent = KafkaError(f"topic {topic} was deleted"), UnknownTopicOrPartitionError(topic)
                    withdraw(producer, self._place, gone, unsent=unsent)
                publisher.problem = f"{topic}: the broker does not confirm"
            except Exception as error:  # noqa: BLE001  # whatever it is, the batch would never be looked at again
                publisher.problem = problem(publisher.surprises, topic, "the broker does not confirm", error)
            await asyncio.wait([future], timeout=_LOOK_AFTER / 2)
        publisher.problem = None
        self._looking = False
