"""Retries as users see them: never before the delay, hardly later, nobody else waits, and what waits is never lost."""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic, time

import pytest
from policies import Held, held, waiting
from waiting import came, until

import unimsg
from unimsg import Context, Queue, Retry, RetryAfter, Service, Topic
from unimsg._waiting import ROOMS, due_of
from unimsg._waiting import waiting as made_to_wait
from unimsg.adapter import Adapter, Address, Kind, Wanted, Wire
from unimsg.memory import MemoryAdapter, MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("flow.numbers", int)
ordered = Queue("flow.ordered", int, ordered=True)
keyed = Topic("flow.keyed", int, ordered=True)
ROOM = "flow.numbers..retry"


@pytest.fixture
def url(serve: Callable[[str, type[Adapter]], str]) -> str:
    """Of a broker for which the core holds what waits."""
    return serve("held", Held)


def once(delay: float, tried: list[int], done: dict[int, float], failed: dict[int, float]) -> Service[None]:
    """Each message fails once."""
    service = Service("shop", retry=Retry(delay))

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        tried.append(body)
        if context.attempt == 1 and body >= 0:
            failed[body] = monotonic()
            raise ValueError
        done[body] = monotonic()

    return service


# -- time


async def test_of_300_that_wait_each_comes_in_its_time(either: str) -> None:
    tried: list[int] = []
    done: dict[int, float] = {}
    failed: dict[int, float] = {}
    async with unimsg.connect(once(1, tried, done, failed), url=either) as bus:
        async with bus.pipeline() as pipeline:
            for number in range(300):
                await pipeline.send(numbers, number)
        await until(lambda: len(done) == 300, "all")
    waits = [done[number] - failed[number] for number in range(300)]
    assert min(waits) >= 1
    assert max(waits) < 3
    assert max(Counter(tried).values()) == 2


async def test_300_that_wait_block_nobody(either: str) -> None:
    done: dict[int, float] = {}
    failed: dict[int, float] = {}
    async with unimsg.connect(once(60, [], done, failed), url=either) as bus:
        async with bus.pipeline() as pipeline:
            for number in range(300):
                await pipeline.send(numbers, number)
        await until(lambda: len(failed) == 300 and held("flow.numbers") == 0, "300 that wait")
        for number in range(1, 51):
            await bus.send(numbers, -number)
        await until(lambda: len(done) == 50, "50 that do not fail")
    assert max(done) == -1


async def test_one_with_a_short_wait_overtakes_one_with_a_long_one(either: str) -> None:
    done: list[int] = []
    service = Service("shop", retry=Retry(0.05, 30, 30))

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        if context.attempt == 1:
            if body < 10:
                raise RetryAfter(30)
            raise ValueError
        done.append(body)

    async with unimsg.connect(service, url=either) as bus:
        for number in range(20):
            await bus.send(numbers, number)
        await came(done, range(10, 20), within=2)


async def test_a_handler_may_say_when_it_is_to_be_tried_again(either: str) -> None:
    when: list[float] = []
    service = Service("shop", retry=Retry(0.3, 30))

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        when.append(monotonic())
        if context.attempt < 3:
            raise RetryAfter(0.1 if context.attempt == 1 else 0.3)

    async with unimsg.connect(service, url=either) as bus:
        await bus.send(numbers, 7)
        await until(lambda: len(when) == 3, "three attempts")
    assert 0.1 <= when[1] - when[0] < 3
    assert 0.3 <= when[2] - when[1] < 3


# -- what waits is never lost


async def test_at_the_end_what_waits_in_a_room_goes_back_at_once_and_the_next_process_goes_on(url: str) -> None:
    tried: list[int] = []
    done: dict[int, float] = {}
    service = once(1, tried, done, {})
    async with unimsg.connect(service, url=url) as bus:
        for number in range(30):
            await bus.send(numbers, number)
        await until(lambda: held(ROOM) == 30, "30 that wait")
        begin = monotonic()
    assert monotonic() - begin < 3
    assert len(waiting(ROOM)) == 30
    assert done == {}
    async with unimsg.connect(service, url=url):
        await until(lambda: len(done) == 30, "all")
        await until(lambda: held(ROOM) == 0, "all acknowledged")
    assert max(Counter(tried).values()) == 2


