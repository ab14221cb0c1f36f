"""What may kill its process, where it cannot be held alone: on an ordered channel, and come from a room."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from policies import Held, letters
from waiting import until

import unimsg
from unimsg import Context, Queue, Retry, Service
from unimsg._suspects import turn_of
from unimsg.adapter import Delivery
from unimsg.memory import MemoryBroker, MemoryReceiver

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("killers.numbers", int)
ordered = Queue("killers.ordered", int, ordered=True)
LIMIT = 5


def came(queue: str, deliveries: Counter[int]) -> None:
    """Says of what waits in a queue how often it was delivered before."""
    for lane in MemoryBroker.current().queues[queue]._lanes.values():
        for entry in lane.waiting:
            entry.deliveries = deliveries[int(entry.wire.body)]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers say what will be given up if it comes once more."""
    receive = MemoryReceiver.receive

    async def telling(receiver: MemoryReceiver) -> Sequence[Delivery]:
        deliveries = await receive(receiver)
        for delivery in deliveries:
            delivery.last_chance = (delivery.redelivered or 0) >= LIMIT
        return deliveries

    monkeypatch.setattr(MemoryReceiver, "receive", telling)


def test_whatever_has_its_turn_after_a_killer_has_it_before_it_the_next_time() -> None:
    names = [f"key-{n}" for n in range(50)]
    for deaths in range(2, 12):
        one, other = (sorted(names, key=lambda name: turn_of(name, count)) for count in (deaths, deaths + 1))
        assert (one == other[::-1]) is (deaths % 2 == 0)


@pytest.mark.usefixtures("limited")
async def test_on_its_last_chance_only_the_first_of_a_key_is_given_up() -> None:
    service, done = Service("shop", retry=Retry()), list[int]()

    @service.handler(ordered)
    async def handle(body: int) -> None:
        done.append(body)

    async with unimsg.connect(service, url="memory://"):
        pass
    async with unimsg.connect(url="memory://") as bus:
        for n in range(4):
            await bus.send(ordered, n, key="ann")
        await bus.send(ordered, 4, key="bob")
        came(ordered.name, Counter({0: LIMIT, 1: LIMIT, 2: LIMIT, 3: 0, 4: LIMIT - 1}))
        async with unimsg.connect(service, url="memory://"):
            await until(lambda: set(done) == {1, 2, 3, 4}, "all that waited")
            assert [(letter.message.body, letter.reason) for letter in await letters(bus, ordered)] == [
                (b"0", "delivery-limit")
            ]
    assert [body for body in done if body != 4] == [1, 2, 3]


@pytest.mark.parametrize("batches", [False, True], ids=["singly", "in batches"])
async def test_what_was_done_before_it_is_acknowledged_before_it_is_tried(*, batches: bool) -> None:
    """A handler that never waits would else take all with it."""
    service, held = Service("shop", retry=Retry()), list[int]()

    def handle(body: int) -> None:
        if body == 3:
            held.append(MemoryBroker.current().queues[ordered.name].length)

    if batches:

        @service.batch_handler(ordered, size=4, within=0.05)
        async def handle_all(bodies: Sequence[int]) -> None:
            for body in bodies:
                handle(body)
    else:

        @service.handler(ordered)
        async def handle_one(body: int) -> None:
            handle(body)

    async with unimsg.connect(service, url="memory://"):
        pass
    async with unimsg.connect(url="memory://") as bus:
        for n in range(5):
            await bus.send(ordered, n, key="ann")
        came(ordered.name, Counter(dict.fromkeys(range(4), 3)))
        async with unimsg.connect(service, url="memory://"):
            await until(lambda: held, "the last that came several times")
    assert held == [2]


async def test_what_comes_from_a_room_several_times_is_handled_with_no_other_beside_it(serve) -> None:  # type: ignore[no-untyped-def]
    url, now, together, done = serve("held", Held), set[int](), list[set[int]](), Counter[int]()
    service = Service("shop", retry=Retry(0.05))

    @service.handler(numbers, concurrency=10)
    async def handle(body: int, context: Context) -> None:
        if body == 0 and context.attempt == 1:
            raise ValueError
        now.add(body)
        try:
            if body == 0 and len(together) < LIMIT:
                await asyncio.sleep(0.005)
                together.append(set(now))
                MemoryBroker.current().cut()  # as if it took the process with it
            await asyncio.sleep(0.01)
        finally:
            now.discard(body)
        done[body] += 1

    async with unimsg.connect(service, url=url) as bus:
        for n in range(30):
            await bus.send(numbers, n, delay=0.06 if n % 2 else 0.0)
        await until(lambda: set(done) == set(range(30)), "all", within=10)
        await until(
            lambda: all(line.length == 0 for line in MemoryBroker.current().queues.values()), "all acknowledged"
        )
        assert (await bus.health()).ready
    assert all(others == {0} for others in together[2:]), together
    del done[0]
    assert max(done.values()) <= 3, done
