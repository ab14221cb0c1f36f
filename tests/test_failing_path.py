"""The path of a message that fails, interrupted wherever it can be: twice at worst, never lost."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from policies import Held, held, waiting
from scripted import Scripted
from waiting import until

import unimsg
from unimsg import Context, Queue, Reject, Retry, Service
from unimsg.adapter import Adapter, Address, Epoch, Wire
from unimsg.errors import PublishError, PublishUnconfirmed, Refused
from unimsg.memory import MemoryAdapter, MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("path.numbers", int)
ordered = Queue("path.ordered", int, ordered=True)
CHANNELS = pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])


def everywhere(channel: Queue[int]) -> list[str]:
    """Ids of all that waits: in line, for a retry, as a dead letter."""
    places = [channel.name, f"{channel.name}..retry", f"{channel.name}..dead"]
    return [wire.id for place in places for wire in waiting(place)]


@pytest.mark.parametrize("turns", range(0, 30, 2))
@CHANNELS
async def test_cancelled_at_any_turn_of_the_loop_it_is_somewhere(
    channel: Queue[int], turns: int, serve: Callable[[str, type[Adapter]], str]
) -> None:
    service, failed = Service("shop", retry=Retry(0, 0.001), grace=0.02), asyncio.Event()

    @service.handler(channel)
    async def handle(body: int) -> None:
        failed.set()
        raise ValueError

    async def program() -> None:
        async with unimsg.connect(service, url=url) as bus:
            await bus.send(channel, 7, id="x", key="k")
            await asyncio.sleep(60)

    url = serve("held", Held)
    task = asyncio.create_task(program())
    await failed.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert set(everywhere(channel)) == {"x"}


@CHANNELS
async def test_a_process_that_dies_between_copy_and_acknowledgement_leaves_two_and_loses_none(
    channel: Queue[int], serve: Callable[[str, type[Adapter]], str]
) -> None:
    """Its end is a receiver that is closed with all that it had, after the copy was stored."""

    class Dying(MemoryAdapter):
        async def send(
            self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
        ) -> Sequence[PublishError | None]:
            outcome = await super().send(address, messages, timeout=timeout, delay=delay)
            if address.name.endswith("..dead"):
                MemoryBroker.current().cut()
                await asyncio.sleep(0.3)  # the confirmation comes too late
            return outcome

    service, tried = Service("shop", retry=Retry(), grace=0), list[int]()

    @service.handler(channel)
    async def handle(body: int) -> None:
        tried.append(body)
        raise Reject("no")

    connection = unimsg.connect(service, url=serve("dying", Dying))
    bus = await connection.__aenter__()
    await bus.send(channel, 7, id="x", key="k")
    await until(lambda: held(f"{channel.name}..dead"), "the copy")
    closing = asyncio.create_task(connection.__aexit__(None, None, None))
    await until(lambda: len(waiting(channel.name)) == 1, "the original, given back")
    closing.cancel()
    await asyncio.wait([closing])
    async with unimsg.connect(service, url="memory://"):
        await until(lambda: held(f"{channel.name}..dead") == 2, "its second copy")
        await until(lambda: held(channel.name) == 0, "the acknowledgement")


class Unsure(MemoryAdapter):
    """Stores the first copies and does not know it."""

    unsure: ClassVar[int] = 0

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        outcome = await super().send(address, messages, timeout=timeout, delay=delay)
        if address.name.endswith("..dead") and Unsure.unsure:
            Unsure.unsure -= 1
            return [PublishUnconfirmed("who knows", channel=address.name, message_id=wire.id) for wire in messages]
        return outcome


async def test_a_copy_that_was_not_confirmed_is_sent_again_and_the_original_stays_until_then(
    serve: Callable[[str, type[Adapter]], str],
) -> None:
    Unsure.unsure = 2
    service, tried = Service("shop", retry=Retry()), list[int]()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        tried.append(body)
        raise ValueError

    async with unimsg.connect(service, url=serve("unsure", Unsure)) as bus:
        await bus.send(numbers, 7, id="x")
        await until(lambda: held("path.numbers") == 0 and Unsure.unsure == 0, "the acknowledgement")
    assert (tried, everywhere(numbers)) == ([7], ["x"] * 3)


async def test_a_copy_in_flight_keeps_its_slot_only_and_a_draining_epoch_gets_its_settlement(
    serve: Callable[[str, type[Adapter]], str],
) -> None:
    go = asyncio.Event()

    class Slow(Scripted):
        async def send(
            self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
        ) -> Sequence[PublishError | None]:
            await go.wait()
            return await super().send(address, messages, timeout=timeout, delay=delay)

    Scripted.forget()
    service, got = Service("shop", retry=Retry()), list[str]()

    @service.handler(numbers, concurrency=2)
    async def handle(body: int, context: Context) -> None:
        got.append(context.message.id)
        if context.message.id == "bad":
            raise ValueError

    async with unimsg.connect(service, url=serve("slow", Slow)):
        [receiver] = Scripted.receivers
        epoch = Epoch()
        receiver.give("bad", "1", "2", epoch=epoch)
        await until(lambda: set(receiver.acked) == {"1", "2"}, "the others")
        epoch.drain()
        await asyncio.sleep(0.02)
        assert receiver.released == [], "its copy is on its way"
        go.set()
        await until(lambda: "bad" in receiver.acked, "its settlement")
    assert receiver.wrong == []


@pytest.mark.parametrize("seed", range(12))
@CHANNELS
async def test_whatever_is_refused_late_or_revoked_each_delivery_is_settled_once_and_no_message_is_lost(
    channel: Queue[int], seed: int, serve: Callable[[str, type[Adapter]], str]
) -> None:
    pace = random.Random(seed)
    stored: set[str] = set()

    class Moody(Scripted):
        async def send(
            self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
        ) -> Sequence[PublishError | None]:
            await asyncio.sleep(pace.choice([0, 0.001, 0.02]))
            if pace.random() < 0.3:
                return [Refused("no", channel=address.name, message_id=wire.id) for wire in messages]
            stored.update(wire.id for wire in messages)
            return [None] * len(messages)

    Scripted.forget()
    service = Service("shop", grace=pace.choice([0, 0.01, 0.05]), retry=Retry(0.005, 0.005))
    epoch_of: dict[str, Epoch] = {}
    done: set[str] = set()
    started_late: list[str] = []

    @service.handler(channel, concurrency=pace.choice([1, 3]), timeout=0.03)
    async def handle(body: int, context: Context) -> None:
        id = context.message.id
        if epoch_of[id].draining:
            started_late.append(id)
        await asyncio.sleep(pace.choice([0, 0, 0.001, 0.004, 0.02, 1]))
        if pace.random() < 0.4:
            raise ValueError
        done.add(id)

    async with unimsg.connect(service, url=serve("moody", Moody)):
        [receiver] = Scripted.receivers
        epochs = [Epoch()]
        for number in range(120):
            epoch_of[f"{number}"] = pace.choice(epochs)
            receiver.give(f"{number}", epoch=epoch_of[f"{number}"], key=pace.choice("abcd"))
            what = pace.random()
            if what < 0.1:
                epochs.append(Epoch())
            elif what < 0.2 and len(epochs) > 1:
                epoch = epochs.pop(pace.randrange(len(epochs)))
                epoch.drain() if pace.random() < 0.5 else epoch.end()
            if pace.random() < 0.3:
                await asyncio.sleep(pace.choice([0, 0.001, 0.005]))
        await asyncio.sleep(0.05)
    assert receiver.wrong == []
    assert started_late == []
    assert set(receiver.acked) <= done | stored, "acknowledged, and nowhere"
    left = [delivery for delivery in receiver.mailbox.handed_out() if delivery.epoch.draining or not channel.ordered]
    assert [delivery.wire.id for delivery in left] == [], "never settled"


@pytest.mark.parametrize("seed", range(3))
async def test_over_lost_connections_and_processes_that_come_and_go_all_are_done_or_dead(
    either: str, seed: int
) -> None:
    pace = random.Random(seed)
    done: set[int] = set()
    service = Service("shop", grace=0.02, retry=Retry(0.005, 0.02, 0.005))
    hopeless = set(range(0, 120, 7))

    @service.handler(numbers, concurrency=4, timeout=0.2)
    async def handle(body: int) -> None:
        await asyncio.sleep(pace.choice([0, 0.001, 0.005]))
        if body in hopeless or pace.random() < 0.1:
            raise ValueError
        done.add(body)

    def dead() -> set[int]:
        return {int(wire.body) for wire in waiting("path.numbers..dead")}

    async with unimsg.connect(url="memory://") as client:
        for number in range(120):
            await client.send(numbers, number)
    for _ in range(200):
        async with unimsg.connect(service, url=either):
            for _ in range(pace.randrange(6)):
                await asyncio.sleep(pace.uniform(0, 0.02))
                if pace.random() < 0.5:
                    MemoryBroker.current().cut()
        if done | dead() == set(range(120)) and held("path.numbers") + held("path.numbers..retry") == 0:
            break
    assert done | dead() == set(range(120)), "lost"
    assert hopeless <= dead()
    assert held("path.numbers") + held("path.numbers..retry") == 0