async def test_restarts_while_it_waits_do_not_add_up(url: str) -> None:
    """Each gives back what waits, and a broker that gives up what it delivered too often counts that."""
    service = Service("shop", retry=Retry(3600))

    @service.handler(numbers)
    async def handle(body: int) -> None:
        raise ValueError

    def room() -> str | None:
        """Where it waits in a receiver's hands."""
        return next((ROOM + end for end in ROOMS.values() if held(ROOM + end) and not waiting(ROOM + end)), None)

    async with unimsg.connect(service, url=url) as bus:
        await bus.send(numbers, 1)
        await until(lambda: room() is not None, "its wait")
        assert room() == ROOM + ".1h", "the room of just this delay"
    for _ in range(8):
        found = next(ROOM + end for end in ROOMS.values() if held(ROOM + end))
        receiver = await MemoryAdapter().receiver(Address(found, Kind.QUEUE), prefetch=9, timeout=1)
        (delivery,) = await asyncio.wait_for(receiver.receive(), 5)
        await receiver.aclose()
        assert (delivery.redelivered or 0) < 6
        async with unimsg.connect(service, url=url):
            await until(lambda: room() is not None, "its wait going on")
    assert (due_of(delivery.wire) - time()) == pytest.approx(3600, abs=60)
    assert delivery.wire.headers["unimsg-attempt"] == "2"


async def test_a_lost_connection_costs_nothing_that_waits_and_counts_nothing(url: str) -> None:
    tried: list[int] = []
    done: dict[int, float] = {}
    async with unimsg.connect(once(1, tried, done, {}), url=url) as bus:
        for number in range(30):
            await bus.send(numbers, number)
        await until(lambda: held(ROOM) == 30 and held("flow.numbers") == 0, "30 that wait, their originals settled")
        for _ in range(3):
            MemoryBroker.current().cut()
            await asyncio.sleep(0.01)
        await until(lambda: len(done) == 30, "all")
        await until(lambda: held(ROOM) == 0, "all acknowledged")
    assert max(Counter(tried).values()) == 2


async def test_two_processes_share_what_waits(url: str) -> None:
    tried: list[int] = []
    done: dict[int, float] = {}
    service = once(0.2, tried, done, {})
    async with unimsg.connect(service, url=url) as bus, unimsg.connect(service, url=url):
        for number in range(100):
            await bus.send(numbers, number)
        await until(lambda: len(done) == 100, "all")
    assert max(Counter(tried).values()) == 2


async def test_a_room_that_is_deleted_is_made_again(url: str) -> None:
    done: dict[int, float] = {}
    async with unimsg.connect(once(0.05, [], done, {}), url=url) as bus:
        MemoryBroker.current().delete(ROOM)
        await until(lambda: held(ROOM) == 0 and ROOM in MemoryBroker.current().queues, "the room")
        await bus.send(numbers, 7)
        await until(lambda: 7 in done, "a retry")


@pytest.mark.parametrize(("delay", "rooms"), [(1, [""]), (59, [""]), (400, ["", ".5m"]), (90000 - 3600, ["", ".24h"])])
async def test_the_rooms_of_a_policy_are_made_at_the_start(url: str, delay: float, rooms: list[str]) -> None:
    async with unimsg.connect(once(delay, [], {}, {}), url=url):
        made = [name.removeprefix(ROOM) for name in MemoryBroker.current().queues if name.startswith(ROOM)]
    assert sorted(made) == rooms


