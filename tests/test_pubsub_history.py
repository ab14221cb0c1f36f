"""A topic's history on Pub/Sub: what is kept, where a subscription begins, and reading, against a server of our own."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from google.pubsub_v1 import types
from pubsub_server import Server, connected
from unimsg_pubsub import replay
from unimsg_pubsub.history import START, forgets, retention_of

from unimsg.adapter import Address, ChannelMissing, Kind, Wanted
from unimsg.errors import PermissionDenied

TOPIC = Address("placed", Kind.TOPIC)
BILLING = Address("placed", Kind.TOPIC, "billing")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Store:
    """One topic and its subscriptions, as the server of a case has them."""

    def __init__(self, server: Server) -> None:
        self.topic: types.Topic | None = None
        self.subscriptions: dict[str, types.Subscription] = {}
        self.sought: list[tuple[str, datetime]] = []
        server.handlers |= {
            "GetTopic": self._get_topic,
            "CreateTopic": self._create_topic,
            "UpdateTopic": self._update_topic,
            "GetSubscription": self._get_subscription,
            "CreateSubscription": self._create_subscription,
            "UpdateSubscription": self._update_subscription,
            "DeleteSubscription": self._delete_subscription,
            "Seek": self.seek,
        }

    async def _get_topic(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        name = types.GetTopicRequest.deserialize(request).topic
        if name.endswith("..dead"):
            return _bytes(types.Topic(name=name))
        if self.topic is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        return _bytes(self.topic)

    async def _create_topic(self, request: bytes, context: object) -> bytes:
        self.topic = types.Topic.deserialize(request)
        return request

    async def _update_topic(self, request: bytes, context: object) -> bytes:
        change = types.UpdateTopicRequest.deserialize(request)
        assert list(change.update_mask.paths) == ["message_retention_duration"]
        self.topic = change.topic
        return _bytes(change.topic)

    async def _get_subscription(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        name = types.GetSubscriptionRequest.deserialize(request).subscription
        if name not in self.subscriptions:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        return _bytes(self.subscriptions[name])

    async def _create_subscription(self, request: bytes, context: object) -> bytes:
        made = types.Subscription.deserialize(request)
        self.subscriptions[made.name] = made
        return request

    async def _update_subscription(self, request: bytes, context: object) -> bytes:
        change = types.UpdateSubscriptionRequest.deserialize(request)
        assert list(change.update_mask.paths) == ["retain_acked_messages"]
        found = self.subscriptions[change.subscription.name]
        found.retain_acked_messages = change.subscription.retain_acked_messages
        return _bytes(found)

    async def _delete_subscription(self, request: bytes, context: object) -> bytes:
        del self.subscriptions[types.DeleteSubscriptionRequest.deserialize(request).subscription]
        return b""

    async def seek(self, request: bytes, context: object) -> bytes:
        change = types.SeekRequest.deserialize(request)
        self.sought.append((change.subscription.rpartition("/")[2], change.time))
        return b""


def _bytes(message: object) -> bytes:
    written: bytes = type(message).serialize(message)  # type: ignore[attr-defined]  # proto-plus has it on the class
    return written


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(replay, "FIRST", 0.5)
    monkeypatch.setattr(replay, "NEXT", 0.2)
    async with Server() as running:
        yield running


def test_what_is_kept() -> None:
    assert retention_of(TOPIC, Wanted()) is None
    assert retention_of(TOPIC, Wanted(history=timedelta(seconds=1))) == timedelta(minutes=10), "Pub/Sub's least"
    assert retention_of(BILLING, Wanted(history=DAY)) == DAY
    assert retention_of(Address("orders", Kind.QUEUE), Wanted(history=DAY)) is None
    found = types.Topic(message_retention_duration=DAY)
    assert forgets(TOPIC, Wanted(history=DAY), found) is None
    assert forgets(TOPIC, Wanted(), types.Topic()) is None
    assert forgets(TOPIC, Wanted(history=DAY), types.Topic()) is not None
    assert forgets(TOPIC, Wanted(history=2 * DAY), found) is not None


async def test_a_topic_is_made_to_keep_more_and_never_less(server: Server) -> None:
    store = Store(server)
    async with connected(server) as adapter:
        for history, kept in ((DAY, DAY), (2 * DAY, 2 * DAY), (DAY, 2 * DAY)):
            await adapter.ensure(TOPIC, Wanted(history=history), timeout=5)
            assert store.topic is not None
            assert store.topic.message_retention_duration == kept
            assert not await adapter.operations().inspect(TOPIC, Wanted(history=history), timeout=5)
        differences = await adapter.operations().inspect(TOPIC, Wanted(history=3 * DAY), timeout=5)
    assert [each.what for each in differences] == ["topic placed retention"]


async def test_a_new_subscription_is_sought_back_once(server: Server) -> None:
    store, wanted = Store(server), Wanted(history=DAY, start=SINCE)
    async with connected(server) as adapter:
        await adapter.ensure(BILLING, wanted, timeout=5)
        await adapter.ensure(BILLING, Wanted(history=DAY, start=SINCE + DAY), timeout=5)
        assert not await adapter.operations().inspect(BILLING, wanted, timeout=5)
    assert store.sought == [("placed..billing", SINCE)]


async def test_a_subscription_that_exists_is_not_moved(server: Server) -> None:
    store = Store(server)
    async with connected(server) as adapter:
        await adapter.ensure(BILLING, Wanted(history=DAY), timeout=5)
        await adapter.ensure(BILLING, Wanted(history=DAY, start=SINCE), timeout=5)
    assert store.sought == []


async def test_who_finds_a_subscription_that_was_not_sought_seeks_it(server: Server) -> None:
    """Its maker died between the two calls."""
    store, wanted = Store(server), Wanted(history=DAY, start=SINCE)
    server.refuse("Seek", grpc.StatusCode.PERMISSION_DENIED)
    async with connected(server) as adapter:
        with pytest.raises(PermissionDenied, match=r"pubsub\.subscriptions\.consume"):
            await adapter.ensure(BILLING, wanted, timeout=5)
        [difference] = await adapter.operations().inspect(BILLING, wanted, timeout=5)
        assert difference.found == "not yet sought"
        server.handlers["Seek"] = store.seek
        await adapter.ensure(BILLING, Wanted(history=DAY), timeout=5)
        assert not await adapter.operations().inspect(BILLING, wanted, timeout=5)
    assert store.sought == [("placed..billing", SINCE)]
    assert START in store.subscriptions["projects/shop/subscriptions/placed..billing"].labels


def published(*moments: datetime) -> types.StreamingPullResponse:
    return types.StreamingPullResponse(
        received_messages=[
            types.ReceivedMessage(
                ack_id=f"ack-{n}", message=types.PubsubMessage(data=b"x", message_id=f"m{n}", publish_time=moment)
            )
            for n, moment in enumerate(moments)
        ]
    )


async def test_the_history_is_what_was_published_between_then_and_now(server: Server) -> None:
    store, now = Store(server), datetime.now(UTC)
    store.topic = types.Topic(name="placed", message_retention_duration=DAY)
    since = now - timedelta(hours=1)
    moments = (since - timedelta(seconds=1), since, now, now + timedelta(seconds=20))
    server.deliver.put_nowait(published(*moments))
    async with connected(server) as adapter:
        found = [wire.id async for batch in adapter.operations().history(TOPIC, since, timeout=5) for wire in batch]
    assert found == ["m1", "m2"]
    assert [moment for _, moment in store.sought] == [since]
    assert not store.subscriptions, "its own subscription is left behind"


async def test_a_history_that_is_not_read_to_its_end_leaves_nothing_behind(server: Server) -> None:
    store, now = Store(server), datetime.now(UTC)
    store.topic = types.Topic(name="placed", message_retention_duration=DAY)
    server.deliver.put_nowait(published(now))
    async with connected(server) as adapter:
        async with aclosing(adapter.operations().history(TOPIC, now - DAY, timeout=5)) as history:
            await anext(history)
            assert len(store.subscriptions) == 1
        assert not store.subscriptions


async def test_a_topic_without_history_says_so(server: Server) -> None:
    store = Store(server)
    store.topic = types.Topic(name="placed")
    async with connected(server) as adapter:
        with pytest.raises(ChannelMissing, match="keeps no history"):
            await anext(adapter.operations().history(TOPIC, SINCE, timeout=5))
