"""Handlers of batches: G8 and G5 as users see them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence

from unimsg import Context, Reject, Retry, Service
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

Item = tuple[str, int]


@guarantee("G8")
async def test_only_the_poison_of_a_batch_is_dead(stage: Stage) -> None:
    """One message of a batch fails: the others are done, it alone is tried again, and then a dead letter."""
    queue = stage.declare_queue(int)
    done: Counter[int] = Counter()
    tried: list[int] = []
    largest = 0
    service = Service("orders", grace=2.0, retry=Retry(0.2))

    @service.batch_handler(queue, size=8, within=0.3)
    async def handle(bodies: Sequence[int], context: Context) -> None:
        nonlocal largest
        assert [message.body for message in context.messages] == list(bodies)
        largest = max(largest, len(bodies))
        if 13 in bodies:
            if len(bodies) == 1:
                tried.append(context.attempt)
            raise RuntimeError("on purpose")
        if 17 in bodies and len(bodies) == 1:
            raise Reject("never")
        if 17 in bodies:
            raise RuntimeError("on purpose")
        done.update(bodies)

    async with stage.bus() as client, client.pipeline() as pipeline:
        for n in range(40):
            await pipeline.send(queue, n)
    async with stage.bus(service) as bus:
        dead: list[bytes] = []

        async def ended() -> bool:
            dead[:] = [letter.message.body async for letter in bus.dead_letters(queue)]
            return len(done) >= 38 and len(dead) >= 2

        await eventually(ended, stage.recovery, lambda: f"{len(done)} of 38 done, dead {dead}")
    assert sorted(dead) == [b"13", b"17"]
    assert done == Counter(n for n in range(40) if n not in (13, 17))
    assert tried == [1, 2]
    assert 1 < largest <= 8


@guarantee("G5")
async def test_batches_keep_the_order_of_a_key(stage: Stage) -> None:
    """Batches of several processes: per key in order, and a key in one batch at a time."""
    queue = stage.declare_queue(Item, key=lambda body: body[0])
    done: dict[str, list[int]] = defaultdict(list)
    running: set[str] = set()
    overlaps: set[str] = set()

    def service() -> Service:
        made = Service("orders", grace=5.0)

        @made.batch_handler(queue, size=10, within=0.05, concurrency=3)
        async def handle(bodies: Sequence[Item], context: Context) -> None:
            keys = {name for name, _ in bodies}
            overlaps.update(keys & running)
            running.update(keys)
            await asyncio.sleep(0.002)
            for name, n in bodies:
                done[name].append(n)
            running.difference_update(keys)

        return made

    async with stage.bus() as client, client.pipeline() as pipeline:
        for n in range(30):
            for name in "abcdef":
                await pipeline.send(queue, (name, n))
    async with stage.bus(service()), stage.bus(service()):
        await eventually(
            lambda: sum(len(set(numbers)) for numbers in done.values()) >= 180,
            2 * stage.recovery,
            lambda: f"{sum(map(len, done.values()))} of 180 were handled",
        )
    assert not overlaps
    assert all(numbers == list(range(30)) for numbers in done.values()), dict(done)
