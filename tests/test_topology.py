"""Who makes channels: create, verify and off; and what happens to a channel that is not there."""

import asyncio
from collections.abc import Sequence

import pytest
from memory_like import Tea
from waiting import came, until

import unimsg
from unimsg import Queue, Service, Settings, Topic, TopologyError, Unroutable, registry
from unimsg.adapter import Address, Difference, Kind, Operations, Wanted
from unimsg.config import Topology
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryOperations, MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("topology.numbers", int)
events = Topic("topology.events", int)


def under(topology: Topology) -> Settings:
    return Settings(url="memory://", topology=topology)


def handling(channel: Queue[int] | Topic[int], got: list[int]) -> Service[None]:
    service = Service("shop")

    async def handle(body: int) -> None:
        got.append(body)

    if isinstance(channel, Queue):
        service.handler(channel)(handle)
    else:
        service.handler(channel)(handle)
    return service


async def make_dead(name: str) -> None:
    """The dead-letter queue of a queue or subscription."""
    await make(f"{name}..dead", Kind.QUEUE)


async def make(channel: str, kind: Kind, subscription: str | None = None, partitions: int = 0) -> None:
    await MemoryAdapter().ensure(Address(channel, kind, subscription, partitions), Wanted(), timeout=1)


# -- create


async def test_by_default_whoever_uses_a_channel_first_makes_it() -> None:
    got: list[int] = []
    async with unimsg.connect(url="memory://") as client:
        await client.send(numbers, 1)
        await client.publish(events, 0)  # nobody subscribed yet
        async with unimsg.connect(handling(numbers, got), url="memory://"):
            await came(got, [1])
        async with unimsg.connect(handling(events, got), url="memory://"):
            await client.publish(events, 2)
            await came(got, [1, 2])


async def test_a_channel_is_made_once_in_a_process() -> None:
    Tea.forget()
    registry.register("tea", Tea)
    try:
        async with unimsg.connect(handling(numbers, []), url="tea://") as bus:
            for number in range(5):
                await bus.send(numbers, number)
            for number in range(5):
                await bus.publish(events, number)
    finally:
        registry.register("tea", None)
    assert [address.name for address, _ in Tea.ensured] == [
        "topology.numbers",
        "topology.numbers..dead",
        "topology.events",
    ]


async def test_a_channel_that_is_there_and_differs_is_an_error_that_says_how() -> None:
    await make("topology.ordered", Kind.QUEUE, partitions=3)
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(TopologyError, match=r"topology\.ordered exists with 3 partitions, not 8: declare it"):
            await bus.send(Queue("topology.ordered", int, ordered=True), 1, key="k")


# -- verify


@pytest.mark.parametrize(
    ("channel", "says"),
    [
        (
            numbers,
            r"memory: topology\.numbers is not as declared .*: \+ queue topology\.numbers: missing; create it, or",
        ),
        (events, r"memory: topology\.events\.\.shop is not as declared .*\+ topic topology\.events\.\.shop: missing"),
    ],
    ids=["queue", "topic"],
)
async def test_verify_finds_a_missing_channel_of_a_handler_at_the_start_and_makes_nothing(
    channel: Queue[int] | Topic[int], says: str
) -> None:
    entered = False
    await make_dead("topology.numbers")
    await make_dead("topology.events..shop")
    with pytest.raises(TopologyError, match=says):
        async with unimsg.connect(handling(channel, []), settings=under("verify")):
            entered = True
    assert not entered
    assert [name for name in MemoryBroker.current().queues if not name.endswith("..dead")] == []
    assert MemoryBroker.current().topics == {}


async def test_verify_finds_a_missing_dead_letter_queue_of_a_handler_at_the_start() -> None:
    await make("topology.numbers", Kind.QUEUE)
    with pytest.raises(TopologyError, match=r"\+ queue topology\.numbers\.\.dead: missing"):
        async with unimsg.connect(handling(numbers, []), settings=under("verify")):
            pass
    assert list(MemoryBroker.current().queues) == ["topology.numbers"]


async def test_verify_finds_a_missing_channel_of_a_sender_at_its_first_send() -> None:
    async with unimsg.connect(settings=under("verify")) as bus:
        for _ in range(2):
            with pytest.raises(TopologyError, match=r"topology\.numbers: missing"):
                await bus.send(numbers, 1)
        with pytest.raises(TopologyError, match=r"topology\.events: missing"):
            await bus.publish(events, 1)
        await make("topology.numbers", Kind.QUEUE)
        await bus.send(numbers, 1)  # it is looked for again
    assert MemoryBroker.current().queues["topology.numbers"].waiting == 1


