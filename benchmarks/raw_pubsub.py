"""google-cloud-pubsub as its documentation uses it: publish futures, `asyncio.wrap_future`, a subscriber callback.

The clients find the emulator by PUBSUB_EMULATOR_HOST, which is set for every contestant.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from google.api_core.exceptions import AlreadyExists
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # it has no py.typed
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.types import BatchSettings, FlowControl  # type: ignore[import-untyped]

from benchmarks.contestant import Arrivals, ArrivalsInThreads, Contestant, Sender
from benchmarks.rows import HEADERS, IN_FLIGHT, prefetch


def topic_path(url: str, name: str) -> str:
    return f"projects/{urlsplit(url).netloc}/topics/{name}"


def subscription_path(url: str, name: str) -> str:
    return f"projects/{urlsplit(url).netloc}/subscriptions/{name}"


def make_topic(url: str, name: str) -> None:
    """And its subscription."""
    try:
        PublisherClient().create_topic(name=topic_path(url, name))
        with SubscriberClient() as subscriber:
            subscriber.create_subscription(name=subscription_path(url, name), topic=topic_path(url, name))
    except AlreadyExists:
        pass


class _Sender(Sender):
    def __init__(self, publisher: PublisherClient, topic: str) -> None:
        self._publisher = publisher
        self._topic = topic

    async def send(self, body: bytes) -> None:
        await asyncio.wrap_future(self._publisher.publish(self._topic, body, **HEADERS))

    async def pipeline(self, bodies: Sequence[bytes]) -> None:
        """Futures, waited for as a program without asyncio does: this client is fastest so."""
        pending: deque[Future[str]] = deque()
        for body in bodies:
            pending.append(self._publisher.publish(self._topic, body, **HEADERS))
            if len(pending) >= IN_FLIGHT:
                pending.popleft().result()
        while pending:
            pending.popleft().result()


class GooglePubSub(Contestant):
    arrivals = ArrivalsInThreads

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        make_topic(self.url, self.channel)
        publisher = PublisherClient(batch_settings=BatchSettings(max_messages=IN_FLIGHT))
        yield _Sender(publisher, topic_path(self.url, self.channel))
        publisher.stop()

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        make_topic(self.url, self.channel)

        def handle(message: Message) -> None:
            arrivals.note(message.data)
            message.ack()

        with SubscriberClient() as subscriber:
            stream = subscriber.subscribe(
                subscription_path(self.url, self.channel),
                callback=handle,
                flow_control=FlowControl(max_messages=prefetch(concurrency)),
                scheduler=ThreadScheduler(ThreadPoolExecutor(concurrency)),
            )
            await arrivals.complete.wait()
            stream.cancel()
            await asyncio.to_thread(stream.result)


async def read_back(url: str, name: str, arrivals: Arrivals) -> None:
    """Pulls everything out of the subscription."""

    def pull() -> None:
        path = subscription_path(url, name)
        with SubscriberClient() as subscriber:
            while arrivals.distinct < arrivals.count:
                received = subscriber.pull(subscription=path, max_messages=1000).received_messages
                for message in received:
                    arrivals.note(message.message.data)
                if received:
                    subscriber.acknowledge(subscription=path, ack_ids=[message.ack_id for message in received])

    await asyncio.to_thread(pull)


async def unsettled(url: str, name: str) -> int:
    """The emulator tells nobody: taken as none."""
    return 0


async def remove(url: str, name: str) -> None:
    with SubscriberClient() as subscriber:
        subscriber.delete_subscription(subscription=subscription_path(url, name))
    PublisherClient().delete_topic(topic=topic_path(url, name))
