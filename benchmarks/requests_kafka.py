"""aiokafka's way to ask: a topic for the replies, read from its end by who asks, and a correlation id in a header.

Its documentation shows no request; this is the pattern of the reply topic that Kafka's users describe, from the parts
that aiokafka documents.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import uuid4

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRecord,
    TopicPartition,
)

from benchmarks.contestant import Ask, Asking
from benchmarks.raw_kafka import RAW_HEADERS, hosts, make_topic
from benchmarks.rows import key_of


class AiokafkaReplyTopic(Asking):
    """A handled batch is committed when its replies are stored."""

    auto_commit: ClassVar[bool] = False

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        replies = f"{self.channel}..replies"
        await make_topic(self.url, self.channel)
        await make_topic(self.url, replies)
        async with self._producer() as answering, self._producer() as asking, self._requests() as requests:
            place = TopicPartition(replies, 0)
            inbox = AIOKafkaConsumer(bootstrap_servers=hosts(self.url), enable_auto_commit=False)
            async with inbox:
                inbox.assign([place])
                await inbox.seek_to_end(place)
                await inbox.position(place)
                waiting: dict[bytes, asyncio.Future[bytes]] = {}
                tasks = [
                    asyncio.create_task(self._answer(requests, answering)),
                    asyncio.create_task(_take(inbox, waiting)),
                ]

                async def ask(body: bytes) -> bytes:
                    id = uuid4().bytes
                    reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                    waiting[id] = reply
                    headers = [*RAW_HEADERS, ("correlation-id", id), ("reply-to", replies.encode())]
                    await asking.send_and_wait(self.channel, body, key=key_of(body).encode(), headers=headers)
                    return await reply

                try:
                    yield ask
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)

    def _producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(bootstrap_servers=hosts(self.url), acks="all", enable_idempotence=True)

    def _requests(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            self.channel,
            bootstrap_servers=hosts(self.url),
            group_id=self.channel,
            auto_offset_reset="earliest",
            enable_auto_commit=self.auto_commit,
        )

    async def _answer(self, requests: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        while True:
            batches = await requests.getmany(timeout_ms=1000)
            records = [record for batch in batches.values() for record in batch]
            sent = [await _reply(producer, record) for record in records]
            if sent and not self.auto_commit:
                await asyncio.gather(*sent)
                await requests.commit({place: batch[-1].offset + 1 for place, batch in batches.items()})


class AiokafkaReplyTopicAutoCommit(AiokafkaReplyTopic):
    """Its default: offsets committed by time, whatever became of the requests; a crash loses some."""

    auto_commit = True


async def _reply(producer: AIOKafkaProducer, request: ConsumerRecord) -> asyncio.Future[object]:
    headers = dict(request.headers)
    stored: asyncio.Future[object] = await producer.send(
        headers["reply-to"].decode(),
        request.value,
        partition=0,
        headers=[("correlation-id", headers["correlation-id"])],
    )
    return stored


async def _take(inbox: AIOKafkaConsumer, waiting: dict[bytes, asyncio.Future[bytes]]) -> None:
    async for record in inbox:
        waiting.pop(dict(record.headers)["correlation-id"]).set_result(record.value)
