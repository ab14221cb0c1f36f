"""G5: messages of one key are handled in the order sent, one at a time, whoever receives them."""

import asyncio
import random

from unimsg.adapter import Address, Delivery
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually, ids
from unimsg_contracts.stage import Stage
from unimsg_contracts.worker import History, Worker

KEYS = [f"key-{n}" for n in range(12)]


async def short_work(delivery: Delivery) -> None:
    """Of different length, so that who does not wait for the one before overtakes it."""
    await asyncio.sleep(random.choice((0.0, 0.001, 0.003)))


async def backlog(stage: Stage, count: int) -> tuple[Address, list[str]]:
    """An ordered queue with a backlog of each key that was sent in one batch. Without it no receiver could ever
    have two messages of a key to mix up, and the case could not fail."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=4)
    wires = stage.wires(count, keys=KEYS)
    await stage.send(adapter, queue, wires)
    return queue, ids(wires)


async def worker(stage: Stage, queue: Address, history: History) -> Worker:
    return stage.work(await stage.receiver(await stage.adapter(), queue, prefetch=24), history, short_work)


async def handled(stage: Stage, history: History, count: int) -> None:
    await eventually(
        lambda: history.distinct() >= count, stage.recovery, lambda: f"{history.distinct()} of {count} were handled"
    )


def in_order(history: History) -> None:
    assert not history.disorder(), f"out of order: {history.disorder()}"
    assert not history.overlaps, f"two at a time of one key: {sorted(set(history.overlaps))}"


@guarantee("G5")
async def test_order_with_competing_receivers(stage: Stage) -> None:
    """Three receivers share the backlog of twelve keys."""
    queue, wires = await backlog(stage, 180)
    history = History()
    receivers = [await stage.receiver(await stage.adapter(), queue, prefetch=24) for _ in range(3)]
    for receiver in receivers:  # all are there before the first can have handled everything
        stage.work(receiver, history, short_work)
    await handled(stage, history, len(wires))
    in_order(history)


@guarantee("G5", needs=("join_order",))
async def test_order_while_receivers_join(stage: Stage) -> None:
    """Receivers come while the keys are being handled."""
    queue, wires = await backlog(stage, 240)
    history = History()
    for share in (0.0, 0.2, 0.4):
        await handled(stage, history, int(len(wires) * share))
        await worker(stage, queue, history)
    await handled(stage, history, len(wires))
    in_order(history)


@guarantee("G5", needs=("leave_order",))
async def test_order_while_receivers_leave(stage: Stage) -> None:
    """Receivers leave in good order, with messages of the keys waiting inside, and others come."""
    history = await coming_and_going(stage)
    in_order(history)


@guarantee("G10")
async def test_nothing_is_lost_while_receivers_leave(stage: Stage) -> None:
    """As before: everything is handled. What the order was is told where the broker does not promise it."""
    history = await coming_and_going(stage)
    if stage.harness.reason_against("leave_order") is not None:
        broken = len(set(history.disorder()) | set(history.overlaps))
        stage.record(f"while receivers left, the order of {broken} of {len(KEYS)} keys was broken (nothing was lost)")


async def coming_and_going(stage: Stage) -> History:
    queue, wires = await backlog(stage, 240)
    history = History()
    workers = [await worker(stage, queue, history) for _ in range(2)]
    await handled(stage, history, len(wires) // 4)
    await workers[0].leave()
    workers.append(await worker(stage, queue, history))
    await handled(stage, history, len(wires) // 2)
    await workers[1].leave()
    await handled(stage, history, len(wires))
    return history


@guarantee("G5")
async def test_order_of_overlapping_sends(stage: Stage) -> None:
    """Calls of `send` that overlap keep the order in which they were made, for each key."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=2)
    await stage.send(adapter, queue, stage.wires(2, keys=["warm", "up"]))
    wires = [stage.wire(str(n).encode(), key="ab"[n % 2]) for n in range(100)]
    async with asyncio.TaskGroup() as sends:
        for n in range(0, len(wires), 5):
            sends.create_task(stage.send(adapter, queue, wires[n : n + 5]))
    reader = await stage.reader(adapter, queue)
    await stage.arrive(wires, reader)
    for key in "ab":
        bodies = [int(d.wire.body) for d in reader.got if d.wire.key == key]
        assert bodies == sorted(bodies), f"stored as {bodies}"


@guarantee("G5")
async def test_other_keys_go_on(stage: Stage) -> None:
    """While one message is handled for a long time, the messages of other keys are handled."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=2)
    wires = stage.wires(40, keys=["slow", "a", "b", "c"])
    await stage.send(adapter, queue, wires)
    history, finished = History(), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.wire.key == "slow":
            await finished.wait()

    stage.work(await stage.receiver(adapter, queue, prefetch=60), history, handle)
    await eventually(lambda: history.done >= 30, stage.patience, lambda: f"{history.done} of 30 others were handled")
    assert history.handled["slow"] == [0]
    finished.set()
    await handled(stage, history, len(wires))
    in_order(history)


@guarantee("G5")
async def test_a_stopped_receiver_keeps_its_running_key(stage: Stage) -> None:
    """After `stop` no other receiver gets a message of a key that is still being handled here."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=1)
    first, later = stage.wires(1, keys=["k"]), stage.wires(50, keys=["k"])  # more than any adapter takes ahead
    await stage.send(adapter, queue, first)
    receiver = await stage.receiver(adapter, queue, prefetch=3)
    running = await stage.take(receiver, first)
    await stage.send(adapter, queue, later)
    other_adapter = await stage.adapter()
    other = await stage.reader(other_adapter, queue)
    await receiver.stop()
    await stage.breathe(other_adapter)
    assert not other.got, f"handed over while one of its key is running: {other.ids}"
    await stage.ack(receiver, running)
    await receiver.aclose()
    await stage.arrive(later, other, patience=stage.recovery)
    assert not set(ids(running)) & set(other.ids)
    if stage.harness.reason_against("leave_order") is None:
        assert [d.wire.id for d in other.got] == ids(later)
