"""Retry on ordered channels: G5 and G7 under failure."""

import asyncio
from collections import defaultdict

import pytest

from unimsg import CapabilityError, Context, Retry, Service
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

Item = tuple[str, int]


def key(body: Item) -> str:
    return body[0]


@guarantee("G7")
async def test_a_failing_message_holds_its_key_only(stage: Stage) -> None:
    """Its key waits behind it, in order; other keys go on meanwhile."""
    queue = stage.declare_queue(Item, key=key)
    handled = Handled[Item]()
    service = Service("orders", grace=2.0, retry=Retry(0.5, 1.0))

    @service.handler(queue)
    async def handle(body: Item, context: Context) -> None:
        handled.note(body, context)
        if body == ("a", 0) and context.attempt < 3:
            raise RuntimeError("on purpose")

    async with stage.bus(service) as bus:
        for n in range(4):
            await bus.send(queue, ("a", n))
            await bus.send(queue, ("b", n))
        await handled.reach(10, stage.recovery + 1.5)
    first, second, third = handled.of(("a", 0))
    assert (first.attempt, second.attempt, third.attempt) == (1, 2, 3)
    assert second.when - first.when >= 0.5
    assert third.when - second.when >= 1.0
    assert [body for body in dict.fromkeys(handled.bodies) if body[0] == "a"] == [("a", n) for n in range(4)]
    assert handled.of(("a", 1))[0].when >= third.when, "what waits behind a failing message was handled before it"
    assert handled.of(("b", 3))[0].when <= third.when, "another key waited for the failing one"


@guarantee("G5")
async def test_order_under_failure(stage: Stage) -> None:
    """A backlog of each key, two processes, one attempt in seven fails: per key no message is begun before all older
    ones are done, and none twice at once."""
    queue = stage.declare_queue(Item, key=key)
    done: dict[str, list[int]] = defaultdict(list)
    wrong: list[str] = []
    running: set[str] = set()
    number = 0

    def service() -> Service:
        made = Service("orders", grace=5.0, retry=Retry(*[0.01] * 20))

        @made.handler(queue, concurrency=8)
        async def handle(body: Item) -> None:
            nonlocal number
            name, n = body
            if name in running:
                wrong.append(f"{name}: two at once")
            if done[name] and n <= max(done[name]):
                wrong.append(f"{name}: {n} after {max(done[name])}")
            if n != len(done[name]):
                wrong.append(f"{name}: {n} before {len(done[name])}")
            running.add(name)
            try:
                await asyncio.sleep(0.001)
                number += 1
                if number % 7 == 0:
                    raise RuntimeError("on purpose")
                done[name].append(n)
            finally:
                running.discard(name)

        return made

    async with stage.bus() as client, client.pipeline() as pipeline:
        for n in range(25):
            for name in "abcdefgh":
                await pipeline.send(queue, (name, n))
    async with stage.bus(service()), stage.bus(service()):
        await eventually(
            lambda: sum(map(len, done.values())) >= 200,
            2 * stage.recovery,
            lambda: f"{sum(map(len, done.values()))} of 200 were handled",
        )
    assert not wrong, wrong[:10]
    assert all(numbers == list(range(25)) for numbers in done.values())


@guarantee("G10", needs=("leave_order",))
async def test_a_shutdown_ends_the_wait(stage: Stage) -> None:
    """A key waits for its next attempt, an hour away, when its process ends: the next one has all of it at once, in
    order, and from the first attempt."""
    queue = stage.declare_queue(Item, key=key)
    handled = Handled[Item]()

    def service(*, fails: bool) -> Service:
        made = Service("orders", grace=2.0, retry=Retry(3600))

        @made.handler(queue)
        async def handle(body: Item, context: Context) -> None:
            handled.note(body, context)
            if fails:
                raise RuntimeError("on purpose")

        return made

    async with stage.bus(service(fails=True)) as bus:
        for n in range(5):
            await bus.send(queue, ("a", n))
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "nothing came")
    before = len(handled.seen)
    async with stage.bus(service(fails=False)):
        await eventually(
            lambda: len(handled.seen) >= before + 5, stage.recovery, lambda: f"{len(handled.seen) - before} of 5 came"
        )
    assert before == 1
    assert [(seen.body[1], seen.attempt) for seen in handled.seen[1:]] == [(n, 1) for n in range(5)]


@guarantee("G16")
async def test_no_delay_on_an_ordered_channel(stage: Stage) -> None:
    """It would let what was sent later overtake: refused at the call, and nothing is sent."""
    queue = stage.declare_queue(Item, key=key)
    handled = Handled[Item]()
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    async def handle(body: Item, context: Context) -> None:
        handled.note(body, context)

    async with stage.bus(service) as bus:
        with pytest.raises(CapabilityError, match="ordered"):
            await bus.send(queue, ("a", 0), delay=1)
        await bus.send(queue, ("a", 1))
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "nothing came")
    assert handled.bodies == [("a", 1)]
