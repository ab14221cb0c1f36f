"""google-cloud-pubsub as its documentation uses it: publish futures, `asyncio.wrap_future`, a subscriber callback.

The clients find the emulator by PUBSUB_EMULATOR_HOST, which is set for every contestant.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import ClassVar
from urllib.parse import urlsplit

from google.api_core.exceptions import AlreadyExists, NotFound
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # it has no py.typed
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.types import BatchSettings, FlowControl, PublisherOptions  # type: ignore[import-untyped]

from benchmarks.arrivals import Arrivals, InThreads
from benchmarks.contestant import Contestant, Sender
from benchmarks.rows import HEADERS, IN_FLIGHT, key_of, prefetch

PLACES = ("", "..dead", "..retry", "..replies")
"""What the names of a contestant's topics, and of their subscriptions, can end with."""


def topic_path(url: str, name: str) -> str:
    return f"projects/{urlsplit(url).netloc}/topics/{name}"


def subscription_path(url: str, name: str) -> str:
    return f"projects/{urlsplit(url).netloc}/subscriptions/{name}"


def make_topic(url: str, name: str, *, ordered: bool = False) -> None:
    """And its subscription."""
    try:
        PublisherClient().create_topic(name=topic_path(url, name))
        with SubscriberClient() as subscriber:
            path = subscription_path(url, name)
            request = {"name": path, "topic": topic_path(url, name), "enable_message_ordering": ordered}
            subscriber.create_subscription(request=request)
    except AlreadyExists:
        pass


def receiving(
    subscriber: SubscriberClient, url: str, name: str, handle: Callable[[Message], None], concurrency: int
) -> StreamingPullFuture:
    return subscriber.subscribe(
        subscription_path(url, name),
        callback=handle,
        flow_control=FlowControl(max_messages=prefetch(concurrency)),
        scheduler=ThreadScheduler(ThreadPoolExecutor(concurrency)),
    )


class _Sender(Sender):
    def __init__(self, publisher: PublisherClient, topic: str, *, ordered: bool) -> None:
        self._publisher = publisher
        self._topic = topic
        self._ordered = ordered

    async def send(self, body: bytes) -> None:
        await asyncio.wrap_future(self._publish(body))

    async def pipeline(self, bodies: Sequence[bytes]) -> None:
        """Futures, waited for as a program without asyncio does: this client is fastest so."""
        pending: deque[Future[str]] = deque()
        for body in bodies:
            pending.append(self._publish(body))
            if len(pending) >= IN_FLIGHT:
                pending.popleft().result()
        while pending:
            pending.popleft().result()

    def _publish(self, body: bytes) -> Future[str]:
        key = key_of(body) if self._ordered else ""
        return self._publisher.publish(self._topic, body, ordering_key=key, **HEADERS)  # type: ignore[no-any-return]


class GooglePubSub(Contestant):
    arrivals = InThreads
    ordered: ClassVar[bool] = False

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        make_topic(self.url, self.channel, ordered=self.ordered)
        publisher = PublisherClient(
            batch_settings=BatchSettings(max_messages=IN_FLIGHT),
            publisher_options=PublisherOptions(enable_message_ordering=self.ordered),
        )
        yield _Sender(publisher, topic_path(self.url, self.channel), ordered=self.ordered)
        publisher.stop()

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        make_topic(self.url, self.channel, ordered=self.ordered)

        def handle(message: Message) -> None:
            arrivals.note(message.data)
            message.ack()

        with SubscriberClient() as subscriber:
            stream = receiving(subscriber, self.url, self.channel, handle, concurrency)
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
    publisher = PublisherClient()
    with SubscriberClient() as subscriber:
        for place in PLACES:
            with suppress(NotFound):
                subscriber.delete_subscription(subscription=subscription_path(url, name + place))
            with suppress(NotFound):
                publisher.delete_topic(topic=topic_path(url, name + place))
