"""What a handler sees, what it sends, how many run at once; on the broker in memory."""

import asyncio
import contextvars
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from memory_like import Tea
from policies import SOON
from waiting import came, until

import unimsg
from unimsg import Bus, Context, Message, Queue, Retry, Service, Settings, Topic
from unimsg._message import derived_id
from unimsg.adapter import Address, Kind, Wire
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

Handle = Callable[[], Coroutine[Any, Any, None]]

numbers = Queue("handling.numbers", int)
results = Queue("handling.results", int)
events = Topic("handling.events", int)
keyed = Topic("handling.keyed", str, key=lambda text: text[0])


def stored(queue: str) -> list[Wire]:
    """What waits in a queue."""
    return [entry.wire for lane in MemoryBroker.current().queues[queue]._lanes.values() for entry in lane.waiting]


def unsettled(queue: str) -> int:
    """Messages that a queue holds, those handed out included."""
    return MemoryBroker.current().queues[queue].length


# -- what a handler sees


async def test_a_context_shows_the_whole_message() -> None:
    seen: list[tuple[Message[object], str | None, object]] = []
    service = Service("shop", retry=SOON)

    @service.handler(events)
    async def handle(body: int, context: Context) -> None:
        seen.append((context.message, context.subscription, context.state))
        assert context.message is context.message
        assert not context.lost

    async with unimsg.connect(service, url="memory://") as bus:
        id = await bus.publish(events, 7, key="k", headers={"tenant": "acme"})
        await until(lambda: seen, "the message")
    [(message, subscription, state)] = seen
    assert (message.id, message.body, message.key, message.headers) == (id, 7, "k", {"tenant": "acme"})
    assert (message.type, message.kind, message.source) == ("handling.events", "event", "shop")
    assert (message.conversation_id, message.causation_id, message.content_type) == (id, None, "application/json")
    assert isinstance(message.raw, Wire)
    assert (subscription, state) == ("shop", None)


async def test_every_subscription_gets_every_message_and_its_handlers_compete() -> None:
    got: dict[str, list[int]] = {"shop": [], "mail": [], "audit": []}
    one, two = Service("shop", retry=SOON), Service("mail")

    @one.handler(events)
    async def shop(body: int) -> None:
        got["shop"].append(body)

    @one.handler(events, subscription="audit")
    async def audit(body: int) -> None:
        got["audit"].append(body)

    @two.handler(events)
    async def mail(body: int) -> None:
        got["mail"].append(body)

    second_instance = unimsg.connect(one, url="memory://")
    async with unimsg.connect(one, two, url="memory://") as bus, second_instance:
        for number in range(20):
            await bus.publish(events, number)
        for name in got:
            await came(got[name], range(20))


async def test_a_message_of_a_stranger_is_handled() -> None:
    seen: list[Message[object]] = []
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        seen.append(context.message)

    async with unimsg.connect(service, url="memory://"):
        wire = Wire("foreign", b" 7 ", {"ce-time": "never", "X-Odd": "kept", "ce-messagekind": "?"})
        await MemoryAdapter().send(Address("handling.numbers", Kind.QUEUE), [wire], timeout=1)
        await until(lambda: seen, "the message")
    [message] = seen
    assert (message.body, message.kind, message.headers, message.source) == (7, "command", {"X-Odd": "kept"}, "")


# -- the service's state


async def test_a_lifespan_is_entered_before_the_first_message_and_left_after_the_last() -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[str]:
        happened.append("enter")
        await bus.send(results, 1)
        yield "the state"
        await bus.send(results, 2)
        happened.append("leave")

    service = Service("shop", retry=SOON, lifespan=lifespan)
    started = asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int, context: Context[str]) -> None:
        started.set()
        await asyncio.sleep(0.05)
        happened.append(f"handled with {context.state}")

    async with unimsg.connect(url="memory://") as client:
        await client.send(numbers, 7)
    async with unimsg.connect(service, url="memory://"):
        await started.wait()
    assert happened == ["enter", "handled with the state", "leave"]
    assert [wire.body for wire in stored("handling.results")] == [b"1", b"2"], "what it sends at its end still goes out"
    assert {wire.headers["ce-source"] for wire in stored("handling.results")} == {"shop"}


