"""aiokafka keeping the order of keys, and trying again what failed: the least that does it without losing anything."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord  # type: ignore[import-untyped]  # aiokafka has no py.typed

from benchmarks.arrivals import Arrivals, FailingOnce, HandlerFailed, InOrder
from benchmarks.raw_kafka import Aiokafka, make_topic
from benchmarks.rows import RETRY_DELAY

DUE = "due"
"""Header of a copy: seconds since the epoch."""


class AiokafkaOrdered(Aiokafka):
    """A batch's keys at the same time, each key's messages one after the other, and a commit for the batch."""

    arrivals = InOrder

    async def _loop(self, consumer: AIOKafkaConsumer, arrivals: Arrivals) -> None:
        async def handle(body: bytes) -> None:
            arrivals.note_in_batch(body)

        async def handle_lane(records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                await handle(record.value)

        while not arrivals.complete.is_set():
            batches = await consumer.getmany(timeout_ms=1000)
            lanes = defaultdict(list)
            for records in batches.values():
                for record in records:
                    lanes[record.key].append(record)
            await asyncio.gather(*[handle_lane(lane) for lane in lanes.values()])
            if batches:
                await consumer.commit({partition: records[-1].offset + 1 for partition, records in batches.items()})
            arrivals.boundary()


class AiokafkaRetrying(Aiokafka):
    """Copies of what failed go to a second topic, and are stored before their batch is committed; a consumer of it
    waits until each is due, and does the same."""

    arrivals = FailingOnce

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        again = f"{self.channel}..retry"
        await make_topic(self.url, again)
        async with (
            self._producer() as producer,
            self._consumer(self.channel) as first,
            self._consumer(again) as second,
            asyncio.TaskGroup() as both,
        ):
            both.create_task(self._retrying(first, producer, again, arrivals))
            both.create_task(self._retrying(second, producer, again, arrivals))

    async def _retrying(
        self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, again: str, arrivals: Arrivals
    ) -> None:
        async def handle(body: bytes) -> None:
            arrivals.note_in_batch(body)

        while not arrivals.complete.is_set():
            batches = await consumer.getmany(timeout_ms=1000)
            for partition, records in batches.items():
                copies = []
                for record in records:
                    await _wait_until_due(record)
                    try:
                        await handle(record.value)
                    except HandlerFailed:
                        due = (DUE, repr(time.time() + RETRY_DELAY).encode())
                        copies.append(
                            await producer.send(again, record.value, key=record.key, headers=[*record.headers, due])
                        )
                await asyncio.gather(*copies)
                await consumer.commit({partition: records[-1].offset + 1})
            arrivals.boundary()


async def _wait_until_due(record: ConsumerRecord) -> None:
    due = [float(value) for name, value in record.headers if name == DUE]
    while due and (wait := due[-1] - time.time()) > 0:  # noqa: ASYNC110  # for a time, not an event
        await asyncio.sleep(wait)
