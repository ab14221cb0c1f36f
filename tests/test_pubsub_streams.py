"""Streams, leases and the end of a Pub/Sub receiver, against a server of our own."""

import asyncio
from collections.abc import AsyncIterator

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from google.pubsub_v1 import types
from pubsub_server import Server, connected, response
from unimsg_pubsub import streams
from unimsg_pubsub.receiver import PubSubReceiver
from waiting import until

from unimsg.adapter import Address, ChannelMissing, Kind, Receiver, SettlementLost

QUEUE = Address("orders.place", Kind.QUEUE)
ORDERED = Address("orders.place", Kind.QUEUE, partitions=8)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running


async def bodies(receiver: Receiver) -> list[str]:
    return [delivery.wire.id for delivery in await asyncio.wait_for(receiver.receive(), 5)]


async def test_a_silent_stream_is_replaced_under_the_same_name(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"REFUSED": 0.05, "PULSE": 0.05, "SILENT": 0.2}.items():
        monkeypatch.setattr(streams, name, seconds)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=7, timeout=5)
        await until(lambda: len(server.streams) >= 3, "three streams")
        assert len({first.client_id for first in server.streams}) == 1
        first = server.streams[-1]
        assert (first.stream_ack_deadline_seconds, first.max_outstanding_messages) == (10, 7)
        server.deliver.put_nowait(response(1))
        assert await bodies(receiver) == ["m0"]


async def test_a_reopened_stream_asks_for_what_is_free(server: Server) -> None:
    """What earlier streams gave is still leased, and the service does not count it for the next one."""
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=5, timeout=5)
        server.deliver.put_nowait(response(3))
        assert len(await bodies(receiver)) == 3
        server.end_stream()
        await until(lambda: len(server.streams) == 2, "a second stream")
        first, second = server.streams
        assert (first.max_outstanding_messages, second.max_outstanding_messages) == (5, 2)
        assert second.max_outstanding_bytes == first.max_outstanding_bytes - 3


async def test_many_streams_lease_no_more_than_prefetch(server: Server) -> None:
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=20, timeout=5)
        leased = 0
        for count in range(1, 4):
            await until(lambda: len(server.streams) == count, f"stream {count}")  # noqa: B023  # used at once
            allowed = server.streams[-1].max_outstanding_messages
            leased += (gives := min(allowed, 8))
            server.deliver.put_nowait(response(gives))
            assert len(await bodies(receiver)) == gives
            server.end_stream()
        assert leased == 20


async def test_a_full_receiver_opens_no_stream_and_is_well(server: Server) -> None:
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=2, timeout=5)
        server.deliver.put_nowait(response(2))
        held = list(await asyncio.wait_for(receiver.receive(), 5))
        server.refuse_stream = grpc.StatusCode.UNAVAILABLE
        server.end_stream()
        with pytest.raises(AssertionError):
            await until(lambda: len(server.streams) == 2, "a second stream", within=0.5)
        (health,) = adapter.health().receivers
        assert (health.consuming, health.problem) == (True, None)
        server.refuse_stream = None
        await receiver.ack(held[:1])
        await until(lambda: len(server.streams) == 2, "a second stream")
        assert server.streams[-1].max_outstanding_messages == 1


async def test_a_full_receiver_can_be_closed(server: Server) -> None:
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        server.deliver.put_nowait(response(1))
        await receiver.receive()
        server.end_stream()
        await until(lambda: server.deliver.empty(), "the stream ended")
        await asyncio.wait_for(receiver.aclose(), 2)
    assert len(server.streams) == 1
    assert server.calls["ModifyAckDeadline"] == 1, "given back"


async def test_a_stream_with_little_room_is_replaced_when_there_is_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "REFUSED", 0.05)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=10, timeout=5)
        server.deliver.put_nowait(response(9))
        held = list(await asyncio.wait_for(receiver.receive(), 5))
        server.end_stream()
        await until(lambda: len(server.streams) == 2, "a second stream")
        await receiver.ack(held)
        await until(lambda: len(server.streams) == 3, "a third stream")
        assert [each.max_outstanding_messages for each in server.streams] == [10, 1, 10]
        server.deliver.put_nowait(response(3))
        await receiver.ack(list(await asyncio.wait_for(receiver.receive(), 5)))
        with pytest.raises(AssertionError):
            await until(lambda: len(server.streams) == 4, "a fourth stream", within=0.5)


