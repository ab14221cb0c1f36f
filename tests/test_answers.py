"""The responder's half: what is answered, with what, and what a hostile sender cannot make it do."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from policies import letters
from waiting import until

import unimsg
from unimsg import (
    Bus,
    ConfigurationError,
    Context,
    DecodeError,
    Queue,
    Reject,
    RemoteError,
    ReplyQueue,
    Retry,
    RetryAfter,
    Service,
    Topic,
    _answers,
)
from unimsg._bodies import ERROR_TYPE, MAX_CODE, MAX_TEXT, ReplyBodies
from unimsg.adapter import Address, Kind, Wire
from unimsg.dead_letters import REPLAYED
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

ask = Queue("answers.ask", str, replies=str)
events = Topic("answers.events", str, replies=str)
replies = ReplyBodies("answers.ask", str, type="answers.ask.reply")


def failing(error: BaseException, **how: Any) -> Service:
    service = Service("failing", grace=1.0, **{"retry": Retry(), **how})

    @service.handler(ask)
    async def handle(body: str) -> str:
        raise error

    return service


async def told(bus: Bus, body: str = "x", timeout: float = 5.0) -> tuple[str, str]:
    with pytest.raises(RemoteError) as raised:
        await bus.request(ask, body, timeout=timeout)
    return raised.value.code, raised.value.text


async def put(body: bytes, *, to: str = "answers.ask", **headers: str) -> None:
    """Sends as others would: names without their prefix."""
    wire = Wire(
        "theirs", body, {f"ce-{name}": value for name, value in headers.items()} | {"content-type": "text/plain"}
    )
    assert await MemoryAdapter().send(Address(to, Kind.QUEUE), [wire], timeout=1.0) == [None]


def held(name: str) -> int:
    """Messages in a queue, unsettled ones included."""
    return MemoryBroker.current().queues[name].length


# -- what a failure says


async def test_a_rejection_out_of_a_task_group_is_one_all_the_same() -> None:
    service = Service("failing", retry=Retry(1, 10))

    @service.handler(ask)
    async def handle(body: str) -> str:
        async def fail() -> None:
            raise Reject("there is none", code="none")

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
        return body

    answers = ReplyQueue("answers.grouped", str)
    async with unimsg.connect(service, url="memory://") as bus:
        assert await told(bus) == ("none", "there is none")
        await bus.send(ask, "x", reply_to=answers)
        await until(lambda: held("unimsg.reply.answers.grouped"), "the failure")
        [letter] = await letters(bus, ask)
        assert (letter.reason, letter.error_type, letter.error_text) == ("rejected", "Reject", "there is none")


@pytest.mark.parametrize(
    ("error", "exposed", "wanted"),
    [
        (ValueError("secret"), False, ("internal", "")),
        (ValueError("open"), True, ("internal", "open")),
        (Reject("no"), False, ("rejected", "no")),
        (Reject("x" * 5000, code="c" * 5000), False, ("c" * MAX_CODE, "x" * MAX_TEXT)),
        (Reject(7, code=404), False, ("404", "7")),  # type: ignore[arg-type]  # as who does not check types
        (RemoteError("theirs", "of another service"), False, ("internal", "")),
        (RetryAfter(1, "later"), False, ("internal", "")),
        (ExceptionGroup("two", [ValueError("a"), Reject("b")]), False, ("internal", "")),
    ],
)
async def test_what_is_told_of_an_error(error: Exception, exposed: bool, wanted: tuple[str, str]) -> None:
    async with unimsg.connect(failing(error, expose_errors=exposed), url="memory://") as bus:
        assert await told(bus) == wanted
        assert await letters(bus, ask) == []


async def test_an_answered_failure_is_logged_and_a_rejection_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    async with unimsg.connect(failing(ValueError("on purpose")), url="memory://") as bus:
        await told(bus)
    assert any("is answered so: failed at attempt 1" in record.getMessage() for record in caplog.records)
    caplog.clear()
    async with unimsg.connect(failing(Reject("no")), url="memory://") as bus:
        await told(bus)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_retry_that_would_be_too_late_is_not_awaited() -> None:
    async with unimsg.connect(failing(RetryAfter(30), retry=Retry(1)), url="memory://") as bus:
        assert await asyncio.wait_for(told(bus, timeout=20), 2.0) == ("internal", "")


async def test_a_handler_may_hand_on_what_another_service_said() -> None:
    """A RemoteError that it returns is told as it is."""
    service = Service("handing-on")

    @service.handler(ask)
    async def handle(body: str) -> str:
        return RemoteError("no-stock", "none left")  # type: ignore[return-value]  # told instead of a reply

    async with unimsg.connect(service, url="memory://") as bus:
        assert await told(bus) == ("no-stock", "none left")


# -- what arrives as a failure


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"text": "no code"}',
        b'{"code": 7}',
        b'{"code": null, "text": "x"}',
        b"\xff\xfe",
        b'{"code": "x"',
        b"[" * 60_000,
        b'{"code": "' + b"x" * 70_000 + b'"}',
    ],
)
def test_a_hostile_failure_is_undecodable(body: bytes) -> None:
    with pytest.raises(DecodeError):
        replies.decode(ERROR_TYPE, "application/json", body)


@pytest.mark.parametrize("text", ["7", "null", '["x"]', '{"x": 1}'])
def test_a_failure_with_an_odd_text_is_one(text: str) -> None:
    failure = replies.decode(ERROR_TYPE, None, f'{{"code": "x", "text": {text}}}'.encode())
    assert (failure.code, failure.text) == ("x", "")


def test_what_a_failure_says_is_bounded() -> None:
    said = json.dumps({"code": "c" * 10_000, "text": "t" * 10_000}).encode()
    failure = replies.decode(ERROR_TYPE, "application/json", said)
    assert (len(failure.code), len(failure.text)) == (MAX_CODE, MAX_TEXT)


def test_only_our_own_type_is_a_failure() -> None:
    assert replies.decode("unimsg.errors", None, b'{"code": "x"}') == '{"code": "x"}'
    with pytest.raises(ConfigurationError, match="the library's own"):
        unimsg.message(ERROR_TYPE)


# -- who is answered


async def test_whoever_wants_no_answer_gets_none() -> None:
    """Then no reply is looked at either: not even one that is not declared."""
    done: list[str] = []
    service = Service("echo")

    @service.handler(ask)
    async def handle(body: str) -> str:
        done.append(body)
        return 7  # type: ignore[return-value]  # nobody sees it

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(ask, "x")
        await until(lambda: done and not held("answers.ask"), "the message")
        assert await letters(bus, ask) == []
    assert done == ["x"]


async def test_a_plain_event_is_not_answered_and_none_is_no_reply() -> None:
    done: list[str] = []
    service = Service("echo")

    @service.handler(events)
    async def handle(body: str) -> str | None:
        done.append(body)
        return None if body == "nothing" else body

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.publish(events, "plain")
        async with bus.survey(events, "nothing", timeout=0.2) as survey:
            assert [reply async for reply in survey] == []
            assert survey.failures == []
    assert done == ["plain", "nothing"]


async def test_a_replayed_message_is_not_answered_again() -> None:
    done: list[str] = []
    service = Service("echo")

    @service.handler(ask)
    async def handle(body: str) -> str:
        done.append(body)
        return body

    to = await inbox()
    async with unimsg.connect(service, url="memory://"):
        wire = Wire("again", b"x", {"ce-replyto": to, "content-type": "text/plain", REPLAYED: "1"})
        await MemoryAdapter().send(Address("answers.ask", Kind.QUEUE), [wire], timeout=1.0)
        await put(b"new", replyto=to)
        await until(lambda: len(done) == 2, "both")
    assert held(to) == 1


async def inbox() -> str:
    """One that nobody reads."""
    address = Address("unimsg.inbox." + "0" * 32, Kind.INBOX)
    await MemoryAdapter().receiver(address, prefetch=0, timeout=1.0)
    return address.channel


async def test_a_request_that_has_expired_meanwhile_is_not_answered() -> None:
    service = Service("slow")
    done: list[str] = []

    @service.handler(ask)
    async def handle(body: str) -> str:
        await asyncio.sleep(0.15)
        done.append(body)
        if body == "fails":
            raise ValueError
        return body

    to = await inbox()
    soon = (datetime.now(UTC) + timedelta(seconds=0.1)).isoformat()
    async with unimsg.connect(service, url="memory://") as bus:
        for body in (b"works", b"fails"):
            await put(body, replyto=to, expirytime=soon)
        await until(lambda: len(done) == 2 and not held("answers.ask"), "both")
        assert await letters(bus, ask) == []
    assert held(to) == 0


async def test_a_failure_that_cannot_be_told_yet_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker refuses it at first; who waits longer than that gets it."""
    refusing = True
    original = MemoryAdapter.send

    async def send(adapter: MemoryAdapter, address: Address, messages: Any, **how: Any) -> Any:
        if refusing and address.kind is Kind.INBOX:
            return [unimsg.PublishUnconfirmed("busy", channel="", message_id=wire.id) for wire in messages]
        return await original(adapter, address, messages, **how)

    monkeypatch.setattr(MemoryAdapter, "send", send)
    async with unimsg.connect(failing(Reject("no", code="no")), url="memory://") as bus:
        asked = asyncio.create_task(told(bus))
        await until(lambda: any("busy" in problem for problem in _problems(bus)), "the problem")
        refusing = False
        assert await asked == ("no", "no")