async def test_each_service_has_its_own_state_and_they_are_left_in_reverse() -> None:
    happened: list[str] = []

    def lifespan(name: str) -> Callable[[Bus], Any]:
        @asynccontextmanager
        async def named(bus: Bus) -> AsyncIterator[str]:
            happened.append(f"enter {name}")
            yield name
            happened.append(f"leave {name}")

        return named

    one, two = Service("one", lifespan=lifespan("one")), Service("two", lifespan=lifespan("two"))
    seen: list[object] = []

    async def handle(body: int, context: Context[Any]) -> None:
        seen.append(context.state)

    one.handler(events)(handle)
    two.handler(events)(handle)
    async with unimsg.connect(one, two, url="memory://") as bus:
        await bus.publish(events, 1)
        await came(seen, ["one", "two"])
    assert happened == ["enter one", "enter two", "leave two", "leave one"]


async def test_a_lifespan_that_fails_to_begin_ends_the_others_and_nothing_is_handled() -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def fine(bus: Bus) -> AsyncIterator[None]:
        happened.append("enter")
        try:
            yield
        finally:
            happened.append("leave")

    @asynccontextmanager
    async def failing(bus: Bus) -> AsyncIterator[None]:
        if happened:
            raise KeyError("no database")
        yield

    one, two = Service("one", lifespan=fine), Service("two", lifespan=failing)

    @one.handler(numbers)
    async def handle(body: int) -> None:
        happened.append("handled")

    async with unimsg.connect(url="memory://") as client:
        await client.send(numbers, 7)
    with pytest.raises(KeyError, match="no database"):
        async with unimsg.connect(one, two, url="memory://"):
            happened.append("block")
    assert happened == ["enter", "leave"]
    assert len(stored("handling.numbers")) == 1


# -- around


async def test_around_functions_wrap_every_attempt_the_first_outermost() -> None:
    happened: list[str] = []

    def around(name: str) -> Callable[[Context[Any], Handle], Coroutine[Any, Any, None]]:
        async def wrap(context: Context[Any], handle: Handle) -> None:
            happened.append(f"{name} before {context.message.body}")
            try:
                await handle()
            finally:
                happened.append(f"{name} after")

        return wrap

    service = Service("shop", retry=SOON, around=[around("outer"), around("inner")])
    attempts = 0

    @service.handler(numbers)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        happened.append(f"attempt {attempts}")
        if attempts == 1:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: happened.count("outer after") == 2, "the end of the second attempt")
    once = ["outer before 7", "inner before 7", "attempt {}", "inner after", "outer after"]
    assert happened == [line.format(number) for number in (1, 2) for line in once]


async def test_what_an_around_function_sends_is_held_with_the_rest() -> None:
    async def count(context: Context[Any], handle: Handle) -> None:
        await context.send(results, 1)
        await handle()
        await context.send(results, 3)

    service = Service("shop", retry=SOON, around=[count])

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        await context.send(results, 2)
        assert "handling.results" not in MemoryBroker.current().queues

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: unsettled("handling.numbers") == 0, "the acknowledgement")
    assert [wire.body for wire in stored("handling.results")] == [b"1", b"2", b"3"]


async def test_an_around_function_may_keep_a_message_from_its_handler() -> None:
    async def skip(context: Context[Any], handle: Handle) -> None:
        if context.message.body != 1:
            await handle()

    got: list[int] = []
    service = Service("shop", retry=SOON, around=[skip])

    @service.handler(numbers)
    def collect(body: int) -> None:
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 1)
        await bus.send(numbers, 2)
        await until(lambda: unsettled("handling.numbers") == 0, "both acknowledgements")
    assert got == [2]


# -- held sends


