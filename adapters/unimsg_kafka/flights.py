"""How batches get into aiokafka's producer, and how we hear of their end: past its coroutines, each of which would cost
turns of the event loop, and a turn costs as much as all that we do for a message.

The producer's own task gathers what was handed over in a turn or two into one request for each broker. That is right
where much is sent. Whoever waits for each message only waits longer: a batch that is alone goes out at once.
"""

import asyncio
from typing import TYPE_CHECKING

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from unimsg_kafka.lane import Lane
    from unimsg_kafka.publisher import Entry

Future = asyncio.Future[object]


class Batch(BatchBuilder):  # type: ignore[misc]  # of an untyped package
    """Messages to one partition, in the order added."""

    def add(self, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> bool:
        """Whether there was room for it. As `append`, without its look for serializers, which costs as much again."""
        if self._builder.append(self._relative_offset, None, key=key, value=value, headers=headers) is None:
            return False
        self._relative_offset += 1
        return True


class Flight:
    """A batch on its way. It stands in aiokafka's batch like the future of a single message, and so hears of the end at
    once: a future's callback comes a turn of the event loop later."""

    __slots__ = ("_flights", "_landed", "_lane", "_producer", "_taken")
    offset = timestamp = 0  # aiokafka reckons from these what it tells, and nobody here wants to know

    def __init__(self, flights: "Flights", lane: "Lane", producer: AIOKafkaProducer, taken: "list[Entry]") -> None:
        self._flights = flights
        self._lane = lane
        self._producer = producer
        self._taken = taken
        self._landed = False

    def done(self) -> bool:
        return self._landed

    def set_result(self, _: object) -> None:
        self._land(None)

    def set_exception(self, error: BaseException) -> None:
        self._land(error)

    def _land(self, error: BaseException | None) -> None:
        self._landed = True
        self._flights.ended()
        self._lane.land(self._producer, self._taken, error)


class Flights:
    """All that are on their way from this process to one cluster."""

    def __init__(self) -> None:
        self._number = 0
        self._crowded = True
        """Whether several were on their way at once, since the last moment when there was none."""
        self._alone = False
        """Whether the last that ended had been alone all the time: the next one is, most likely."""
        self._sending: set[asyncio.Task[None]] = set()

    def ended(self) -> None:
        self._number -= 1
        if not self._number:
            self._alone, self._crowded = not self._crowded, False

    def begin(
        self, producer: AIOKafkaProducer, place: TopicPartition, batch: Batch, flight: Flight, *, lone: bool
    ) -> Future:
        """The producer must know `place`, and have no batch that waits for it. `lone`: nothing else is handed over
        with it."""
        accumulator = producer._message_accumulator
        leader = self._leader(producer, place) if lone and self._alone and not self._number else None
        if leader is None:
            sent = accumulator._append_batch(batch, place)
        else:  # as `_append_batch`, but the producer's own task need not wake up
            sent = MessageBatch(place, batch, accumulator._batch_ttl, accumulator._linger_time)
            accumulator._batches[place].append(sent)
            self._send(producer, place, leader)
        sent._msg_futures.append((flight, flight))
        self._number += 1
        self._crowded = self._crowded or self._number > 1
        return sent.future  # type: ignore[no-any-return]  # a future, of an untyped package

    async def aclose(self) -> None:
        """To be called when the producers are closed."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    @staticmethod
    def _leader(producer: AIOKafkaProducer, place: TopicPartition) -> int | None:
        """The broker to send to, if the producer's own task would send there as soon as it woke up."""
        sender = producer._sender
        leader: int | None = producer.client.cluster.leader_for_partition(place)
        if leader == -1 or leader in sender._in_flight or place in sender._muted_partitions:
            return None
        return None if producer._message_accumulator._batches else leader

    def _send(self, producer: AIOKafkaProducer, place: TopicPartition, leader: int) -> None:
        """What the producer's own task does with a batch when it wakes up."""
        accumulator, sender = producer._message_accumulator, producer._sender
        batch = accumulator._pop_batch(place)
        sender._in_flight.add(leader)
        sender._muted_partitions.add(place)
        task = asyncio.get_running_loop().create_task(sender._send_produce_req(leader, {place: batch}))
        self._sending.add(task)

        def sent(task: "asyncio.Task[None]") -> None:
            self._sending.discard(task)
            sender._fail_all(task)
            if accumulator._batches:  # what came meanwhile for this broker, or the batch itself to be sent again
                accumulator._wakeup(accumulator._waiter_future)

        task.add_done_callback(sent)
