"""Requests: what whoever asks gets, whatever happens meanwhile, and what is left behind."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any

import pytest
from memory_like import Tea
from waiting import until

import unimsg
from unimsg import (
    Bus,
    BusClosed,
    ConfigurationError,
    ConnectError,
    Context,
    EncodeError,
    PublishRejected,
    PublishUnconfirmed,
    Queue,
    ReplyQueue,
    RequestTimeout,
    Service,
    Settings,
    Topic,
    TopologyError,
)
from unimsg._inbox import REMEMBERED, Inbox
from unimsg._memory_receiver import MemoryReceiver
from unimsg._message import secret_id
from unimsg._return import REMEMBERED as KEPT
from unimsg._return import ReturnPath, address_of, new_inbox
from unimsg.adapter import Adapter, Address, Kind, Wanted, Wire
from unimsg.errors import PublishError
from unimsg.memory import MemoryAdapter, MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

Serve = Callable[[str, type[Adapter]], str]
ask = Queue("requests.ask", str, replies=str)
silent = Queue("requests.silent", str)
limited = Queue("requests.limited", str, replies=str, ttl=0.05)
prices = Topic("requests.prices", str, replies=str)
answers = ReplyQueue("requests.answers", str)


def echo() -> Service:
    service = Service("echo", grace=1.0)

    @service.handler(ask)
    async def handle(body: str) -> str:
        return body

    return service


def inboxes(bus: Bus) -> list[Inbox]:
    return list(bus._requests.inboxes)


# -- what is asked


async def test_what_travels_is_a_cloud_event_that_expires(serve: Serve) -> None:
    Tea.forget()
    async with unimsg.connect(echo(), url=serve("tea", Tea)) as bus:
        await bus.request(ask, "hello", timeout=5, headers={"tenant": "acme"})
    [(to, question), (back, reply)] = Tea.sent
    assert to == Address("requests.ask", Kind.QUEUE)
    assert question.headers["ce-replyto"] == back.channel
    assert back.kind is Kind.INBOX
    assert 4 < _seconds(question, "ce-expirytime") - _seconds(question, "ce-time") <= 5.1
    assert question.headers["tenant"] == "acme"
    assert {name: value for name, value in reply.headers.items() if name != "ce-time"} == {
        "ce-specversion": "1.0",
        "ce-source": "echo",
        "ce-type": "requests.ask.reply",
        "ce-messagekind": "document",
        "ce-correlationid": question.id,
        "ce-causationid": question.id,
        "content-type": "text/plain; charset=utf-8",
    }


def _seconds(wire: Wire, name: str) -> float:
    return datetime.fromisoformat(wire.headers[name]).timestamp()


async def test_ids_are_secret_and_inboxes_too() -> None:
    ids = {secret_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert len({id[-16:] for id in ids}) == 10_000  # beyond the time, which can be guessed
    assert len({new_inbox() for _ in range(1000)}) == 1000


async def test_the_shorter_of_ttl_and_timeout_counts(serve: Serve) -> None:
    Tea.forget()
    async with unimsg.connect(url=serve("tea", Tea)) as bus:
        with pytest.raises(RequestTimeout):
            await bus.request(limited, "x", timeout=0.1)
    [(_, question)] = Tea.sent
    assert _seconds(question, "ce-expirytime") - _seconds(question, "ce-time") < 0.08


@pytest.mark.parametrize(
    ("asking", "error"),
    [
        (lambda bus: bus.request(silent, "x"), ConfigurationError),
        (lambda bus: bus.request(prices, "x"), TypeError),
        (lambda bus: bus.request("requests.ask", "x"), TypeError),
        (lambda bus: bus.request(ask, "x", timeout=0), ValueError),
        (lambda bus: bus.request(ask, 7), EncodeError),
        (lambda bus: bus.request(ask, "x", headers={"x-y": "z"}), EncodeError),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_sent(
    asking: Callable[[Any], Any], error: type[Exception]
) -> None:
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(error):
            await asking(bus)
        assert MemoryBroker.current().queues == {}


# -- what comes back


async def test_a_caller_that_gives_up_leaves_nothing_behind() -> None:
    async with unimsg.connect(url="memory://") as bus:
        asked = asyncio.create_task(bus.request(ask, "x", timeout=60))
        await until(lambda: any(inbox._asked for inbox in inboxes(bus)), "the request")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        [inbox] = inboxes(bus)
        assert inbox._asked == {}


async def test_all_requests_over_one_broker_share_an_inbox() -> None:
    async with unimsg.connect(echo(), url="memory://") as bus:
        assert await asyncio.gather(*(bus.request(ask, str(n)) for n in range(50))) == [str(n) for n in range(50)]
        assert len(inboxes(bus)) == 1
        assert [name for name in MemoryBroker.current().queues if name.startswith("unimsg.inbox.")] == [
            inboxes(bus)[0].name
        ]
    assert not [name for name in MemoryBroker.current().queues if name.startswith("unimsg.inbox.")]


@pytest.mark.parametrize("count", [1, 150])
async def test_replies_that_were_taken_leave_the_broker(count: int) -> None:
    """One that nothing follows, too: what is not settled takes the room of what comes next."""
    async with unimsg.connect(echo(), url="memory://") as bus:
        await asyncio.gather(*(bus.request(ask, str(n)) for n in range(count)))
        receiver = inboxes(bus)[0]._intake.receiver
        assert isinstance(receiver, MemoryReceiver)
        await until(lambda: receiver.health().unsettled == 0, "the settlement of all")
        assert (await bus.health()).ready


class Doubtful(MemoryAdapter):
    """Stores, and says that it does not know."""

    broker = "doubtful"

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        outcomes = await super().send(address, messages, timeout=timeout, delay=delay)
        if address.kind is Kind.INBOX:
            return outcomes
        return [PublishUnconfirmed("who knows", channel="", message_id=wire.id) for wire in messages]


async def test_an_unconfirmed_request_may_be_answered_all_the_same(serve: Serve) -> None:
    url = serve("doubtful", Doubtful)
    async with unimsg.connect(echo(), url=url) as bus:
        assert await bus.request(ask, "x") == "x"
    async with unimsg.connect(url=url) as bus:
        with pytest.raises(RequestTimeout, match="did not confirm") as raised:
            await bus.request(ask, "x", timeout=0.1)
    assert isinstance(raised.value.__cause__, PublishUnconfirmed)


class Slow(MemoryAdapter):
    """Takes so long to open anything, and to close."""

    broker = "slow"
    error: Exception | None = None

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Any:
        if self.error is not None:
            raise self.error
        await asyncio.sleep(3600)

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        if "slow" in address.channel:
            await asyncio.sleep(3600)
        await super().ensure(address, wanted, timeout=timeout)


async def test_what_cannot_be_opened_in_time_is_not_sent(serve: Serve) -> None:
    async with unimsg.connect(url=serve("slow", Slow)) as bus:
        began = monotonic()
        with pytest.raises(PublishRejected, match="inbox on default could not be opened") as raised:
            await bus.request(ask, "x", timeout=0.2)
        assert monotonic() - began < 0.22 + 0.2
    assert raised.value.message_id
    assert "requests.ask" not in MemoryBroker.current().queues


async def test_a_broker_that_refuses_the_inbox_refuses_the_request(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "error", ConnectError("no route", reason="timeout"))
    async with unimsg.connect(url=serve("slow", Slow)) as bus:
        with pytest.raises(PublishRejected, match="no route"):
            await bus.request(ask, "x", timeout=5)
        monkeypatch.setattr(Slow, "error", TopologyError("not like that"))  # the next call tries again
        with pytest.raises(TopologyError):
            await bus.request(ask, "x", timeout=5)


async def test_the_end_of_the_bus_ends_who_waits_for_the_inbox(serve: Serve) -> None:
    async with unimsg.connect(url=serve("slow", Slow)) as bus:
        asked = [asyncio.create_task(bus.request(ask, "x", timeout=60)) for _ in range(2)]
        await until(lambda: inboxes(bus), "the inbox")
        await asyncio.sleep(0)
    for task in asked:
        with pytest.raises(BusClosed):
            await asyncio.wait_for(task, 1.0)


async def test_a_request_at_the_very_end_gets_bus_closed() -> None:
    """The inbox is closed, and the bus not yet: nobody would hear the reply."""
    async with unimsg.connect(echo(), url="memory://") as bus:
        await bus.request(ask, "x")
        [inbox] = inboxes(bus)
        await inbox.aclose()
        with pytest.raises(BusClosed):
            await asyncio.wait_for(bus.request(ask, "x", timeout=60), 1.0)


async def test_a_deleted_inbox_is_made_again() -> None:
    async with unimsg.connect(echo(), url="memory://") as bus:
        await bus.request(ask, "x")
        MemoryBroker.current().delete(inboxes(bus)[0].name)
        await until(lambda: inboxes(bus)[0].name in MemoryBroker.current().queues, "the inbox")
        assert await bus.request(ask, "y") == "y"


# -- what is remembered


async def test_ended_questions_are_remembered_so_far_only() -> None:
    async with unimsg.connect(echo(), url="memory://") as bus:
        await bus.request(ask, "x")
        [inbox] = inboxes(bus)
        for n in range(REMEMBERED + 500):
            inbox.expect(str(n), Nobody())
            inbox.forget(str(n), answered=False)
        assert len(inbox._ended) == REMEMBERED
        assert inbox._asked == {}


class Nobody:
    def take(self, reply: Wire) -> bool:
        return True

    def close(self) -> None: ...


async def test_return_addresses_are_kept_so_far_only() -> None:
    path = ReturnPath(MemoryAdapter(), "")
    first, *others = [Address(f"unimsg.inbox.{n:032x}", Kind.INBOX) for n in range(KEPT + 10)]
    kept = path.to(first)
    for address in others:
        path.to(address)
        assert path.to(first) is kept  # what is in use stays
    assert len(path._publishers) == KEPT


@pytest.mark.parametrize("name", ["unimsg.inbox." + "0a" * 16, "unimsg.reply.shop.answers", "unimsg.reply.a-b_c"])
def test_addresses_of_one_shape_are_answered(name: str) -> None:
    address = address_of(name, "ann.")
    assert address is not None
    assert address.channel == f"ann.{name}"
    assert address.kind is (Kind.INBOX if "inbox" in name else Kind.QUEUE)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "shop.orders",
        "unimsg.inbox.",
        "unimsg.inbox." + "0" * 31,
        "unimsg.inbox." + "0" * 33,
        "unimsg.inbox." + "0A" * 16,
        "unimsg.inbox." + "0" * 31 + "\u0661",  # a digit to Unicode
        "unimsg.inbox." + "0" * 32 + "\n",
        "ann.unimsg.inbox." + "0" * 32,
        "unimsg.reply.",
        "unimsg.reply.ab",
        "unimsg.reply." + "a" * 101,
        "unimsg.reply.Answers",
        "unimsg.reply.a..b",
        "unimsg.reply.a..dead",
        "unimsg.reply..answers",
        "unimsg.reply.answers.",
        "unimsg.reply.answers\n",
        "unimsg.reply.a/b",
        "unimsg.reply.9answers",
        "unimsg.replies",
    ],
)
def test_no_other_address_is(name: str) -> None:
    assert address_of(name, "") is None


# -- reply queues


async def test_reply_to_wants_a_channel_with_replies_on_the_same_broker() -> None:
    settings = Settings(
        brokers={"default": {"url": "memory://"}, "other": {"url": "memory://"}},
        channels={"requests.answers": {"broker": "other"}},
    )
    async with unimsg.connect(settings=settings) as bus:
        with pytest.raises(ConfigurationError, match=r"requests\.silent declares no replies"):
            await bus.send(silent, "x", reply_to=answers)  # type: ignore[arg-type]  # as who does not check types
        with pytest.raises(ConfigurationError, match="on broker default, and the reply queue"):
            await bus.send(ask, "x", reply_to=answers)
        with pytest.raises(TypeError, match="takes a ReplyQueue"):
            await bus.send(ask, "x", reply_to=ask)  # type: ignore[arg-type]  # as who does not check types
        with pytest.raises(TypeError):
            await bus.publish(prices, "x", reply_to=answers)  # type: ignore[call-arg]  # as who does not check types
    settings = Settings(url="memory://", channels={"requests.answers": {"name": "legacy"}})
    async with unimsg.connect(settings=settings) as bus:
        with pytest.raises(ConfigurationError, match="has the name that its shape demands"):
            await bus.send(ask, "x", reply_to=answers)


async def test_a_send_with_reply_to_keeps_its_deadline(serve: Serve) -> None:
    """The reply queue and the queue itself are made within the one timeout."""
    slow = ReplyQueue("requests.slow", str)

    class Late(Slow):
        async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
            await asyncio.sleep(0.15 if address.channel == "unimsg.reply.requests.slow" else 3600)

    async with unimsg.connect(url=serve("slow", Late)) as bus:
        began = monotonic()
        with pytest.raises(PublishRejected):
            await bus.send(ask, "x", reply_to=slow, timeout=0.3)
        assert monotonic() - began < 0.4


async def test_a_reply_queue_that_cannot_be_made_in_time_is_told(serve: Serve) -> None:
    slow = ReplyQueue("requests.slow", str)
    async with unimsg.connect(url=serve("slow", Slow)) as bus:
        with pytest.raises(PublishRejected, match=r"requests\.slow: not made") as raised:
            await bus.send(ask, "x", id="mine", reply_to=slow, timeout=0.1)
        assert raised.value.message_id == "mine"


async def test_a_handler_sends_with_reply_to_when_it_has_ended() -> None:
    got: list[tuple[object, str | None, str]] = []
    sent: list[str] = []
    first = Queue("requests.first", str)
    service = echo()

    @service.handler(first)
    async def begin(body: str, context: Context) -> None:
        sent.append(await context.send(ask, body, reply_to=answers))
        sent.append(context.message.id)

    @service.handler(answers)
    async def end(body: object, context: Context) -> None:
        got.append((body, context.message.causation_id, context.message.conversation_id))

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(first, "hello")
        await until(lambda: got, "the reply")
    assert got == [("hello", sent[0], sent[1])]


async def test_a_delayed_message_is_answered_too() -> None:
    got: list[object] = []
    service = echo()

    @service.handler(answers)
    async def end(body: object) -> None:
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(ask, "later", reply_to=answers, delay=0.05)
        await until(lambda: got == ["later"], "the reply")
