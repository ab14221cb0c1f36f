"""A message that came several times may kill its process: it is handled alone, and everything else goes on after it."""

import asyncio
import random
from typing import TYPE_CHECKING, cast

import pytest
from policies import held
from waiting import until

import unimsg
from unimsg import Context, Queue, Retry, Service
from unimsg._pace import Pace
from unimsg.adapter import Address, Delivery, Epoch, Kind, Wire
from unimsg.memory import MemoryBroker

if TYPE_CHECKING:
    from unimsg._intake import Intake
    from unimsg.adapter import Operations

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("pace.numbers", int)
ordered = Queue("pace.ordered", int, ordered=True)


async def test_it_has_no_neighbour_while_it_is_handled_and_they_come_after_it() -> None:
    service, together, now = Service("shop", retry=Retry()), list[set[int]](), set[int]()
    came: dict[int, int] = {}
    done: list[int] = []

    @service.handler(numbers, concurrency=10)
    async def handle(body: int) -> None:
        came[body] = came.get(body, 0) + 1
        now.add(body)
        try:
            if body == 0 and came[body] <= 2:
                MemoryBroker.current().cut()  # as if it took the process with it
            await asyncio.sleep(0.01)
            if body == 0 and came[body] == 3:
                together.append(set(now))
        finally:
            now.discard(body)
        done.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 0)
        await until(lambda: came.get(0) == 3, "its third delivery")
        for number in range(1, 50):
            await bus.send(numbers, number)
        await until(lambda: set(done) == set(range(50)), "all others, after it")
        await until(lambda: held("pace.numbers") == 0, "all acknowledged")
        assert await bus.health() == unimsg.Health(live=True, ready=True, problems=[])
    assert together == [{0}]


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_one_that_fails_after_it_came_often_keeps_no_other_from_being_handled(channel: Queue[int]) -> None:
    service, got, go = Service("shop", retry=Retry(30)), list[int](), asyncio.Event()

    @service.handler(channel)
    async def handle(body: int) -> None:
        got.append(body)
        if body == 0:
            if got.count(0) < 3:
                MemoryBroker.current().cut()
                await go.wait()
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(channel, 0, key="ann")
        await until(lambda: got, "the first delivery")
        go.set()
        await until(lambda: got.count(0) == 3, "the third")
        await bus.send(channel, 1, key="bob")
        await until(lambda: 1 in got, "another", within=2)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_however_often_connections_are_lost_all_are_done_and_keys_keep_their_order(
    either: str, channel: Queue[int], seed: int
) -> None:
    pace = random.Random(seed)
    first: dict[str, list[int]] = {}
    done: set[int] = set()
    service = Service("shop", retry=Retry(0.002, 0.002, 0.002), grace=0.05)

    @service.handler(channel, concurrency=pace.choice([1, 4]))
    async def handle(body: int, context: Context) -> None:
        if body not in done:
            first.setdefault(context.message.key or "", []).append(body)
        await asyncio.sleep(pace.choice([0, 0.001, 0.003]))
        if pace.random() < 0.05 and not context.last_attempt:
            raise ValueError
        done.add(body)

    async with unimsg.connect(service, url=either) as bus:
        for number in range(80):
            await bus.send(channel, number, key="abc"[number % 3])
            if pace.random() < 0.15:
                MemoryBroker.current().cut()
            if pace.random() < 0.3:
                await asyncio.sleep(0.002)
        await until(lambda: done == set(range(80)), "all", within=10)
        await until(lambda: held(channel.name) == 0, "all acknowledged")
        assert (await bus.health()).ready
    if channel.ordered:
        for key, bodies in first.items():
            once = list(dict.fromkeys(bodies))
            assert once == sorted(once), f"first deliveries of {key}"


async def test_handlers_are_never_more_than_the_concurrency_while_the_pace_changes() -> None:
    service, now, most, done = Service("shop", retry=Retry()), 0, 0, set[int]()

    @service.handler(numbers, concurrency=3)
    async def handle(body: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.002)
        finally:
            now -= 1
        done.add(body)

    settings = unimsg.Settings(url="memory://", handlers={"pace.numbers": {"prefetch": 6}})
    async with unimsg.connect(service, settings=settings) as bus:
        for number in range(100):
            await bus.send(numbers, number)
            if number % 9 == 0:
                MemoryBroker.current().cut()
                await asyncio.sleep(0.003)
        await until(lambda: done == set(range(100)), "all", within=10)
    assert most <= 3


@pytest.mark.parametrize("turns", range(0, 24, 3))
async def test_the_service_ends_in_order_while_the_pace_changes(turns: int) -> None:
    service, came = Service("shop", retry=Retry(), grace=0.05), list[int]()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        came.append(body)
        if len(came) < 3:
            MemoryBroker.current().cut()
        await asyncio.sleep(0.01)

    before = asyncio.all_tasks()
    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(10):
            await bus.send(numbers, number)
        await until(lambda: len(came) >= 3, "the third delivery")
        for _ in range(turns):
            await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() - before if not task.done()] == []
    line = MemoryBroker.current().queues["pace.numbers"]
    assert line.waiting == line.length, "nobody has any of them"
    assert line.length + len(set(came)) >= 10


class SlowIntake:
    """Changes its receiver when it is let."""

    address = Address("pace.numbers", Kind.QUEUE)
    prefetch = 0

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.reopened = 0

    async def replace(self, prefetch: int) -> None:
        await self.go.wait()

    async def reopen(self, prefetch: int, empty: object) -> None:
        self.reopened += 1


class Waiting:
    """Of `Operations`, what says that earlier processes left something."""

    async def backlog(self, address: Address, *, timeout: float) -> int:
        return 1


async def test_a_suspicious_one_is_not_forgotten_for_what_comes_after_it_while_the_pace_changes() -> None:
    intake, started = SlowIntake(), list[bool]()

    async def empty() -> None: ...

    pace = Pace(
        "shop",
        cast("Intake", intake),
        20,
        empty=empty,
        holds=lambda _: False,
        go_on=lambda: started.append(pace.paused),
    )  # stands in for one
    await pace.begin(cast("Operations", Waiting()))  # stands in for it
    fresh, often = (Delivery(Wire("1", b""), Epoch(), None, redelivered=count) for count in (0, 2))
    pace.saw([fresh])  # it speeds up
    await asyncio.sleep(0)
    pace.saw([often])
    pace.saw([fresh])
    assert pace.paused
    intake.go.set()
    await until(lambda: started, "the change")
    assert intake.reopened == 1, "the suspicious one has neighbours"
    await pace.stop()


@pytest.mark.parametrize("turns", range(8))
async def test_what_an_earlier_process_left_is_handled_once_however_fast(turns: int) -> None:
    """The receiver that looks at it alone is replaced while its acknowledgement is still on its way."""
    service, got = Service("shop"), list[int]()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        got.append(body)
        for _ in range(turns):  # of the event loop
            await asyncio.sleep(0)

    async with unimsg.connect(url="memory://") as bus:
        await bus.send(numbers, 1)
    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 2)
        await until(lambda: {1, 2} <= set(got), "both")
    assert (sorted(got), held("pace.numbers")) == ([1, 2], 0)