async def test_it_says_what_pubsub_gives_up_if_it_comes_once_more(server: Server) -> None:
    async with connected(server) as adapter:
        receiver = await adapter.receiver(ORDERED, prefetch=7, timeout=5)
        given = response(3)
        for received, attempt in zip(given.received_messages, (0, 99, 100), strict=True):
            received.delivery_attempt = attempt
        server.deliver.put_nowait(given)
        deliveries = list(await asyncio.wait_for(receiver.receive(), 5))
        assert [(each.redelivered, each.last_chance) for each in deliveries] == [(None, False), (98, False), (99, True)]


async def test_a_full_receiver_keeps_its_silent_stream(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"REFUSED": 0.05, "PULSE": 0.05, "SILENT": 0.1}.items():
        monkeypatch.setattr(streams, name, seconds)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        server.deliver.put_nowait(response(1))
        held = list(await asyncio.wait_for(receiver.receive(), 5))
        count = len(server.streams)
        with pytest.raises(AssertionError):
            await until(lambda: len(server.streams) > count, "another stream", within=0.5)
        await receiver.ack(held)
        await until(lambda: len(server.streams) > count, "another stream")


async def test_a_stream_goes_on_after_an_error_that_nobody_foresaw(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind is logged once with its traceback, and health tells of it until all is well."""
    failing = True
    take = PubSubReceiver._take

    def fail(receiver: PubSubReceiver, received: object) -> None:
        if failing:
            raise LookupError("a secret body")
        take(receiver, received)

    monkeypatch.setattr(PubSubReceiver, "_take", fail)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        for count in range(1, 4):
            server.deliver.put_nowait(response(1))
            await until(lambda: len(server.streams) > count, f"stream {count + 1}")  # noqa: B023  # used at once
            (health,) = adapter.health().receivers
            assert health.problem is not None
            assert "LookupError" in health.problem
            assert "secret" not in health.problem
        failing = False
        server.deliver.put_nowait(response(1))
        assert await bodies(receiver) == ["m0"]
        (health,) = adapter.health().receivers
        assert health.problem is None
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


async def test_a_stream_goes_on_when_its_minder_fails(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "REFUSED", 0.05)
    failing = True
    worn_out = streams.Stream._is_worn_out

    def fail(stream: streams.Stream, begun: float) -> bool:
        if failing:
            raise LookupError
        return worn_out(stream, begun)

    monkeypatch.setattr(streams.Stream, "_is_worn_out", fail)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        await until(lambda: len(server.streams) >= 3, "three streams")
        failing = False
        server.deliver.put_nowait(response(1))
        assert await bodies(receiver) == ["m0"]
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


async def test_leases_are_kept_after_an_error_that_nobody_foresaw(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unimsg_pubsub.adapter.PubSubReceiver", short_leases)
    failures = iter([LookupError("once"), LookupError("and again"), None])
    lapse = PubSubReceiver._lapse

    def fail(receiver: PubSubReceiver) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        lapse(receiver)

    monkeypatch.setattr(PubSubReceiver, "_lapse", fail)
    server.refuse("ModifyAckDeadline", grpc.StatusCode.UNAVAILABLE)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        server.deliver.put_nowait(response(1))
        (held,) = await asyncio.wait_for(receiver.receive(), 5)

        def problem() -> str | None:
            return adapter.health().receivers[0].problem

        await until(lambda: "LookupError" in (problem() or ""), "a problem")
        await until(lambda: held.epoch.over, "the epoch over")
        await until(lambda: problem() is None, "no problem any more")
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


async def test_a_stream_that_does_not_end_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINGER", 0.2)
    server.deaf = True
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        await until(lambda: bool(server.streams), "a stream")
        await asyncio.wait_for(receiver.aclose(), 2)


async def test_a_refused_stream_is_a_problem_and_tried_again(server: Server) -> None:
    server.refuse_stream = grpc.StatusCode.PERMISSION_DENIED
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        await until(lambda: len(server.streams) >= 2, "a second try")
        (health,) = adapter.health().receivers
        assert health.problem is not None
        assert "PERMISSION_DENIED" in health.problem
        server.refuse_stream = None
        server.deliver.put_nowait(response(1))
        assert await bodies(receiver) == ["m0"]
        (health,) = adapter.health().receivers
        assert (health.consuming, health.problem) == (True, None)


async def test_a_deleted_subscription_ends_receiving(server: Server) -> None:
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=2, timeout=5)
        server.deliver.put_nowait(response(1))
        (held,) = await asyncio.wait_for(receiver.receive(), 5)
        server.refuse_stream = grpc.StatusCode.NOT_FOUND
        server.end_stream()
        with pytest.raises(ChannelMissing, match=r"orders\.place"):
            await asyncio.wait_for(receiver.receive(), 5)
        assert held.epoch.over
        with pytest.raises(SettlementLost):
            await receiver.ack([held])


async def test_a_deleted_subscription_ends_receiving_for_a_full_receiver_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no stream that could hear of it, but leases."""
    monkeypatch.setattr("unimsg_pubsub.adapter.PubSubReceiver", short_leases)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        server.deliver.put_nowait(response(1))
        (held,) = await asyncio.wait_for(receiver.receive(), 5)
        server.refuse_stream = grpc.StatusCode.NOT_FOUND
        server.refuse("ModifyAckDeadline", grpc.StatusCode.NOT_FOUND)
        server.end_stream()
        with pytest.raises(ChannelMissing, match=r"orders\.place"):
            await asyncio.wait_for(receiver.receive(), 5)
        assert held.epoch.over


async def test_a_deleted_inbox_is_made_again(server: Server) -> None:
    inbox = Address("unimsg.inbox.0123456789abcdef", Kind.INBOX)
    async with connected(server) as adapter:
        server.refuse("GetSubscription", grpc.StatusCode.NOT_FOUND)
        server.refuse_stream = grpc.StatusCode.NOT_FOUND
        receiver = await adapter.receiver(inbox, prefetch=1, timeout=5)
        await until(lambda: server.calls["CreateSubscription"] >= 2, "the inbox made again")
        server.refuse_stream = None
        stray, mine = response(2).received_messages
        mine.message.attributes["unimsg-inbox"] = inbox.channel
        server.deliver.put_nowait(types.StreamingPullResponse(received_messages=[stray, mine]))
        assert await bodies(receiver) == ["m1"]
        await until(
            lambda: server.calls["Acknowledge"] == 1, "the stray message acknowledged"
        )  # the stray one, which a filter would have kept away
    assert server.calls["DeleteSubscription"] == 1


async def test_no_more_than_prefetch_are_out_whatever_comes(server: Server) -> None:
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=2, timeout=5)
        server.deliver.put_nowait(response(5))
        first = list(await asyncio.wait_for(receiver.receive(), 5))
        assert len(first) == 2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receiver.receive(), 0.2)
        await receiver.ack(first[:1])
        assert await bodies(receiver) == ["m2"]


