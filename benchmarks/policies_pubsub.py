"""google-cloud-pubsub keeping the order of keys, and trying again what failed: the least that does it without losing
anything."""

import asyncio
import time

from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # it has no py.typed
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]

from benchmarks.arrivals import Arrivals, FailingOnceInThreads, HandlerFailed, InOrderInThreads
from benchmarks.raw_pubsub import GooglePubSub, make_topic, receiving, topic_path
from benchmarks.rows import RETRY_DELAY

DUE = "due"
"""Attribute of a copy: seconds since the epoch."""


class GooglePubSubOrdered(GooglePubSub):
    """Ordering keys: the client holds back a key's messages until the one before is acknowledged."""

    arrivals = InOrderInThreads
    ordered = True


class GooglePubSubRetrying(GooglePubSub):
    """A copy goes to a second topic; once it is stored, the original is acknowledged. The second topic's subscriber
    waits until each is due, and does the same."""

    arrivals = FailingOnceInThreads

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        again = f"{self.channel}..retry"
        make_topic(self.url, self.channel)
        make_topic(self.url, again)
        publisher = PublisherClient()

        def handle(message: Message) -> None:
            if DUE in message.attributes:
                time.sleep(max(0.0, float(message.attributes[DUE]) - time.time()))
            try:
                arrivals.note(message.data)
            except HandlerFailed:
                attributes = {**message.attributes, DUE: repr(time.time() + RETRY_DELAY)}
                publisher.publish(topic_path(self.url, again), message.data, **attributes).result()
            message.ack()

        with SubscriberClient() as subscriber:
            streams = [receiving(subscriber, self.url, name, handle, concurrency) for name in (self.channel, again)]
            await arrivals.complete.wait()
            for stream in streams:
                stream.cancel()
                await asyncio.to_thread(stream.result)
        publisher.stop()
