"""Messages that kill whoever handles them: the end of G8."""

import asyncio
from functools import partial

from unimsg import DeadLetter, Service
from unimsg_contracts.killer import POISON, Killer
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

LIMIT = 5


@guarantee("G8", needs=("backstop", "fair_counts", "kill", "processes"))
async def test_a_killer_is_a_dead_letter_at_last(stage: Stage) -> None:
    """A process dies each time it handles one message: after so many deliveries the broker gives that one up, and it
    alone; its neighbours, held by the same processes, are handled."""
    queue = stage.declare_queue(str)
    table = stage.harness.backstop(LIMIT)
    settings = {
        "brokers": {"default": {"url": stage.harness.url, **stage.harness.options}},
        "channels": {queue.name: table},
    }
    killer = Killer(settings, queue.name)
    neighbours = [f"n{n}" for n in range(12)]
    async with stage.bus(channels={queue.name: table}) as bus:
        for body in [*neighbours[:4], POISON, *neighbours[4:]]:
            await bus.send(queue, body, headers={"tenant": "acme"})
        letters: list[DeadLetter] = []

        async def until_dead() -> None:
            while not letters:
                letters.extend([letter async for letter in bus.dead_letters(queue)])
                await asyncio.sleep(0.2)

        dead = asyncio.create_task(until_dead())
        life: asyncio.Task[None] | None = None
        try:
            while killer.deaths < 2 * LIMIT and not (dead.done() and set(neighbours) <= set(killer.handled)):
                life = life or asyncio.create_task(killer.run_once())
                await asyncio.wait([life], timeout=0.1)
                if life.done():
                    life.result()
                    life = None
        finally:
            ending = [task for task in (dead, life) if task is not None]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        letters = [letter async for letter in bus.dead_letters(queue)]
    assert [letter.message.body for letter in letters] == [POISON.encode()], f"{killer.deaths} deaths"
    (letter,) = letters
    assert (letter.reason, letter.origin) == ("delivery-limit", queue.name)
    assert letter.message.headers == {"tenant": "acme"}
    assert set(neighbours) <= set(killer.handled)
    assert killer.deaths <= LIMIT + 1
    stage.record(f"a killer was a dead letter after {killer.deaths} deaths at a delivery limit of {LIMIT}")


@guarantee("G8", needs=("backstop", "counts_shutdowns"))
async def test_what_comes_too_often_is_a_dead_letter(stage: Stage) -> None:
    """A message that was delivered more often than its channel allows lies where its dead letters are, whole, and says
    why. A handler was cancelled each time."""
    queue = stage.declare_queue(str)
    channels = {queue.name: stage.harness.backstop(LIMIT)}
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
            letters[:] = [letter async for letter in client.dead_letters(queue)] if number >= LIMIT else []
            return starts > number or bool(letters)

        for number in range(3 * LIMIT):
            async with stage.bus(service(), channels=channels):
                await eventually(partial(started_or_dead, number), stage.recovery, lambda: f"handled {starts} times")
            if letters:
                break
    assert [letter.message.id for letter in letters] == [id], f"handled {starts} times"
    (letter,) = letters
    assert (letter.message.body, letter.message.headers) == (b"x", {"tenant": "acme"})
    assert (letter.reason, letter.origin) == ("delivery-limit", queue.name)
    stage.record(f"given up after {starts} deliveries at a delivery limit of {LIMIT}")


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