@pytest.mark.parametrize("address", [QUEUE, ORDERED])
async def test_closing_gives_back_in_order_what_is_not_settled(server: Server, address: Address) -> None:
    back: list[str] = []

    async def modify(request: bytes, context: object) -> bytes:
        change = types.ModifyAckDeadlineRequest.deserialize(request)
        assert change.ack_deadline_seconds == 0
        back.extend(change.ack_ids)
        return b""

    server.handlers["ModifyAckDeadline"] = modify
    async with connected(server) as adapter:
        receiver = await adapter.receiver(address, prefetch=3, timeout=5)
        server.deliver.put_nowait(response(6))
        first, *_ = await asyncio.wait_for(receiver.receive(), 5)
        await receiver.ack([first])
        await receiver.stop()
        # Of an ordered channel nothing goes while a handler may still run: others would overtake it.
        assert back == ([] if address.ordered else ["ack-3", "ack-4", "ack-5"])
        await receiver.aclose()
    assert sorted(back) == [f"ack-{n}" for n in range(1, 6)]
    assert back == sorted(back) or not address.ordered


async def test_leases_that_ran_out_end_the_epoch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimsg_pubsub.adapter.PubSubReceiver", short_leases)
    server.refuse("ModifyAckDeadline", grpc.StatusCode.UNAVAILABLE)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        server.deliver.put_nowait(response(2))
        (held,) = await asyncio.wait_for(receiver.receive(), 5)
        await until(lambda: held.epoch.over, "the epoch over")
        with pytest.raises(SettlementLost):
            await receiver.ack([held])
        assert server.calls["Acknowledge"] == 1  # given all the same: it may be in time
        server.refuse("ModifyAckDeadline", grpc.StatusCode.UNAVAILABLE, times=0)
        server.deliver.put_nowait(response(1))
        (again,) = await asyncio.wait_for(receiver.receive(), 5)
        assert not again.epoch.draining
        await receiver.ack([again])


async def test_what_is_held_stays_leased(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimsg_pubsub.adapter.PubSubReceiver", short_leases)
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        server.deliver.put_nowait(response(2))
        (held,) = await asyncio.wait_for(receiver.receive(), 5)
        await until(lambda: server.calls["ModifyAckDeadline"] >= 6, "leases extended")  # for two leases
        assert not held.epoch.over
        await receiver.ack([held])


def short_leases(*arguments: object, ack_deadline: int, **named: object) -> object:
    """A receiver with leases of one second, which the service does not allow."""
    return PubSubReceiver(*arguments, ack_deadline=1, **named)  # type: ignore[arg-type]
