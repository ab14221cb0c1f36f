"""What operators ask of Pub/Sub, and its backstop, against a server of our own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from google.pubsub_v1 import types
from pubsub_server import Server, connected, response
from unimsg_pubsub import PubSubOptions, derived, operations, wire
from unimsg_pubsub.adapter import PubSubAdapter
from unimsg_pubsub.topology import Topology, options_of

from unimsg.adapter import Address, ChannelMissing, Kind, Wanted
from unimsg.errors import PermissionDenied

QUEUE = Address("orders.place", Kind.QUEUE)
DEAD = Address("orders.place..dead", Kind.QUEUE)
NOWHERE = grpc.StatusCode.NOT_FOUND


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(operations, "FIRST", 0.5)
    monkeypatch.setattr(operations, "NEXT", 0.2)
    async with Server() as running:
        yield running


async def browse(adapter: PubSubAdapter, limit: int = 100) -> list[str]:
    pages = adapter.operations().browse(DEAD, limit=limit, timeout=5)
    return [found.id async for page in pages for found in page]


async def test_browsing_shows_the_oldest_first_and_gives_all_back(server: Server) -> None:
    back: list[str] = []

    async def modify(request: bytes, context: object) -> bytes:
        change = types.ModifyAckDeadlineRequest.deserialize(request)
        back.extend(change.ack_ids if change.ack_deadline_seconds == 0 else ())
        return b""

    server.handlers["ModifyAckDeadline"] = modify
    messages = [
        types.PubsubMessage(message_id=f"m{n}", publish_time=datetime.fromtimestamp(second, UTC))
        for n, second in enumerate((30, 10, 40, 20))
    ]
    received = [types.ReceivedMessage(ack_id=f"ack-{n}", message=message) for n, message in enumerate(messages)]
    again = types.ReceivedMessage(ack_id="ack-again", message=messages[0])
    async with connected(server) as adapter:
        server.deliver.put_nowait(types.StreamingPullResponse(received_messages=[*received, again]))
        assert await browse(adapter) == ["m1", "m3", "m0", "m2"]
        assert sorted(back) == ["ack-0", "ack-1", "ack-2", "ack-3", "ack-again"]
        server.deliver.put_nowait(response(4))
        assert len(await browse(adapter, limit=3)) == 3
    assert server.calls["Acknowledge"] == 0


async def test_browsing_what_is_empty_ends(server: Server) -> None:
    async with connected(server) as adapter:
        assert await browse(adapter) == []


async def test_browsing_what_is_missing_or_forbidden_is_told(server: Server) -> None:
    async with connected(server) as adapter:
        server.refuse_stream = grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(PermissionDenied, match=r"orders\.place\.\.dead.*pubsub\.subscriptions\.consume"):
            await browse(adapter)
        server.refuse("GetSubscription", NOWHERE)
        with pytest.raises(ChannelMissing):
            await browse(adapter)


async def test_what_the_service_moves_messages_to_is_made_first(server: Server) -> None:
    made = record(server)
    for method in ("GetTopic", "GetSubscription"):
        server.refuse(method, NOWHERE)
    wanted = Wanted(PubSubOptions(delivery_limit=7, retention=timedelta(minutes=10)))
    async with connected(server) as adapter:
        await adapter.ensure(QUEUE, wanted, timeout=5)
    assert [each.name.rpartition("/")[2] for each in made] == [DEAD.channel, QUEUE.channel]
    dead, queue = made
    assert (queue.dead_letter_policy.dead_letter_topic, queue.dead_letter_policy.max_delivery_attempts) == (
        f"projects/shop/topics/{DEAD.channel}",
        7,
    )
    assert queue.message_retention_duration == timedelta(minutes=10)
    assert not dead.dead_letter_policy.dead_letter_topic
    assert dead.message_retention_duration != timedelta(minutes=10), "dead letters are kept as long as their queue's"


@pytest.mark.parametrize(
    ("topic", "limit", "changed"),
    [
        ("", 0, True),
        ("_deleted-topic_", 100, True),
        ("projects/shop/topics/orders.place..dead", 5, True),
        ("projects/shop/topics/orders.place..dead", 100, False),
        ("projects/shop/topics/of-others", 5, False),
    ],
)
async def test_only_a_policy_of_ours_is_changed(server: Server, topic: str, limit: int, changed: bool) -> None:
    policy = types.DeadLetterPolicy(dead_letter_topic=topic, max_delivery_attempts=limit)
    made = record(server)

    async def found(request: bytes, context: object) -> bytes:
        name = types.GetSubscriptionRequest.deserialize(request).subscription
        is_dead = name.endswith("..dead")
        subscription = types.Subscription(
            name=name,
            topic=name.replace("subscriptions", "topics"),
            dead_letter_policy=None if is_dead else policy,
        )
        answer: bytes = types.Subscription.serialize(subscription)
        return answer

    server.handlers["GetSubscription"] = found
    async with connected(server) as adapter:
        differences = await adapter.operations().inspect(QUEUE, Wanted(), timeout=5)
        await adapter.ensure(QUEUE, Wanted(), timeout=5)
    assert [each.what for each in differences] == (["subscription orders.place dead letters"] if changed else [])
    assert [each.dead_letter_policy.max_delivery_attempts for each in made] == ([100] if changed else [])


def record(server: Server) -> list[types.Subscription]:
    """The subscriptions that are made or changed from now on."""
    made: list[types.Subscription] = []

    async def create(request: bytes, context: object) -> bytes:
        made.append(types.Subscription.deserialize(request))
        return request

    async def update(request: bytes, context: object) -> bytes:
        change = types.UpdateSubscriptionRequest.deserialize(request)
        assert list(change.update_mask.paths) == ["dead_letter_policy"]
        made.append(change.subscription)
        answer: bytes = types.Subscription.serialize(change.subscription)
        return answer

    server.handlers |= {"CreateSubscription": create, "UpdateSubscription": update}
    return made


class Link:
    """All that naming and wishing need of a connection."""

    def __init__(self, *, emulator: bool) -> None:
        self.emulator = emulator


def test_dead_letters_are_kept_as_long_as_the_service_allows() -> None:
    def retention(address: Address, *, emulator: bool) -> Any:
        topology = Topology("shop", Link(emulator=emulator), 10)  # type: ignore[arg-type]
        wanted: Any = topology._wanted_subscription(address, options_of(address, Wanted()))
        assert "expiration_policy" in wanted, "it would expire after 31 days without a receiver"
        assert not wanted.expiration_policy.ttl
        return wanted.message_retention_duration or None

    assert retention(DEAD, emulator=False) == timedelta(days=31)
    assert retention(DEAD, emulator=True) is None, "the emulator allows 7 days"
    assert retention(QUEUE, emulator=False) is None


@pytest.mark.parametrize(
    ("address", "graveyard"),
    [
        (Address("orders", Kind.QUEUE), "orders..dead"),
        (Address("orders", Kind.QUEUE, partitions=8), "orders..dead"),
        (Address("placed", Kind.TOPIC, "billing"), "placed..billing..dead"),
        (Address("orders..retry", Kind.QUEUE), "orders..dead"),
        (Address("placed..billing..retry.5m", Kind.QUEUE), "placed..billing..dead"),
        (Address("placed..delay.1h", Kind.QUEUE), None),
        (Address("orders..dead", Kind.QUEUE), None),
        (Address("unimsg.inbox.1", Kind.INBOX), None),
    ],
)
def test_where_the_service_moves_messages_to(address: Address, graveyard: str | None) -> None:
    found = derived.graveyard_of(address)
    assert (found.channel if found else None) == graveyard


@pytest.mark.parametrize(
    ("subscription", "origin"),
    [("orders", "orders"), ("placed..billing", "placed/billing"), ("placed..billing..retry.5m", "placed/billing")],
)
def test_what_the_service_moved_reads_as_a_dead_letter(subscription: str, origin: str) -> None:
    message = types.PubsubMessage(
        data=b"x",
        attributes={
            "ce-id": "1",
            "unimsg-attempt": "2",
            "CloudPubSubDeadLetterSourceSubscription": subscription,
            "CloudPubSubDeadLetterSourceDeliveryCount": "100",
        },
        publish_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert wire.decode(types.PubsubMessage.pb(message)).headers == {
        "unimsg-attempt": "2",
        "unimsg-dead-reason": "delivery-limit",
        "unimsg-dead-attempts": "0",
        "unimsg-dead-origin": origin,
        "unimsg-dead-last-failed": "2026-01-02T03:04:05Z",
    }