async def test_nothing_is_sent_before_the_handler_ended_and_all_before_it_is_acknowledged() -> None:
    service, go = Service("shop", retry=SOON), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        await context.send(results, 1)
        await context.publish(events, 2)
        await context.send(results, 3)
        started.set()
        await go.wait()

    started = asyncio.Event()
    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await started.wait()
        assert "handling.results" not in MemoryBroker.current().queues
        go.set()
        await until(lambda: unsettled("handling.numbers") == 0, "the acknowledgement")
        assert [wire.body for wire in stored("handling.results")] == [b"1", b"3"]


async def test_a_failing_handler_sends_nothing_and_a_repeat_has_the_same_ids() -> None:
    Tea.forget()
    service, attempts, ids = Service("shop", retry=SOON), 0, list[list[str]]()

    @service.handler(events)
    async def handle(body: int, context: Context) -> None:
        nonlocal attempts
        attempts += 1
        ids.append([await context.send(results, number) for number in range(3)])
        if attempts < 3:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        id = await bus.publish(events, 7)
        await until(lambda: "handling.results" in MemoryBroker.current().queues, "the results")
        await until(lambda: unsettled("handling.results") == 3, "three results")
    assert attempts == 3
    assert ids[0] == ids[1] == ids[2]
    assert ids[0] == [derived_id(id, "shop:handling.events/shop", number) for number in (1, 2, 3)]
    assert [wire.id for wire in stored("handling.results")] == ids[0], "sent once, by the attempt that ended well"


async def test_ids_differ_between_handlers_and_messages() -> None:
    one, two, ids = Service("one"), Service("two"), list[str]()

    async def handle(body: int, context: Context) -> None:
        ids.append(await context.send(results, body))

    one.handler(events)(handle)
    two.handler(events)(handle)
    async with unimsg.connect(one, two, url="memory://") as bus:
        await bus.publish(events, 1)
        await bus.publish(events, 2)
        await until(lambda: len(ids) == 4, "four results")
    assert len(set(ids)) == 4


async def test_a_held_send_may_have_an_id_key_and_headers_of_its_own() -> None:
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        assert await context.send(results, 1, id="mine", key="k", headers={"tenant": "acme"}) == "mine"

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: unsettled("handling.numbers") == 0, "the acknowledgement")
    [wire] = stored("handling.results")
    assert (wire.id, wire.key, wire.headers["tenant"]) == ("mine", "k", "acme")


async def test_a_conversation_goes_on_through_all_that_follows() -> None:
    first, second = Service("first"), Service("second")

    @first.handler(numbers)
    async def begin(body: int, context: Context) -> None:
        await context.publish(events, body)

    @second.handler(events)
    async def go_on(body: int, context: Context) -> None:
        await context.send(results, body)

    async with unimsg.connect(first, second, url="memory://") as bus:
        begins = await bus.send(numbers, 7)
        await until(lambda: "handling.results" in MemoryBroker.current().queues, "the result")
        await until(lambda: stored("handling.results"), "the result")
    [wire] = stored("handling.results")
    middle = derived_id(begins, "first:handling.numbers", 1)
    assert (wire.headers["ce-correlationid"], wire.headers["ce-causationid"]) == (begins, middle)
    assert wire.id == derived_id(middle, "second:handling.events/second", 1)
    assert wire.headers["ce-source"] == "second"


async def test_the_first_message_of_a_conversation_says_none() -> None:
    async with unimsg.connect(url="memory://") as bus:
        await bus.send(numbers, 7)
    [wire] = stored("handling.numbers")
    assert not {"ce-correlationid", "ce-causationid"} & wire.headers.keys()