def _problems(bus: Bus) -> Any:
    return bus._examine().problems


# -- hostile senders


@pytest.mark.parametrize("works", [True, False])
async def test_a_full_reply_queue_holds_nothing_for_ever(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders choose where their reply goes, and so may choose what refuses it."""
    monkeypatch.setattr(_answers, "REFUSALS", 2)
    full = ReplyQueue("answers.full", str, options=[MemoryOptions(max_length=1)])
    service = Service("echo", retry=Retry())

    @service.handler(ask)
    async def handle(body: str) -> str:
        if not works:
            raise ValueError
        return body

    async with unimsg.connect(service, url="memory://") as bus:
        for n in range(3):
            await bus.send(ask, f"{n}", reply_to=full)
        await until(lambda: not held("answers.ask"), "messages are held", within=3.0)
        assert len(await letters(bus, ask)) == (2 if works else 3)
        assert held("unimsg.reply.answers.full") == 1


@pytest.mark.parametrize("error", [unimsg.PublishForbidden, unimsg.MessageTooLarge, unimsg.Unroutable])
async def test_where_nobody_may_write_nothing_is_held(
    error: type[unimsg.PublishRejected], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MemoryAdapter.send

    async def send(adapter: MemoryAdapter, address: Address, messages: Any, **how: Any) -> Any:
        if address.channel.startswith("unimsg.reply."):
            return [error("no", channel=address.channel, message_id=wire.id) for wire in messages]
        return await original(adapter, address, messages, **how)

    service = Service("echo", retry=Retry())

    @service.handler(ask)
    async def handle(body: str) -> str:
        return body

    monkeypatch.setattr(MemoryAdapter, "send", send)
    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(ask, "x", reply_to=ReplyQueue("answers.forbidden", str))
        await until(lambda: not held("answers.ask"), "the message is held", within=2.0)
        [letter] = await letters(bus, ask)
        assert letter.error_type == error.__name__


async def test_ids_and_conversations_of_strangers_go_back_only_if_they_can_travel() -> None:
    to = await inbox()
    service = Service("echo")

    @service.handler(ask)
    async def handle(body: str) -> str:
        return body

    async with unimsg.connect(service, url="memory://"):
        await put(b"x", replyto=to, correlationid="y" * 5000)
        await until(lambda: held(to), "the reply")
    [wire] = MemoryBroker.current().queues[to].waiting_wires()
    assert "ce-correlationid" not in wire.headers
    assert wire.headers["ce-causationid"] == "theirs"


async def test_a_flood_of_return_addresses_makes_nothing() -> None:
    service = Service("echo", retry=Retry())
    done: list[str] = []

    @service.handler(ask)
    async def handle(body: str) -> str:
        done.append(body)
        return body

    async with unimsg.connect(service, url="memory://") as bus:
        names = set(MemoryBroker.current().queues)
        for n in range(1500):
            await put(b"x", replyto=f"unimsg.inbox.{n:032x}")
        await until(lambda: len(done) == 1500 and not held("answers.ask"), "all of them")
        assert set(MemoryBroker.current().queues) == names
        assert len(next(iter(bus._routes)).broker.return_path._publishers) <= 1000


async def test_a_batch_handler_cannot_answer() -> None:
    with pytest.raises(ConfigurationError, match="a batch handler gives none"):
        Service("batches").batch_handler(ask)


async def test_a_function_in_a_thread_answers_too() -> None:
    service = Service("echo")

    @service.handler(ask)
    def handle(body: str) -> str:
        return body * 2

    async with unimsg.connect(service, url="memory://") as bus:
        assert await bus.request(ask, "x") == "xx"


async def test_an_around_sees_requests_and_may_reject_them() -> None:
    async def deny(context: Context, handle: Callable[[], Any]) -> None:
        if context.message.headers.get("tenant") != "acme":
            raise Reject("who are you?", code="unknown-tenant")
        await handle()

    service = Service("echo", around=[deny])

    @service.handler(ask)
    async def handle(body: str) -> str:
        return body

    async with unimsg.connect(service, url="memory://") as bus:
        assert await told(bus) == ("unknown-tenant", "who are you?")
        assert await bus.request(ask, "x", headers={"tenant": "acme"}) == "x"


async def test_a_message_that_killed_its_receivers_is_told_and_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    from unimsg._memory_receiver import MemoryReceiver

    received = MemoryReceiver.receive

    async def receive(receiver: MemoryReceiver) -> Any:
        deliveries = await received(receiver)
        for delivery in deliveries:
            delivery.given_up = delivery.wire.body == b"killer"
        return deliveries

    monkeypatch.setattr(MemoryReceiver, "receive", receive)
    async with unimsg.connect(failing(ValueError("never called")), url="memory://") as bus:
        assert await told(bus, "killer") == ("delivery-limit", "")
        assert [letter.reason for letter in await letters(bus, ask)] == ["delivery-limit"]
