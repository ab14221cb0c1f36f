"""Retry: G7 and G9 as users see them, on channels without order."""

import asyncio
import itertools
import time

from unimsg import Context, Retry, RetryAfter, Service
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

DELAYS = (0.5, 1.0)


@guarantee("G7")
async def test_attempts_are_counted_and_wait(stage: Stage) -> None:
    """Attempts 1, 2, 3, each not before its delay, the last one told so; then the message is done with."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    service = Service("orders", grace=2.0, retry=Retry(*DELAYS))

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if body == "bad" and context.attempt < 3:
            raise RuntimeError("on purpose")

    async with stage.bus(service) as bus:
        await bus.send(queue, "bad")
        await eventually(
            lambda: len(handled.of("bad")) >= 3,
            stage.recovery + sum(DELAYS),
            lambda: f"attempts {handled.attempts('bad')} of 3",
        )
        await bus.send(queue, "good")
        await eventually(lambda: bool(handled.of("good")), stage.recovery, lambda: "nothing more is handled")
        assert [letter async for letter in bus.dead_letters(queue)] == []
    seen = handled.of("bad")
    assert [attempt.attempt for attempt in seen] == [1, 2, 3]
    assert [attempt.last for attempt in seen] == [False, False, True]
    gaps = [later.when - sooner.when for sooner, later in itertools.pairwise(seen)]
    assert all(gap >= delay for gap, delay in zip(gaps, DELAYS, strict=True)), f"{gaps} of {DELAYS}"
    stage.record("retries after 0.5 and 1 s came {:.2f} and {:.2f} s late".format(*map(float.__sub__, gaps, DELAYS)))


@guarantee("G7")
async def test_only_the_subscription_that_failed_tries_again(stage: Stage) -> None:
    """An event that one subscription failed on comes again to that one alone."""
    topic = stage.declare_topic(str)
    billing, kitchen = Handled[str](), Handled[str]()
    failing = Service("billing", grace=2.0, retry=Retry(0.3))
    other = Service("kitchen", grace=2.0)

    @failing.handler(topic)
    async def bill(body: str, context: Context) -> None:
        billing.note(body, context)
        if context.attempt == 1:
            raise RuntimeError("on purpose")

    @other.handler(topic)
    async def cook(body: str, context: Context) -> None:
        kitchen.note(body, context)

    async with stage.bus(failing, other) as bus:
        await bus.publish(topic, "placed")
        await eventually(
            lambda: len(billing.seen) >= 2 and bool(kitchen.seen),
            stage.recovery,
            lambda: f"{billing.attempts('placed')}, {kitchen.attempts('placed')}",
        )
        await bus.publish(topic, "second")
        await eventually(lambda: bool(kitchen.of("second")), stage.recovery, lambda: "the second event is missing")
    assert billing.attempts("placed") == [1, 2]
    assert kitchen.attempts("placed") == [1]


@guarantee("G7")
async def test_waiting_keeps_nobody_back(stage: Stage) -> None:
    """300 messages wait for their next attempt, for an hour or for a second; 20 good ones and those that waited a
    second are handled meanwhile."""
    queue = stage.declare_queue(int)
    handled = Handled[int]()
    service = Service("orders", grace=2.0, retry=Retry(3600))

    @service.handler(queue)
    async def handle(body: int, context: Context) -> None:
        handled.note(body, context)
        if body < 300 and context.attempt == 1:
            if body % 10 == 0:
                raise RetryAfter(1)
            raise RuntimeError("on purpose")

    async with stage.bus(service) as bus:
        async with bus.pipeline() as pipeline:
            for n in range(300):
                await pipeline.send(queue, n)
        await eventually(
            lambda: len(set(handled.bodies)) >= 300, stage.recovery, lambda: f"{len(set(handled.bodies))} of 300"
        )
        for n in range(300, 320):
            await bus.send(queue, n)
        await eventually(
            lambda: all(handled.of(n) for n in range(300, 320)),
            stage.patience,
            lambda: f"{sum(bool(handled.of(n)) for n in range(300, 320))} of 20 good ones were handled",
        )
        again = range(0, 300, 10)
        await eventually(
            lambda: all(handled.attempts(n) == [1, 2] for n in again),
            stage.recovery + 1,
            lambda: f"{sum(handled.attempts(n) == [1, 2] for n in again)} of 30 came after a second",
        )
    assert all(handled.of(n)[1].when - handled.of(n)[0].when >= 1 for n in again)
    assert not any(len(handled.of(n)) > 1 for n in range(300) if n % 10), "one came an hour early"


@guarantee("G7")
async def test_waiting_outlives_the_receiver(stage: Stage) -> None:
    """A message waits while its receiver ends; the next process handles it, not before its time, and counts on."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()

    def service() -> Service:
        made = Service("orders", grace=2.0, retry=Retry(2))

        @made.handler(queue)
        async def handle(body: str, context: Context) -> None:
            handled.note(body, context)
            if context.attempt == 1:
                raise RuntimeError("on purpose")

        return made

    async with stage.bus(service()) as bus:
        await bus.send(queue, "bad")
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "nothing came")
    async with stage.bus(service()):
        await eventually(
            lambda: len(handled.seen) >= 2, stage.recovery + 2, lambda: f"attempts {handled.attempts('bad')}"
        )
    first, second = handled.seen
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.when - first.when >= 2