async def test_a_held_send_that_is_refused_is_a_failure_of_the_handler() -> None:
    small = Queue("handling.small", int, options=[MemoryOptions(max_length=1)])
    service, attempts = Service("shop", retry=SOON), 0

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        nonlocal attempts
        attempts += 1
        await context.send(small, body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(small, 0)
        await bus.send(numbers, 7)
        await until(lambda: attempts == 3, "three attempts")
        assert any("Refused" in problem for problem in (await bus.health()).problems)
        MemoryBroker.current().delete("handling.small")
        await MemoryAdapter().ensure(Address("handling.small", Kind.QUEUE), unimsg.adapter.Wanted(), timeout=1)
        await until(lambda: stored("handling.small"), "what it sends, once there is room")
        tried = attempts
        await until(lambda: unsettled("handling.numbers") == 0, "the acknowledgement")
    assert [wire.body for wire in stored("handling.small")] == [b"7"]
    assert attempts == tried, "it ended well"


async def test_so_it_is_if_one_of_several_is_refused_and_the_repeat_has_the_same_ids() -> None:
    small = Queue("handling.small", int, options=[MemoryOptions(max_length=1)])
    service, attempts = Service("shop", retry=SOON), 0

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        nonlocal attempts
        attempts += 1
        await context.send(results, 1)
        await context.send(small, 2)
        await context.send(results, 3)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(small, 0)
        await bus.send(numbers, 7)
        await until(lambda: attempts >= 2 and len(stored("handling.results")) >= 4, "two attempts")
    sent = [(wire.id, wire.body) for wire in stored("handling.results")]
    assert sent[:2] == sent[2:4], "what went out before comes again under its id"
    assert [body for _, body in sent[:2]] == [b"1", b"3"]


async def test_the_bus_of_a_context_sends_at_once() -> None:
    service, attempts = Service("shop", retry=SOON), 0

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        nonlocal attempts
        attempts += 1
        await context.bus.send(results, attempts)
        if attempts == 1:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: attempts == 2, "the second attempt")
        await until(lambda: unsettled("handling.numbers") == 0, "its acknowledgement")
    assert [wire.body for wire in stored("handling.results")] == [b"1", b"2"]
    assert len({wire.id for wire in stored("handling.results")}) == 2


async def test_what_a_handler_cannot_send_is_raised_in_the_handler() -> None:
    service, caught = Service("shop", retry=SOON), list[Exception]()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        wrong: Any = "7"
        try:
            await context.send(results, wrong)
        except unimsg.EncodeError as error:
            caught.append(error)
        await context.send(results, 7)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: unsettled("handling.numbers") == 0, "the acknowledgement")
    assert len(caught) == 1
    assert len(stored("handling.results")) == 1


# -- how many at once


@pytest.mark.parametrize(("declared", "configured", "wanted"), [(1, None, 1), (4, None, 4), (2, 5, 5), (5, 2, 2)])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_concurrency_is_reached_and_never_exceeded(
    declared: int, configured: int | None, wanted: int, kind: str
) -> None:
    now = most = done = 0
    lock = threading.Lock()
    service = Service("shop", retry=SOON)

    def begin() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)

    def end() -> None:
        nonlocal now, done
        with lock:
            now -= 1
            done += 1

    async def handle(body: int) -> None:
        begin()
        await asyncio.sleep(0.01)
        end()

    def handle_in_thread(body: int) -> None:
        begin()
        time.sleep(0.01)
        end()

    service.handler(numbers, concurrency=declared)(handle if kind == "async" else handle_in_thread)
    handlers = {} if configured is None else {"handling.numbers": {"concurrency": configured}}
    async with unimsg.connect(service, settings=Settings(url="memory://", handlers=handlers)) as bus:
        async with bus.pipeline() as pipeline:
            for number in range(40):
                await pipeline.send(numbers, number)
        await until(lambda: done == 40, "40 messages")
    assert most == wanted


async def test_no_more_are_taken_from_the_broker_than_the_prefetch() -> None:
    service, go, started = Service("shop", retry=SOON), asyncio.Event(), 0

    @service.handler(numbers, concurrency=2)
    async def handle(body: int) -> None:
        nonlocal started
        started += 1
        await go.wait()

    settings = Settings(url="memory://", handlers={"handling.numbers": {"prefetch": 5}})
    async with unimsg.connect(service, settings=settings) as bus:
        for number in range(20):
            await bus.send(numbers, number)
        await until(lambda: started == 2, "two handlers")
        assert len(stored("handling.numbers")) == 15
        go.set()
        await until(lambda: unsettled("handling.numbers") == 0, "all")


