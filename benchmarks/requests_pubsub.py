"""google-cloud-pubsub's way to ask: a topic for the replies, with a subscription of who asks, and a correlation id as
an attribute.

Its documentation shows no request; this is what is made of the parts that it documents: a publisher whose futures are
awaited, and callbacks.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import uuid4

from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # it has no py.typed
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.types import BatchSettings  # type: ignore[import-untyped]

from benchmarks.contestant import Ask, Asking
from benchmarks.raw_pubsub import make_topic, receiving, topic_path
from benchmarks.rows import HEADERS


class GoogleReplyTopic(Asking):
    batch: ClassVar[BatchSettings] = BatchSettings()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        replies = f"{self.channel}..replies"
        make_topic(self.url, self.channel)
        make_topic(self.url, replies)
        answering, asking = PublisherClient(batch_settings=self.batch), PublisherClient(batch_settings=self.batch)
        requests, inbox = topic_path(self.url, self.channel), topic_path(self.url, replies)
        waiting: dict[str, asyncio.Future[bytes]] = {}
        loop = asyncio.get_running_loop()

        def answer(request: Message) -> None:
            id = request.attributes["correlation-id"]
            stored = answering.publish(inbox, request.data, **{"correlation-id": id})
            stored.add_done_callback(lambda _: request.ack())

        def take(reply: Message) -> None:
            reply.ack()
            loop.call_soon_threadsafe(waiting.pop(reply.attributes["correlation-id"]).set_result, reply.data)

        async def ask(body: bytes) -> bytes:
            id = str(uuid4())
            reply: asyncio.Future[bytes] = loop.create_future()
            waiting[id] = reply
            await asyncio.wrap_future(asking.publish(requests, body, **HEADERS, **{"correlation-id": id}))
            return await reply

        with SubscriberClient() as subscriber:
            streams = [
                receiving(subscriber, self.url, self.channel, answer, 50),
                receiving(subscriber, self.url, replies, take, 50),
            ]
            try:
                yield ask
            finally:
                for stream in streams:
                    stream.cancel()
                    await asyncio.to_thread(stream.result)
                for publisher in (answering, asking):
                    publisher.stop()


class GoogleReplyTopicAtOnce(GoogleReplyTopic):
    """Its documented way to send without waiting for a batch."""

    batch = BatchSettings(max_messages=1)
