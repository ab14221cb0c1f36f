"""Messages that kill whoever handles them: the end of G8."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from functools import partial

from unimsg import Bus, DeadLetter, Queue, Service
from unimsg.errors import TopologyError
from unimsg_contracts.killer import POISON, SLOW_POISON, Killer
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


async def killed(stage: Stage, bus: Bus, queue: Queue[str], poison: str, others: Collection[str]) -> Killer:
    """Lets processes die of `poison` until it is a dead letter and `others` are handled. Checks that it is the only one
    that is dead, and when and why."""
    limit = stage.harness.backstop_limit
    settings = {
        "brokers": {"default": {"url": stage.harness.url, **stage.harness.options}},
        "channels": {queue.name: stage.harness.backstop(limit)},
    }
    killer = Killer(settings, queue.name, ordered=queue.ordered)
    letters: list[DeadLetter] = []

    async def over() -> bool:
        if not life.done():
            with suppress(TopologyError):  # whoever handles first makes where they lie
                letters[:] = [letter async for letter in bus.dead_letters(queue)]
            await asyncio.sleep(0.1)
            return len(letters) > 1 or (bool(letters) and set(others) <= set(killer.handled))
        return True

    def missing() -> str:
        return f"{len(letters)} dead, {killer.deaths} deaths, not handled: {sorted(set(others) - set(killer.handled))}"

    while killer.deaths < 2 * limit:
        life = asyncio.create_task(killer.run_once())
        try:
            await eventually(over, 2 * stage.recovery, missing)
            if not life.done():
                break
            life.result()
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
    letters = [letter async for letter in bus.dead_letters(queue)]
    dead = [letter.message.body for letter in letters]
    assert dead == [poison.encode()], f"{dead}, {killer.deaths} deaths"
    (letter,) = letters
    assert (letter.reason, letter.origin) == ("delivery-limit", queue.name)
    assert letter.message.headers == {"tenant": "acme"}
    assert set(others) <= set(killer.handled), f"never handled: {sorted(set(others) - set(killer.handled))}"
    assert killer.deaths <= limit + 1
    return killer


@guarantee("G8", needs=("backstop", "fair_counts", "kill", "processes"))
async def test_a_killer_is_a_dead_letter_at_last(stage: Stage) -> None:
    """A process dies each time it handles one message: after so many deliveries the broker gives that one up, and it
    alone; its neighbours, held by the same processes, are handled."""
    queue, limit = stage.declare_queue(str), stage.harness.backstop_limit
    neighbours = [f"n{n}" for n in range(12)]
    async with stage.bus(channels={queue.name: stage.harness.backstop(limit)}) as bus:
        for body in [*neighbours[:4], POISON, *neighbours[4:]]:
            await bus.send(queue, body, headers={"tenant": "acme"})
        killer = await killed(stage, bus, queue, POISON, neighbours)
    stage.record(f"a killer was a dead letter after {killer.deaths} deaths at a delivery limit of {limit}")


@guarantee("G8", needs=("backstop", "fair_counts", "kill", "processes"))
async def test_a_killer_on_an_ordered_channel_is_a_dead_letter_alone(stage: Stage) -> None:
    """Other keys go on, and after it what waited behind it under its own key, in order."""
    queue, limit = stage.declare_queue(str, ordered=True), stage.harness.backstop_limit
    key = ["k0", "k1", POISON, "k2", "k3", "k4"]
    neighbours = [f"{key}{n}" for n in range(3) for key in "abcd"]
    async with stage.bus(channels={queue.name: stage.harness.backstop(limit)}) as bus:
        for body in [*neighbours[:6], *key, *neighbours[6:]]:
            await bus.send(queue, body, key="k" if body in key else body[0], headers={"tenant": "acme"})
        key.remove(POISON)
        killer = await killed(stage, bus, queue, POISON, [*key, *neighbours])
    for first in ("a", "b", "c", "d", "k"):
        of_key = [body for body in dict.fromkeys(killer.handled) if body.startswith(first)]
        assert of_key == sorted(of_key), f"out of order: {of_key}"
    stage.record(f"a killer with a key was a dead letter after {killer.deaths} deaths at a delivery limit of {limit}")


@guarantee("G8", needs=("backstop", "fair_counts", "kill", "processes"))
async def test_a_killer_that_waited_is_a_dead_letter_at_last(stage: Stage) -> None:
    """It fails, waits for its next attempt, and then kills its process each time: what waits beside it, and in the
    queue, is handled."""
    queue, limit = stage.declare_queue(str), stage.harness.backstop_limit
    neighbours = [f"n{n}" for n in range(12)]
    async with stage.bus(channels={queue.name: stage.harness.backstop(limit)}) as bus:
        for body in neighbours[:6]:
            await bus.send(queue, body, headers={"tenant": "acme"}, delay=0.2)
        for body in [SLOW_POISON, *neighbours[6:]]:
            await bus.send(queue, body, headers={"tenant": "acme"})
        killer = await killed(stage, bus, queue, SLOW_POISON, neighbours)
    stage.record(f"a killer that waited was a dead letter after {killer.deaths} deaths at a delivery limit of {limit}")


@guarantee("G8", needs=("backstop", "counts_shutdowns"))
async def test_what_comes_too_often_is_a_dead_letter(stage: Stage) -> None:
    """A message that was delivered more often than its channel allows lies where its dead letters are, whole, and says
    why. A handler was cancelled each time."""
    queue, limit = stage.declare_queue(str), stage.harness.backstop_limit
    channels = {queue.name: stage.harness.backstop(limit)}
    letters: list[DeadLetter] = []
    starts = 0

    def service() -> Service:
        made = Service("orders", grace=0.05)

        @made.handler(queue)
        async def handle(body: str) -> None:
            nonlocal starts
            starts += 1
            await asyncio.Event().wait()

        return made

    async with stage.bus(channels=channels) as client:
        id = await client.send(queue, "x", headers={"tenant": "acme"})

        async def started_or_dead(number: int) -> bool:
            letters[:] = [letter async for letter in client.dead_letters(queue)] if number >= limit else []
            return starts > number or bool(letters)

        for number in range(3 * limit):
            async with stage.bus(service(), channels=channels):
                await eventually(partial(started_or_dead, number), stage.recovery, lambda: f"handled {starts} times")
            if letters:
                break
    assert [letter.message.id for letter in letters] == [id], f"handled {starts} times"
    (letter,) = letters
    assert (letter.message.body, letter.message.headers) == (b"x", {"tenant": "acme"})
    assert (letter.reason, letter.origin) == ("delivery-limit", queue.name)
    stage.record(f"given up after {starts} deliveries at a delivery limit of {limit}")


@guarantee("G8", needs=("backstop",))
async def test_rolling_restarts_make_no_dead_letter(stage: Stage) -> None:
    """Twenty processes are shut down while they handle a message: it is handled by the next, and no dead letter."""
    queue = stage.declare_queue(str)
    starts = 0
    done = asyncio.Event()

    def service(*, last: bool) -> Service:
        made = Service("orders", grace=0.05)

        @made.handler(queue)
        async def handle(body: str) -> None:
            nonlocal starts
            starts += 1
            if not last:
                await asyncio.Event().wait()
            done.set()

        return made

    async def until(number: int) -> None:
        await eventually(lambda: starts >= number, stage.recovery, lambda: f"handled {starts} of {number} times")

    async with stage.bus() as client:
        await client.send(queue, "x")
        for number in range(20):
            async with stage.bus(service(last=False)):
                await stage.within(until(number + 1), f"restart {number}")
        async with stage.bus(service(last=True)):
            await stage.within(done.wait(), "the last process")
        assert [letter async for letter in client.dead_letters(queue)] == []