async def test_a_room_that_others_made_is_found(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimsg._room.LOOK_EVERY", 0.02)
    monkeypatch.setattr("unimsg._room.LONG_ROOMS_EACH", 1)
    done: dict[int, float] = {}
    async with unimsg.connect(once(0.05, [], done, {}), url=url):
        room = Address(f"{ROOM}.1h", Kind.QUEUE)
        await MemoryAdapter().ensure(room, Wanted(), timeout=1)
        wire = made_to_wait(Wire("x", b"-7"), time() + 0.05, time() + 0.05)
        await MemoryAdapter().send(room, [wire], timeout=1)
        await until(lambda: -7 in done, "what waited there")


async def test_a_clock_that_is_set_forward_lets_go_what_is_due_by_then(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall's clock decides: other processes read it too. It is looked at each minute, and at each arrival."""
    done: dict[int, float] = {}
    async with unimsg.connect(once(30, [], done, {}), url=url) as bus:
        await bus.send(numbers, 1)
        await until(lambda: held(ROOM) == 1, "one that waits")

        class Ahead:
            @staticmethod
            def time() -> float:
                return time() + 31

        monkeypatch.setattr("unimsg._room.time", Ahead)
        monkeypatch.setattr("unimsg._consumer.time", Ahead)
        await bus.send(numbers, 2)
        await until(lambda: 1 in done, "it, without half a minute's wait")


async def test_a_clock_that_is_set_back_only_makes_it_wait_longer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: dict[int, float] = {}
    async with unimsg.connect(once(0.2, [], done, {}), url=url) as bus:
        await bus.send(numbers, 1)
        await until(lambda: held(ROOM) == 1, "one that waits")

        class Behind:
            @staticmethod
            def time() -> float:
                return time() - 0.3

        monkeypatch.setattr("unimsg._room.time", Behind)
        monkeypatch.setattr("unimsg._consumer.time", Behind)
        monkeypatch.setattr("unimsg._copies.time", Behind)
        await asyncio.sleep(0.3)
        assert done == {}
        await until(lambda: 1 in done, "it, in the end")


# -- in its place


async def test_an_ordered_one_holds_its_key_and_no_other(either: str) -> None:
    got: list[tuple[str | None, int, int]] = []
    service = Service("shop", retry=Retry(0.6, 0.1))

    async def handle(body: int, context: Context) -> None:
        got.append((context.message.key, body, context.attempt))
        if context.message.key == "ann" and body == 0:
            raise ValueError

    service.handler(ordered)(handle)
    async with unimsg.connect(service, url=either) as bus:
        for number in range(5):
            for key in ("ann", "bob", "eve"):
                await bus.send(ordered, number, key=key)
        await until(lambda: len(got) >= 11, "the others")
        assert [item for item in got if item[0] == "ann"] == [("ann", 0, 1)]
        await until(lambda: held("flow.ordered") == 0, "all acknowledged")
    assert [item[1:] for item in got if item[0] == "ann"] == [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (3, 1), (4, 1)]
    assert held("flow.ordered..dead") == 1


async def test_it_can_wait_long_and_still_the_service_ends_at_once(either: str) -> None:
    service, tried = Service("shop", retry=Retry(86400)), list[int]()

    async def handle(body: int) -> None:
        tried.append(body)
        raise ValueError

    service.handler(ordered)(handle)
    service.handler(keyed)(handle)
    async with unimsg.connect(service, url=either) as bus:
        await bus.send(ordered, 1, key="k")
        await bus.publish(keyed, 2, key="k")
        await until(lambda: len(tried) == 2, "both failures")
        begin = monotonic()
    assert monotonic() - begin < 3
    assert len(waiting("flow.ordered")) == 1
    assert MemoryBroker.current().topics["flow.keyed"]["shop"].waiting == 1


async def test_what_waits_in_the_room_of_an_ordered_subscription_is_not_released_but_goes_back_at_the_end(
    url: str,
) -> None:
    service, got = Service("shop", retry=Retry(1)), list[int]()

    @service.handler(keyed)
    async def handle(body: int) -> None:
        got.append(body)

    room = Address("flow.keyed..shop..retry", Kind.QUEUE, partitions=8)
    async with unimsg.connect(service, url=url):
        later = time() + 30
        wires = [made_to_wait(Wire(f"{n}", b"%d" % n, {}, "k"), later, later) for n in range(3)]
        await MemoryAdapter().send(room, wires, timeout=1)
        await asyncio.sleep(0.05)
    assert (got, [wire.id for wire in waiting(room.name)]) == ([], ["0", "1", "2"])
