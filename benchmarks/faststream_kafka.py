"""FastStream on Kafka as its documentation uses it, with the producer settings of the other contestants.

`logger=None`: its default logs two lines a message, and would be measured instead.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from benchmarks.arrivals import Arrivals
from benchmarks.contestant import Contestant, Sender
from benchmarks.raw_kafka import MAX_BATCH_SIZE, hosts, make_topic
from benchmarks.rows import HEADERS, IN_FLIGHT, PARTITIONS, key_of


class _Sender(Sender):
    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    async def send(self, body: bytes) -> None:
        await self._broker.publish(body, self._topic, key=key_of(body).encode(), headers=dict(HEADERS))

    async def pipeline(self, bodies: Sequence[bytes]) -> None:
        """`no_confirm` returns the producer's future."""
        pending: deque[asyncio.Future[Any]] = deque()
        for body in bodies:
            pending.append(
                await self._broker.publish(
                    body, self._topic, key=key_of(body).encode(), headers=dict(HEADERS), no_confirm=True
                )
            )
            if len(pending) >= IN_FLIGHT:
                await pending.popleft()
        while pending:
            await pending.popleft()


class FastStreamKafka(Contestant):
    """A message acknowledged, that is, its offset committed, after its handler."""

    ack_policy = AckPolicy.NACK_ON_ERROR
    max_workers = PARTITIONS
    """Consumers that share the partitions, where a row wants concurrency and each message is committed."""

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        await make_topic(self.url, self.channel)
        broker = KafkaBroker(
            hosts(self.url), acks="all", enable_idempotence=True, max_batch_size=MAX_BATCH_SIZE, logger=None
        )
        async with broker:
            await broker.start()
            yield _Sender(broker, self.channel)

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        broker = KafkaBroker(hosts(self.url), logger=None)
        self._subscribe(broker, arrivals, concurrency)
        async with broker:
            await broker.start()
            await arrivals.complete.wait()

    def _subscribe(self, broker: KafkaBroker, arrivals: Arrivals, concurrency: int) -> None:
        @broker.subscriber(
            self.channel,
            group_id=self.channel,
            auto_offset_reset="earliest",
            ack_policy=self.ack_policy,
            max_workers=min(concurrency, self.max_workers),
        )
        async def handle(body: bytes) -> None:
            arrivals.note(body)


class FastStreamKafkaAutoCommit(FastStreamKafka):
    """Its default: offsets committed by time, whatever became of the handlers; a crash loses messages."""

    ack_policy = AckPolicy.ACK_FIRST
    max_workers = 50


class FastStreamKafkaBatch(FastStreamKafka):
    """A handler of batches, each committed after its handler."""

    def _subscribe(self, broker: KafkaBroker, arrivals: Arrivals, concurrency: int) -> None:
        @broker.subscriber(
            self.channel,
            group_id=self.channel,
            auto_offset_reset="earliest",
            ack_policy=self.ack_policy,
            batch=True,
        )
        async def handle(bodies: list[bytes]) -> None:
            for body in bodies:
                arrivals.note_in_batch(body)
            arrivals.boundary()
