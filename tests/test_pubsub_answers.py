"""What the Pub/Sub adapter makes of answers that the emulator never gives, from a small server of our own."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from google.pubsub_v1 import types
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from pubsub_server import Server, adapter_of, connected, response
from unimsg_pubsub.adapter import PubSubAdapter
from waiting import until

from unimsg.adapter import Address, Kind, SettlementLost, Wanted, Wire
from unimsg.errors import (
    AuthenticationError,
    ConnectError,
    PermissionDenied,
    PublishError,
    PublishForbidden,
    PublishRejected,
    PublishUnconfirmed,
    Refused,
)

QUEUE = Address("orders.place", Kind.QUEUE)
ORDERED = Address("orders.place", Kind.QUEUE, partitions=8)
CODES = grpc.StatusCode


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running


def wires(*bodies: bytes, key: str | None = None) -> list[Wire]:
    return [Wire(f"id-{body.decode()}", body, {}, key) for body in bodies]


async def test_refused_credentials_say_what_to_do(server: Server) -> None:
    server.refuse("GetTopic", CODES.UNAUTHENTICATED, "invalid authentication credentials")
    with pytest.raises(AuthenticationError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        await adapter_of(server).connect(timeout=5)
    assert caught.value.reason == "authentication"


async def test_missing_credentials_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(AuthenticationError, match="gcloud auth application-default login"):
        await PubSubAdapter.from_url("pubsub://shop?endpoint=127.0.0.1:1", {}).connect(timeout=5)


async def test_an_unreadable_credentials_file_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    adapter = PubSubAdapter.from_url("pubsub://shop", {"credentials_file": "/nowhere/key.json"})
    with pytest.raises(AuthenticationError, match=r"/nowhere/key\.json"):
        await adapter.connect(timeout=5)


async def test_who_may_not_look_is_connected_and_told_at_each_operation(server: Server) -> None:
    for method in ("GetTopic", "GetSubscription", "Publish"):
        server.refuse(method, CODES.PERMISSION_DENIED, "User not authorized")
    async with connected(server) as adapter:
        with pytest.raises(PermissionDenied, match=r"pubsub\.topics\.get on .*orders\.place"):
            await adapter.ensure(QUEUE, Wanted(), timeout=5)
        with pytest.raises(PermissionDenied, match=r"pubsub\.subscriptions\.get on .*orders\.place"):
            await adapter.receiver(QUEUE, prefetch=1, timeout=5)
        (outcome,) = await adapter.send(QUEUE, wires(b"a"), timeout=5)
    assert isinstance(outcome, PublishForbidden)
    assert "roles/pubsub.publisher" in str(outcome)


async def test_who_may_not_create_is_told(server: Server) -> None:
    server.refuse("GetTopic", CODES.NOT_FOUND)
    server.refuse("CreateTopic", CODES.PERMISSION_DENIED)
    async with connected(server) as adapter:
        with pytest.raises(PermissionDenied, match=r"pubsub\.topics\.create on .*orders\.place"):
            await adapter.ensure(QUEUE, Wanted(), timeout=5)


async def test_a_stalled_server_is_a_timeout(server: Server) -> None:
    server.hang("GetTopic")
    with pytest.raises(ConnectError) as caught:
        await adapter_of(server).connect(timeout=0.5)
    assert caught.value.reason == "timeout"


async def test_a_stalled_publish_may_be_stored(server: Server) -> None:
    server.hang("Publish")
    async with connected(server) as adapter:
        async with asyncio.timeout(3):
            (outcome,) = await adapter.send(QUEUE, wires(b"a"), timeout=0.5)
    assert isinstance(outcome, PublishUnconfirmed)


async def test_an_earlier_stalled_publish_of_the_key_keeps_the_next_from_leaving(server: Server) -> None:
    server.hang("Publish")
    async with connected(server) as adapter:
        first = asyncio.create_task(adapter.send(ORDERED, wires(b"a", key="k"), timeout=1.0))
        await asyncio.sleep(0)
        (outcome,) = await adapter.send(ORDERED, wires(b"b", key="k"), timeout=0.3)
        assert isinstance(outcome, PublishRejected)
        assert isinstance((await first)[0], PublishUnconfirmed)
    assert server.messages == [[("k", b"a")]]


async def test_without_a_server_nothing_leaves(server: Server) -> None:
    async with connected(server) as adapter:
        await server.stop()
        async with asyncio.timeout(3):
            (outcome,) = await adapter.send(QUEUE, wires(b"a"), timeout=0.5)
        assert isinstance(outcome, PublishRejected)
        assert not isinstance(outcome, Refused)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CODES.UNAVAILABLE, PublishUnconfirmed),
        (CODES.INTERNAL, PublishUnconfirmed),
        (CODES.DEADLINE_EXCEEDED, PublishUnconfirmed),
        (CODES.FAILED_PRECONDITION, Refused),
        (CODES.UNAUTHENTICATED, PublishRejected),
    ],
)
async def test_an_answer_that_is_no_confirmation(server: Server, code: Any, kind: type[PublishError]) -> None:
    server.refuse("Publish", code)
    async with connected(server) as adapter:
        (outcome,) = await adapter.send(QUEUE, wires(b"a"), timeout=1)
    assert type(outcome) is kind
    assert server.calls["Publish"] == 1, "what may be stored is not sent again"


async def test_a_used_up_quota_is_waited_for(server: Server) -> None:
    server.refuse("Publish", CODES.RESOURCE_EXHAUSTED, times=2)
    async with connected(server) as adapter:
        assert await adapter.send(QUEUE, wires(b"a"), timeout=5) == [None]
    assert server.calls["Publish"] == 3


async def test_a_bad_message_fails_alone(server: Server) -> None:
    async def publish(request: bytes, context: Any) -> bytes:
        if any(body == b"bad" for _, body in server.messages[-1]):
            await context.abort(CODES.INVALID_ARGUMENT, "no")
        return b""

    server.handlers["Publish"] = publish
    async with connected(server) as adapter:
        bodies = [b"%d" % n for n in range(40)]
        bodies[17] = b"bad"
        outcomes = await adapter.send(ORDERED, wires(*bodies, key="k"), timeout=5)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [body == b"bad" for body in bodies]
    stored = [body for request in server.messages for _, body in request if (b"bad" not in [b for _, b in request])]
    assert stored == [body for body in bodies if body != b"bad"]


async def test_one_request_of_a_key_at_a_time_and_in_order(server: Server) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def publish(request: bytes, context: Any) -> bytes:
        key = server.messages[-1][0][0]
        running[key] += 1
        most[key] = max(most[key], running[key])
        await asyncio.sleep(0.01)
        running[key] -= 1
        return b""

    server.handlers["Publish"] = publish
    async with connected(server) as adapter:
        await asyncio.gather(
            *(
                adapter.send(ORDERED, [Wire(f"{n}{key}", b"%d" % n, {}, key) for key in keys], timeout=5)
                for n, keys in enumerate(["ab", "a", "b", "ab", "c", "ba"])
            )
        )
    assert set(most.values()) == {1}
    assert all(len({key for key, _ in request}) == 1 for request in server.messages)
    stored = [(key, body) for request in server.messages for key, body in request]
    assert [body for key, body in stored if key == "a"] == [b"0", b"1", b"3", b"5"]
    assert [body for key, body in stored if key == "b"] == [b"0", b"2", b"3", b"5"]


async def test_requests_keep_the_limits(server: Server) -> None:
    async with connected(server) as adapter:
        many = [Wire(f"m{n}", b"", {}) for n in range(2500)]
        large = [Wire(f"l{n}", bytes(4_000_000), {}) for n in range(3)]
        assert set(await adapter.send(QUEUE, many, timeout=10)) == {None}
        assert set(await adapter.send(QUEUE, large, timeout=10)) == {None}
    assert sorted(len(request) for request in server.messages) == [1, 2, 500, 1000, 1000]


async def test_exactly_once_names_what_failed(server: Server) -> None:
    """With exactly-once delivery the service says which acknowledgements of a request did not count."""
    info = ErrorInfo(
        reason="EXACTLY_ONCE_ACKID_FAILURE",
        domain="pubsub.googleapis.com",
        metadata={"ack-1": "PERMANENT_FAILURE_INVALID_ACK_ID"},
    )
    status = Status(code=CODES.FAILED_PRECONDITION.value[0], message="some failed")
    status.details.add().Pack(info)

    async def acknowledge(request: bytes, context: Any) -> bytes:
        trailer = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(CODES.FAILED_PRECONDITION, "some failed", trailer)
        return b""

    server.handlers["Acknowledge"] = acknowledge
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=10, timeout=5)
        server.deliver.put_nowait(response(3))
        deliveries = list(await asyncio.wait_for(receiver.receive(), 5))
        assert [delivery.wire.id for delivery in deliveries] == ["m0", "m1", "m2"]
        with pytest.raises(SettlementLost, match="1 messages may come again"):
            await receiver.ack(deliveries)
        assert server.calls["Acknowledge"] == 1


async def test_an_ack_survives_whoever_gave_it(server: Server) -> None:
    """The broker has every acknowledgement given before `aclose`, also those whose giver was cancelled."""
    arrived = asyncio.Event()
    go = asyncio.Event()
    done: list[int] = []

    async def acknowledge(request: bytes, context: Any) -> bytes:
        arrived.set()
        await go.wait()
        done.append(len(types.AcknowledgeRequest.deserialize(request).ack_ids))
        return b""

    server.handlers["Acknowledge"] = acknowledge
    async with connected(server) as adapter:
        receiver = await adapter.receiver(QUEUE, prefetch=10, timeout=5)
        server.deliver.put_nowait(response(2))
        ack = asyncio.create_task(receiver.ack(await asyncio.wait_for(receiver.receive(), 5)))
        await asyncio.wait_for(arrived.wait(), 5)
        ack.cancel()
        closing = asyncio.create_task(receiver.aclose())
        await asyncio.wait([closing], timeout=0.3)
        assert not closing.done(), "closed before the acknowledgement was answered"
        go.set()
        await asyncio.wait_for(closing, 5)
    assert done == [2]
    assert server.calls["ModifyAckDeadline"] == 0, "what is being acknowledged is not given back"


async def test_a_receiver_without_a_server_is_an_error_in_time(server: Server) -> None:
    async with connected(server) as adapter:
        await server.stop()
        with pytest.raises(ConnectError):
            await asyncio.wait_for(adapter.receiver(QUEUE, prefetch=1, timeout=0.3), 3)


async def test_closing_ends_a_send_that_waits(server: Server) -> None:
    """`aclose` waits for what is being sent, but not for ever, and then its sender is told."""
    server.hang("Publish")
    async with connected(server) as adapter:
        sending = asyncio.create_task(adapter.send(QUEUE, wires(b"a"), timeout=30))
        await until(lambda: server.calls["Publish"], "the request")
        await asyncio.wait_for(adapter.aclose(timeout=0.3), 2)
        (outcome,) = await asyncio.wait_for(sending, 2)
    assert isinstance(outcome, PublishUnconfirmed)


async def test_nothing_leaves_a_closed_adapter(server: Server) -> None:
    async with connected(server) as adapter:
        await adapter.aclose(timeout=1)
        (outcome,) = await adapter.send(QUEUE, wires(b"a"), timeout=1)
    assert isinstance(outcome, PublishRejected)