async def test_one_key_runs_one_at_a_time_in_order_and_keys_run_side_by_side() -> None:
    running: dict[str, int] = {}
    together = 0
    got: dict[str, list[int]] = {key: [] for key in "abcd"}
    service, pace = Service("shop", retry=SOON), random.Random(7)

    @service.handler(keyed, concurrency=10)
    async def handle(body: str) -> None:
        nonlocal together
        key, number = body[0], int(body[1:])
        running[key] = running.get(key, 0) + 1
        assert running[key] == 1, f"{key} twice at once"
        together = max(together, sum(running.values()))
        await asyncio.sleep(pace.choice([0, 0.001, 0.003]))
        got[key].append(number)
        running[key] -= 1

    async with unimsg.connect(service, url="memory://") as bus:
        async with bus.pipeline() as pipeline:
            for number in range(25):
                for key in got:
                    await pipeline.publish(keyed, f"{key}{number}")
        await until(lambda: sum(map(len, got.values())) == 100, "100 messages")
        assert (await bus.health()).problems == []
    assert got == {key: list(range(25)) for key in got}
    assert together > 1, "different keys at the same time"


async def test_ordered_messages_of_strangers_without_a_key_are_handled_too() -> None:
    got: list[str] = []
    service = Service("shop", retry=SOON)

    @service.handler(keyed)
    async def handle(body: str) -> None:
        got.append(body)

    async with unimsg.connect(service, url="memory://"):
        address = Address("handling.keyed", Kind.TOPIC, partitions=8)
        await MemoryAdapter().send(address, [Wire(f"{n}", b"x%d" % n) for n in range(3)], timeout=1)
        await came(got, ["x0", "x1", "x2"])


# -- plain functions


async def test_a_plain_function_runs_in_a_thread_and_does_not_block_the_loop() -> None:
    threads: list[str] = []
    go = threading.Event()
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    def handle(body: int) -> None:
        threads.append(threading.current_thread().name)
        assert go.wait(5), "the loop is blocked"

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: threads, "the handler")
        await bus.send(results, 1)  # the loop goes on
        go.set()
        await until(lambda: unsettled("handling.numbers") == 0, "the acknowledgement")
    assert threads[0].startswith("unimsg-handling.numbers")


async def test_it_sees_the_context_variables_of_its_around_functions() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    seen: list[str] = []

    async def set_tenant(context: Context[Any], handle: Handle) -> None:
        tenant.set(context.message.headers["tenant"])
        await handle()

    service = Service("shop", retry=SOON, around=[set_tenant])

    @service.handler(numbers)
    def handle(body: int) -> None:
        seen.append(tenant.get())

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7, headers={"tenant": "acme"})
        await came(seen, ["acme"])


class NoException(BaseException):
    """As the failures of test frameworks are."""


@pytest.mark.parametrize("error", [ValueError, StopIteration, NoException])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_whatever_a_handler_raises_is_its_failure_and_the_message_comes_again(
    error: type[BaseException], kind: str
) -> None:
    attempts = 0
    service = Service("shop", retry=SOON)

    def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise error

    async def handle_async(body: int) -> None:
        handle(body)

    service.handler(numbers)(handle if kind == "def" else handle_async)
    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: attempts == 2, "the second attempt")
        await until(lambda: unsettled("handling.numbers") == 0, "its acknowledgement")
    assert attempts == 2


async def test_a_plain_function_that_wraps_an_async_one_fails_instead_of_losing_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def real(body: int) -> None:
        raise AssertionError("nobody runs it")

    service = Service("shop", retry=Retry(0.02))

    @service.handler(numbers)
    def wrapper(body: int) -> Any:
        return real(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: "handling.numbers..dead" in MemoryBroker.current().queues, "its dead-letter queue")
        await until(lambda: stored("handling.numbers..dead"), "the dead letter", within=10)
    assert "returned a coroutine, which nobody runs: make it, and what decorates it, async def" in caplog.text


async def test_what_a_plain_function_returns_is_ignored_if_it_is_a_plain_thing() -> None:
    service = Service("shop", retry=SOON)

    def handle(body: int) -> Any:
        return [body]

    service.handler(numbers)(handle)
    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: unsettled("handling.numbers") == 0, "the acknowledgement")
