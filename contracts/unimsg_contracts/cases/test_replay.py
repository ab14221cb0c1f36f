"""Replay: G2 where the broker keeps a topic's history."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from unimsg import CapabilityError, Context, MemoryStore, Service
from unimsg.adapter import Wanted, Wire
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

DAY = timedelta(days=1)


async def _need_history(stage: Stage) -> None:
    if (await stage.adapter()).capabilities.max_history is None:
        pytest.skip("the adapter keeps no history, and says so at start-up")


@guarantee("G2")
async def test_a_new_subscription_can_begin_in_the_past(stage: Stage) -> None:
    """`replay=`: it gets what was published before it existed, once; what exists is not moved by it."""
    await _need_history(stage)
    topic = stage.declare_topic(int, history=DAY)
    early, late = Handled[int](), Handled[int]()
    first = Service("first", grace=2.0)

    @first.handler(topic)
    async def handle_first(body: int, context: Context) -> None:
        early.note(body, context)

    def service() -> Service:
        made = Service("second", grace=2.0)

        @made.handler(topic, replay=DAY)
        async def handle_second(body: int, context: Context) -> None:
            late.note(body, context)

        return made

    async with stage.bus(first) as bus:
        for n in range(10):
            await bus.publish(topic, n)
        await early.reach(10, stage.recovery)
        async with stage.bus(service()):
            await late.reach(10, 2 * stage.recovery)
            await bus.publish(topic, 10)
            await eventually(lambda: 10 in late.bodies, stage.recovery, lambda: "what is published now does not come")
        async with stage.bus(service()):
            await bus.publish(topic, 11)
            await eventually(lambda: 11 in late.bodies, stage.recovery, lambda: "what is published now does not come")
            await eventually(lambda: 11 in early.bodies, stage.recovery, lambda: "the first subscription stands still")
    assert sorted(late.bodies) == list(range(12))
    assert sorted(early.bodies) == list(range(12))


@guarantee("G2")
async def test_a_start_in_the_past_meets_the_present(stage: Stage) -> None:
    """A subscription that begins in the past while the topic is sent to: nothing is lost between history and live."""
    await _need_history(stage)
    adapter, other, begun = await stage.adapter(), await stage.adapter(), datetime.now(UTC)
    topic = await stage.ensure(adapter, stage.topic_address(), Wanted(history=DAY))
    sent: list[Wire] = []
    enough = asyncio.Event()

    async def send() -> None:
        while not enough.is_set():
            wires = stage.wires(3)
            await stage.send(adapter, topic, wires)
            sent.extend(wires)
            await asyncio.sleep(0.002)  # a pace

    async def so_many(more: int) -> None:
        wanted = len(sent) + more
        await eventually(lambda: len(sent) >= wanted, stage.patience, lambda: f"{len(sent)} of {wanted} were sent")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        await so_many(30)
        wanted = Wanted(history=DAY, start=begun - timedelta(minutes=1))
        late = await stage.ensure(other, replace(topic, subscription="late"), wanted)
        await so_many(30)
        enough.set()
    await stage.arrive(sent, await stage.reader(other, late, prefetch=500), patience=stage.recovery)


@guarantee("G2")
async def test_replay_reaches_one_subscription(stage: Stage) -> None:
    """What was published since a moment comes again to one subscription, past its store, and in the order of a key;
    the other gets nothing twice, and nothing older comes."""
    await _need_history(stage)
    topic = stage.declare_topic(tuple[str, int], history=DAY, key=lambda body: body[0])
    again, other = Handled[tuple[str, int]](), Handled[tuple[str, int]]()
    one, two = Service("one", grace=2.0), Service("two", grace=2.0)

    @one.handler(topic, store=MemoryStore())
    async def handle(body: tuple[str, int], context: Context) -> None:
        again.note(body, context)

    @two.handler(topic)
    async def handle_other(body: tuple[str, int], context: Context) -> None:
        other.note(body, context)

    async with stage.bus(one, two) as bus:
        for n in range(3):
            await bus.publish(topic, ("old", n))
        await again.reach(3, stage.recovery)
        await asyncio.sleep(1.1)  # brokers look for a moment by the second
        since = datetime.now(UTC)
        await asyncio.sleep(0.1)
        for n in range(12):
            await bus.publish(topic, ("ab"[n % 2], n))
        await again.reach(15, stage.recovery)
        again.seen.clear()
        count = await stage.within(bus.replay(topic, "one", since=since), "replay", 3 * stage.recovery)
        await again.reach(12, stage.recovery)
        await bus.publish(topic, ("last", 0))
        await eventually(
            lambda: ("last", 0) in other.bodies and ("last", 0) in again.bodies,
            stage.recovery,
            lambda: "nothing later came",
        )
    replayed = [body for body in again.bodies if body != ("last", 0)]
    assert count == 12
    assert sorted(replayed) == sorted(("ab"[n % 2], n) for n in range(12))
    for name in "ab":
        numbers = [n for key, n in replayed if key == name]
        assert numbers == sorted(numbers)
    assert len(other.bodies) == 16


@guarantee("G16")
async def test_a_history_beyond_the_broker_is_refused(stage: Stage) -> None:
    """At start-up, before anything is sent; and so is a replay of more than is kept."""
    most = (await stage.adapter()).capabilities.max_history
    too_long = stage.declare_topic(int, history=(most or timedelta()) + DAY)
    service = Service("one", grace=2.0)

    @service.handler(too_long)
    async def handle(body: int) -> None: ...

    with pytest.raises(CapabilityError, match=too_long.name):
        async with stage.bus(service):
            pass
    if most is not None:
        kept = stage.declare_topic(int, history=timedelta(hours=1))
        async with stage.bus() as bus:
            with pytest.raises(CapabilityError, match="history"):
                await bus.replay(kept, "one", since=datetime.now(UTC) - DAY)