@guarantee("G7", needs=("restart",))
async def test_waiting_outlives_the_broker(stage: Stage) -> None:
    """The broker is restarted while a message waits: it comes, and not before its time."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    service = Service("orders", grace=2.0, retry=Retry(2))

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if context.attempt == 1:
            raise RuntimeError("on purpose")

    async with stage.bus(service) as bus:
        await bus.send(queue, "bad")
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "nothing came")
        await stage.breathe(await stage.adapter())  # the copy is stored, and the original settled
        await stage.harness.restart()
        await eventually(
            lambda: len(handled.seen) >= 2, 2 * stage.recovery, lambda: f"attempts {handled.attempts('bad')}"
        )
    # A settlement may have been lost with the connection: then the first attempt comes twice.
    last = handled.seen[-1]
    assert last.attempt == 2
    assert last.when - handled.seen[0].when >= 2


@guarantee("G9")
async def test_shutdown_counts_as_no_attempt(stage: Stage) -> None:
    """A handler that is cancelled by three shutdowns: the next process handles its message as the first attempt."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()

    def service(number: int) -> Service:
        made = Service("orders", grace=0.1, retry=Retry(0.1))

        @made.handler(queue)
        async def handle(body: str, context: Context) -> None:
            handled.note(body, context)
            if number < 3:
                await asyncio.Event().wait()

        return made

    for number in range(4):
        async with stage.bus(service(number)) as bus:
            if number == 0:
                await bus.send(queue, "x")
            await handled.reach(number + 1, stage.recovery)
            letters = [letter async for letter in bus.dead_letters(queue)]
    assert handled.attempts("x") == [1, 1, 1, 1]
    assert letters == []


@guarantee("G9", needs=("cut",))
async def test_a_lost_connection_counts_as_no_attempt(stage: Stage) -> None:
    """The connection is cut under a running handler: when its message comes again, it is the first attempt."""
    network = await stage.network()
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    go_on = asyncio.Event()
    service = Service("orders", grace=2.0, retry=Retry(0.1))

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if len(handled.of("x")) == 1:
            await go_on.wait()

    async with stage.bus(service, url=network.url), stage.bus() as client:
        await client.send(queue, "x")
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "nothing came")
        await network.cut()
        await client.send(queue, "y")
        await eventually(lambda: bool(handled.of("y")), stage.recovery, lambda: "nothing came after the cut")
        go_on.set()
        await stage.breathe(await stage.adapter())
        letters = [letter async for letter in client.dead_letters(queue)]
    assert set(handled.attempts("x")) == {1}
    assert letters == []


@guarantee("G7")
async def test_what_is_delayed_waits(stage: Stage) -> None:
    """A message sent, and an event published, with a delay: nobody sees it sooner, and every subscription gets it."""
    queue, topic = stage.declare_queue(str), stage.declare_topic(str)
    handled, first, second = Handled[str](), Handled[str](), Handled[str]()
    one, two = Service("one", grace=2.0), Service("two", grace=2.0)

    @one.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)

    @one.handler(topic)
    async def handle_first(body: str, context: Context) -> None:
        first.note(body, context)

    @two.handler(topic)
    async def handle_second(body: str, context: Context) -> None:
        second.note(body, context)

    async with stage.bus(one, two), stage.bus() as client:
        sent = time.time()
        await client.send(queue, "later", delay=2)
        await client.publish(topic, "later", delay=2)
        await client.send(queue, "now")
        await client.publish(topic, "now")
        await eventually(
            lambda: all(len(each.seen) >= 2 for each in (handled, first, second)),
            stage.recovery + 2,
            lambda: f"{handled.bodies}, {first.bodies}, {second.bodies}",
        )
    for each in (handled, first, second):
        assert each.bodies == ["now", "later"]
        assert each.of("later")[0].when - sent >= 2