async def test_verify_finds_a_channel_that_differs() -> None:
    await make("topology.ordered", Kind.QUEUE, partitions=3)
    await make_dead("topology.ordered")
    channel = Queue("topology.ordered", int, ordered=True)
    with pytest.raises(TopologyError, match=r"~ queue topology\.ordered partitions: 3, wanted 8"):
        async with unimsg.connect(handling(channel, []), settings=under("verify")):
            pass
    same = Queue("topology.ordered", int, ordered=True, options=[MemoryOptions(partitions=3)])
    async with unimsg.connect(handling(same, []), settings=under("verify")) as bus:
        await bus.send(same, 1, key="k")


async def test_verify_is_content_with_what_is_there() -> None:
    got: list[int] = []
    await make("topology.events", Kind.TOPIC, "shop")
    await make_dead("topology.events..shop")
    async with unimsg.connect(handling(events, got), settings=under("verify")) as bus:
        await bus.publish(events, 1)
        await came(got, [1])


async def test_one_missing_channel_stops_all_handlers() -> None:
    got: list[int] = []
    await make("topology.numbers", Kind.QUEUE)
    await make_dead("topology.numbers")
    async with unimsg.connect(settings=under("verify")) as client:
        await client.send(numbers, 1)
    service = handling(numbers, got)
    service.handler(Queue("topology.missing", int))(print_it)
    with pytest.raises(TopologyError, match=r"topology\.missing"):
        async with unimsg.connect(service, settings=under("verify")):
            pass
    await asyncio.sleep(0)
    assert len(got) + MemoryBroker.current().queues["topology.numbers"].length == 1, (
        "handled to its end, or still there"
    )


async def print_it(body: int) -> None:
    print(body)


async def test_health_tells_of_a_channel_that_was_deleted_until_it_is_there_again() -> None:
    await make("topology.numbers", Kind.QUEUE)
    await make_dead("topology.numbers")
    async with unimsg.connect(handling(numbers, []), settings=under("verify")) as bus:
        assert (await bus.health()).ready
        MemoryBroker.current().delete("topology.numbers")
        problems: list[str] = []

        async def look() -> None:
            problems[:] = (await bus.health()).problems

        told = "topology.numbers: its channel was deleted, and opening it again fails"
        async with asyncio.timeout(5):
            while not any(told in text for text in problems):  # the broker's own word may come first
                await look()
                await asyncio.sleep(0.01)
        assert not (await bus.health()).ready
        await make("topology.numbers", Kind.QUEUE)
        while problems:
            await asyncio.wait_for(look(), 1)
            await asyncio.sleep(0.01)
        assert (await bus.health()).ready


# -- off


class Watched(MemoryAdapter):
    """Fails the test if somebody makes a channel or looks at one."""

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        raise AssertionError(f"{address} was made")

    def operations(self) -> "WatchedOperations":
        return WatchedOperations()


class WatchedOperations(MemoryOperations, Operations):
    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        raise AssertionError(f"{address} was looked at")


@pytest.fixture
def off() -> Settings:
    return Settings(url="watched://", topology="off")


async def test_off_makes_nothing_and_looks_at_nothing(off: Settings) -> None:
    got: list[int] = []
    await make("topology.numbers", Kind.QUEUE)
    await make("topology.events", Kind.TOPIC)
    registry.register("watched", Watched)
    try:
        async with unimsg.connect(handling(numbers, got), settings=off) as bus:
            await bus.send(numbers, 1)
            await bus.publish(events, 2)
            await came(got, [1])
            with pytest.raises(Unroutable, match=r"topology\.missing does not exist"):
                await bus.send(Queue("topology.missing", int), 1)
            with pytest.raises(Unroutable, match=r"topology\.nowhere does not exist"):
                await bus.publish(Topic("topology.nowhere", int), 1)
    finally:
        registry.register("watched", None)


async def test_a_handler_of_a_channel_that_is_not_there_is_an_error_at_the_start_that_users_know(off: Settings) -> None:
    registry.register("watched", Watched)
    try:
        with pytest.raises(TopologyError, match=r"topology\.numbers .*does not exist"):
            async with unimsg.connect(handling(numbers, []), settings=off):
                pass
    finally:
        registry.register("watched", None)


async def test_a_handler_whose_channel_appears_later_begins_then() -> None:
    got: list[int] = []
    await make("topology.numbers", Kind.QUEUE)
    async with unimsg.connect(handling(numbers, got), settings=under("off")) as bus:
        MemoryBroker.current().delete("topology.numbers")
        await make("topology.numbers", Kind.QUEUE)
        await until(lambda: MemoryBroker.current().queues["topology.numbers"].receivers, "a receiver", within=4)
        await bus.send(numbers, 7)
        await came(got, [7])
