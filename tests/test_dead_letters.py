"""What cannot be handled is a dead letter: with its record, and stored before the original is gone."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import held, letters, put, told, waiting
from waiting import came, until

import unimsg
from unimsg import Bus, Context, DeadLetter, Queue, Reject, Retry, RetryAfter, Service, Topic
from unimsg.adapter import Adapter, Address, Wanted, Wire
from unimsg.dead_letters import read, record, without_record
from unimsg.errors import PublishError, Refused
from unimsg.memory import MemoryAdapter, MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("dead.numbers", int)
ordered = Queue("dead.ordered", int, ordered=True)
events = Topic("dead.events", int)
DEAD = "dead.numbers..dead"


def raising(error: Exception, *, retry: Retry | None = None, expose: bool = False) -> Service[None]:
    service = Service("shop", retry=retry or Retry(), expose_errors=expose)

    async def handle(body: int) -> None:
        raise error

    service.handler(numbers)(handle)
    service.handler(events, subscription="mail")(handle)
    return service


async def the_letter(
    bus: Bus, channel: Queue[int] | Topic[int] = numbers, subscription: str | None = None
) -> DeadLetter:
    name = channel.name if subscription is None else f"{channel.name}..{subscription}"
    await until(lambda: held(f"{name}..dead") == 1, "the dead letter")
    [letter] = await letters(bus, channel, subscription)
    return letter


# -- the record


async def test_it_tells_everything_and_the_message_is_as_it_was_sent(either: str) -> None:
    begin = datetime.now(UTC) - timedelta(seconds=0.01)
    async with unimsg.connect(raising(ValueError("secret"), retry=Retry(0.1)), url=either) as bus:
        id = await bus.send(numbers, 7, key="k", headers={"tenant": "acme"})
        letter = await the_letter(bus)
    message = letter.message
    assert (message.id, message.body, message.key, message.headers) == (id, b"7", "k", {"tenant": "acme"})
    assert (message.type, message.kind, message.source) == ("dead.numbers", "command", "shop")
    assert message.content_type == "application/json"
    assert (letter.reason, letter.error_type, letter.error_text, letter.attempts) == ("failed", "ValueError", "", 2)
    assert letter.origin == "dead.numbers"
    assert letter.handler.startswith("shop:")
    assert letter.handler.endswith("handle")
    assert begin <= letter.first_failed < letter.last_failed <= datetime.now(UTC)
    assert letter.last_failed - letter.first_failed >= timedelta(seconds=0.09)


async def test_of_a_topic_it_tells_the_subscription(either: str) -> None:
    async with unimsg.connect(raising(ValueError()), url=either) as bus:
        await bus.publish(events, 7)
        letter = await the_letter(bus, events, "mail")
    assert (letter.origin, letter.message.kind) == ("dead.events/mail", "event")


@pytest.mark.parametrize("retry", [Retry(), Retry(0.01)], ids=["at once", "later"])
async def test_an_ordered_one_tells_when_it_failed_first(retry: Retry) -> None:
    service = Service("shop", retry=retry)

    @service.handler(ordered)
    async def handle(body: int) -> None:
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(ordered, 7, key="k")
        letter = await the_letter(bus, ordered)
    assert (letter.attempts, letter.message.key) == (retry.attempts, "k")
    assert (letter.last_failed - letter.first_failed >= timedelta(seconds=0.009)) == (retry.attempts > 1)


@pytest.mark.parametrize(
    ("error", "expose", "reason", "type_", "text"),
    [
        (Reject("no such order"), False, "rejected", "Reject", "no such order"),
        (Reject("no such order", code="gone"), False, "rejected", "Reject", "no such order"),
        (ValueError("card 4111"), False, "failed", "ValueError", ""),
        (ValueError("card 4111"), True, "failed", "ValueError", "card 4111"),
        (RetryAfter(5, "closed"), False, "failed", "RetryAfter", ""),
        (KeyError("a"), True, "failed", "KeyError", "'a'"),
        (ValueError(), True, "failed", "ValueError", ""),
    ],
)
async def test_the_text_of_an_error_leaves_the_process_only_if_it_may(
    error: Exception, expose: bool, reason: str, type_: str, text: str
) -> None:
    async with unimsg.connect(raising(error, expose=expose), url="memory://") as bus:
        await bus.send(numbers, 7)
        letter = await the_letter(bus)
        [wire] = waiting(DEAD)
    assert (letter.reason, letter.error_type, letter.error_text) == (reason, type_, text)
    assert ("4111" in str(wire)) == (text == "card 4111")


@pytest.mark.parametrize("text", ["x" * 5000, "ü" * 5000, "\ud800 half", "a\nb\0c"])
async def test_any_text_can_travel(text: str) -> None:
    async with unimsg.connect(raising(Reject(text)), url="memory://") as bus:
        await bus.send(numbers, 7)
        letter = await the_letter(bus)
    assert len(letter.error_text.encode()) <= 1024
    assert letter.error_text[:4].replace("?", "") in text


@given(st.dictionaries(st.sampled_from(["attempts", "first-failed", "last-failed", "reason", "origin"]), st.text()))
def test_a_record_that_is_malformed_counts_as_not_said(said: dict[str, str]) -> None:
    wire = Wire("id", b"7", {f"unimsg-dead-{name}": value for name, value in said.items()})
    letter = read(wire, "ce-", "dead.numbers")
    assert letter.attempts >= 0
    assert letter.first_failed.tzinfo is not None
    assert letter.message.body == b"7"


def test_what_was_recorded_is_read_and_can_be_taken_off() -> None:
    made = record(
        reason="failed",
        error_type="ValueError",
        error_text="text",
        attempts=3,
        origin="a.b",
        handler="shop:handle",
        first="2026-01-01T00:00:00.000Z",
        last="2026-01-02T00:00:00.000Z",
    )
    wire = Wire("id", b"7", {"ce-type": "a.b", "tenant": "acme", "unimsg-attempt": "3", **made}, "k")
    letter = read(wire, "ce-", "a.b")
    assert (letter.reason, letter.attempts, letter.origin, letter.handler) == ("failed", 3, "a.b", "shop:handle")
    assert letter.last_failed - letter.first_failed == timedelta(days=1)
    assert without_record(wire) == Wire("id", b"7", {"ce-type": "a.b", "tenant": "acme"}, "k")


# -- at once


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
@pytest.mark.parametrize("error", [Reject("no"), KeyError("a")], ids=["rejected", "final"])
async def test_a_rejected_or_final_one_waits_for_no_retry(channel: Queue[int], error: Exception) -> None:
    service, tried = Service("shop", retry=Retry(30, final=(LookupError,))), list[int]()

    @service.handler(channel)
    async def handle(body: int) -> None:
        tried.append(body)
        raise error

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(channel, 7, key="k")
        letter = await the_letter(bus, channel)
    assert (tried, letter.attempts) == ([7], 1)


# -- a dead-letter queue that takes nothing


class Stubborn(MemoryAdapter):
    """Refuses what goes to dead-letter queues and retry rooms as long as it is told to."""

    refuses: ClassVar[bool] = True
    hangs: ClassVar[asyncio.Event | None] = None
    tries: ClassVar[list[str]] = []

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if address.name.endswith("..dead") or delay:
            self.tries.extend(wire.id for wire in messages)
            if self.hangs is not None:
                await self.hangs.wait()
            if self.refuses:
                return [Refused(f"{address.name} is full", channel=address.name, message_id=w.id) for w in messages]
        return await super().send(address, messages, timeout=timeout, delay=delay)


@pytest.fixture
def stubborn(serve: Callable[[str, type[Adapter]], str]) -> str:
    Stubborn.refuses, Stubborn.hangs, Stubborn.tries = True, None, []
    return serve("stubborn", Stubborn)


@pytest.mark.parametrize("retry", [Retry(), Retry(1)], ids=["dead", "again"])
async def test_a_copy_that_is_refused_holds_the_original_backs_off_shows_and_goes_on(
    stubborn: str, retry: Retry
) -> None:
    got: list[int] = []
    service = Service("shop", retry=retry)

    @service.handler(numbers, concurrency=1)
    async def handle(body: int) -> None:
        got.append(body)
        if body == 0:
            raise ValueError

    async with unimsg.connect(service, url=stubborn) as bus:
        await bus.send(numbers, 0, id="bad")
        await told(bus, "dead.numbers: a failed message cannot go on: dead.numbers")
        assert not (await bus.health()).ready
        for number in range(1, 10):
            await bus.send(numbers, number)
        await came(got, range(10))
        await until(lambda: held("dead.numbers") == 1, "the others, acknowledged")
        await until(lambda: len(Stubborn.tries) >= 3, "it is tried again")
        assert got.count(0) == 1, "but not handled again"
        assert len(Stubborn.tries) < 30
        Stubborn.refuses = False
        await until(lambda: held("dead.numbers") == 0, "its acknowledgement")
        assert (await bus.health()).ready
        if retry.attempts == 1:
            assert [wire.id for wire in waiting(DEAD)] == ["bad"]


async def test_an_ordered_one_holds_its_key_meanwhile_and_others_go_on(stubborn: str) -> None:
    got: list[int] = []
    service = Service("shop", retry=Retry())

    @service.handler(ordered)
    async def handle(body: int) -> None:
        got.append(body)
        if body == 0:
            raise ValueError

    async with unimsg.connect(service, url=stubborn) as bus:
        for number, key in enumerate(["ann", "ann", "bob", "bob"]):
            await bus.send(ordered, number, key=key)
        await came(got, [0, 2, 3])
        await until(lambda: len(Stubborn.tries) >= 2, "tries")
        assert got == [0, 2, 3] or got == [2, 0, 3] or got == [2, 3, 0]
        Stubborn.refuses = False
        await came(got, [0, 1, 2, 3])


async def test_a_dead_letter_queue_that_was_deleted_is_made_again_and_nothing_is_lost() -> None:
    async with unimsg.connect(raising(ValueError()), url="memory://") as bus:
        MemoryBroker.current().delete(DEAD)
        await bus.send(numbers, 7, id="bad")
        await until(lambda: [wire.id for wire in waiting(DEAD)] == ["bad"], "the dead letter")
        await until(lambda: held("dead.numbers") == 0, "the acknowledgement")


async def test_one_that_is_not_ours_to_make_is_waited_for() -> None:
    settings = unimsg.Settings(url="memory://", topology="off")
    async with unimsg.connect(raising(ValueError()), url="memory://"):
        pass
    async with unimsg.connect(raising(ValueError()), settings=settings) as bus:
        MemoryBroker.current().delete(DEAD)
        await bus.send(numbers, 7, id="bad")
        await told(bus, "a failed message cannot go on")
        assert held("dead.numbers") == 1
        await MemoryAdapter().ensure(Address(DEAD, unimsg.adapter.Kind.QUEUE), Wanted(), timeout=1)
        await until(lambda: [wire.id for wire in waiting(DEAD)] == ["bad"], "the dead letter")
        await until(lambda: held("dead.numbers") == 0, "the acknowledgement")


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_at_the_end_what_could_not_go_goes_back_and_nothing_is_lost(stubborn: str, channel: Queue[int]) -> None:
    service = Service("shop", retry=Retry(), grace=0.1)

    @service.handler(channel)
    async def handle(body: int) -> None:
        raise ValueError

    async with unimsg.connect(service, url=stubborn) as bus:
        await bus.send(channel, 7, key="k")
        await until(lambda: Stubborn.tries, "a try")
    line = MemoryBroker.current().queues[channel.name]
    assert (line.length, line.waiting, held(f"{channel.name}..dead")) == (1, 1, 0)


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_a_copy_that_hangs_at_the_end_is_given_up_after_the_grace_and_the_original_comes_again(
    stubborn: str, channel: Queue[int]
) -> None:
    service = Service("shop", retry=Retry(), grace=0.1)
    Stubborn.hangs, Stubborn.refuses = asyncio.Event(), False

    @service.handler(channel)
    async def handle(body: int) -> None:
        raise ValueError

    connection = unimsg.connect(service, url=stubborn)
    bus = await connection.__aenter__()
    await bus.send(channel, 7, key="k")
    await until(lambda: Stubborn.tries, "the try")
    closing = asyncio.create_task(connection.__aexit__(None, None, None))
    await asyncio.sleep(0.3)
    Stubborn.hangs.set()
    await closing
    line = MemoryBroker.current().queues[channel.name]
    assert (line.length, line.waiting) == (1, 1), "it comes again, and is not lost"
    assert held(f"{channel.name}..dead") == 1, "the copy arrived, after all: twice, never lost"


async def test_a_copy_that_is_confirmed_after_its_connection_was_lost_makes_two_and_loses_none(stubborn: str) -> None:
    Stubborn.hangs, Stubborn.refuses = asyncio.Event(), False
    async with unimsg.connect(raising(ValueError()), url=stubborn) as bus:
        await bus.send(numbers, 7, id="bad")
        await until(lambda: Stubborn.tries, "the try")
        MemoryBroker.current().cut()
        Stubborn.hangs.set()
        await until(lambda: held(DEAD) == 2, "both")
        await until(lambda: held("dead.numbers") == 0, "the acknowledgement of the second delivery")
        assert {wire.id for wire in waiting(DEAD)} == {"bad"}


# -- what a failed attempt leaves behind


@pytest.mark.parametrize("how", ["raises", "rejects", "times out", "later"])
async def test_what_it_sent_never_leaves(either: str, how: str) -> None:
    results = Queue("dead.results", int)
    service = Service("shop", retry=Retry(0.01))

    @service.handler(numbers, timeout=0.1)
    async def handle(body: int, context: Context) -> None:
        await context.send(results, 1)
        await context.publish(events, 1)
        await context.send(results, 1, delay=5)
        if how == "times out":
            await asyncio.sleep(60)
        raise {"rejects": Reject("no"), "later": RetryAfter(0.01)}.get(how, ValueError())

    async with unimsg.connect(service, url=either) as bus:
        await bus.send(numbers, 7)
        await until(lambda: held(DEAD) == 1, "the dead letter")
    assert [name for name in MemoryBroker.current().queues if name.startswith("dead.results")] == []


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_handler_that_never_ends_in_time_is_a_dead_letter_in_the_end(either: str, kind: str) -> None:
    service, tried = Service("shop", retry=Retry(0.01), expose_errors=True), list[int]()
    go = threading.Event()

    async def handle(body: int) -> None:
        tried.append(body)
        await asyncio.sleep(60)

    def handle_in_thread(body: int) -> None:
        tried.append(body)
        go.wait(0.3)

    function: Any = handle if kind == "async" else handle_in_thread
    service.handler(numbers, timeout=0.05)(function)
    async with unimsg.connect(service, url=either) as bus:
        await bus.send(numbers, 7)
        letter = await the_letter(bus)
    go.set()
    assert (tried, letter.attempts, letter.error_type) == ([7, 7], 2, "TimeoutError")
    assert letter.error_text == "the handler did not end in 0.05 s"


async def test_a_stranger_that_forges_a_record_is_overruled() -> None:
    async with unimsg.connect(raising(ValueError()), url="memory://") as bus:
        forged = {"unimsg-dead-reason": "forged", "unimsg-dead-attempts": "99", "unimsg-first-failed": "never"}
        await put("dead.numbers", Wire("x", b"7", forged))
        letter = await the_letter(bus)
    assert (letter.reason, letter.attempts) == ("failed", 1)
    assert letter.first_failed == letter.last_failed
