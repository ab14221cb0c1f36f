"""aiokafka as its documentation uses it: an idempotent producer with acks=all, a consumer that commits by itself."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]  # aiokafka has no py.typed
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]

from benchmarks.arrivals import Arrivals
from benchmarks.contestant import Contestant, Sender
from benchmarks.rows import HEADERS, IN_FLIGHT, PARTITIONS, key_of

MAX_BATCH_SIZE = 256 * 1024
"""Bytes; the size that unimsg uses, given to every contestant but one: with the default all are slower."""
DOCUMENTED_BATCH_SIZE = 16 * 1024
"""aiokafka's default, which its examples leave as it is."""
PLACES = ("", "..dead", "..retry", "..replies")
"""What the names of a contestant's topics can end with."""
RAW_HEADERS = [(name, value.encode()) for name, value in HEADERS.items()]


def hosts(url: str) -> str:
    return urlsplit(url).netloc


async def make_topic(url: str, name: str) -> None:
    """Also waits until the broker serves it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts(url))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        while (await admin.describe_topics([name]))[0]["error_code"]:  # noqa: ASYNC110  # the broker calls nobody
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


class _Sender(Sender):
    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def send(self, body: bytes) -> None:
        await self._producer.send_and_wait(self._topic, body, key=key_of(body).encode(), headers=RAW_HEADERS)

    async def pipeline(self, bodies: Sequence[bytes]) -> None:
        """`send` returns a future: this is what it is for."""
        pending: deque[asyncio.Future[object]] = deque()
        for body in bodies:
            pending.append(await self._producer.send(self._topic, body, key=key_of(body).encode(), headers=RAW_HEADERS))
            if len(pending) >= IN_FLIGHT:
                await pending.popleft()
        while pending:
            await pending.popleft()


class Aiokafka(Contestant):
    max_batch_size = MAX_BATCH_SIZE

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        await make_topic(self.url, self.channel)
        async with self._producer() as producer:
            yield _Sender(producer, self.channel)

    def _producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=hosts(self.url),
            acks="all",
            enable_idempotence=True,
            max_batch_size=self.max_batch_size,
        )

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        async with self._consumer(self.channel) as consumer:
            await self._loop(consumer, arrivals)

    def _consumer(self, topic: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=hosts(self.url),
            group_id=topic,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )

    async def _loop(self, consumer: AIOKafkaConsumer, arrivals: Arrivals) -> None:
        """Batches, each committed when its messages are handled."""

        async def handle(body: bytes) -> None:
            arrivals.note_in_batch(body)

        while not arrivals.complete.is_set():
            batches = await consumer.getmany(timeout_ms=1000)
            for partition, records in batches.items():
                for record in records:
                    await handle(record.value)
                await consumer.commit({partition: records[-1].offset + 1})
            arrivals.boundary()


class AiokafkaAsDocumented(Aiokafka):
    max_batch_size = DOCUMENTED_BATCH_SIZE


class AiokafkaCommitEach(Aiokafka):
    async def _loop(self, consumer: AIOKafkaConsumer, arrivals: Arrivals) -> None:
        """One message after the other, each committed when it is handled."""

        async def handle(body: bytes) -> None:
            arrivals.note(body)

        async for record in consumer:
            await handle(record.value)
            await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
            if arrivals.complete.is_set():
                return


class AiokafkaCommitEvery100(Aiokafka):
    async def _loop(self, consumer: AIOKafkaConsumer, arrivals: Arrivals) -> None:
        """One message after the other into a list of 100, which is then handled and committed: the first example of
        manual commits in aiokafka's documentation. The last list may be shorter, or the loop would never end."""

        async def handle(body: bytes) -> None:
            arrivals.note_in_batch(body)

        batch = []
        async for record in consumer:
            batch.append(record)
            if len(batch) == 100 or arrivals.distinct + len(batch) == arrivals.count:
                for each in batch:
                    await handle(each.value)
                await consumer.commit()
                batch = []
                arrivals.boundary()
                if arrivals.distinct == arrivals.count:
                    return


async def read_back(url: str, name: str, arrivals: Arrivals) -> None:
    """Reads every partition from its beginning."""
    consumer = AIOKafkaConsumer(bootstrap_servers=hosts(url), enable_auto_commit=False)
    async with consumer:
        consumer.assign([TopicPartition(name, partition) for partition in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        while not arrivals.complete.is_set():
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    arrivals.note_in_batch(record.value)
            arrivals.boundary()


async def unsettled(url: str, name: str) -> int:
    """Messages behind the offsets that the groups have committed; a topic's group has its name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts(url))
    await admin.start()
    try:
        topics = await admin.list_topics()
    finally:
        await admin.close()
    return sum([await _left(url, topic) for topic in (name, f"{name}..retry") if topic in topics])


async def _left(url: str, topic: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=hosts(url), group_id=topic, enable_auto_commit=False)
    partitions = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    async with consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        return sum([ends[partition] - (await consumer.committed(partition) or 0) for partition in partitions])


async def remove(url: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts(url))
    await admin.start()
    try:
        await admin.delete_topics([name + place for place in PLACES])  # no error where there is none
    finally:
        await admin.close()
