"""G9 and G10: who stops, loses nothing, holds nothing back, and it counts as nothing."""

import asyncio

import pytest

from unimsg.adapter import ReceiverClosed, Wire
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import ids
from unimsg_contracts.stage import Stage


@guarantee("G9")
async def test_giving_back_counts_as_nothing(stage: Stage) -> None:
    """A message that was released and closed away more often than brokers deliver by default is still delivered."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    wires = stage.wires(2)
    await stage.send(adapter, queue, wires)
    for _ in range(3):
        receiver = await stage.receiver(adapter, queue, prefetch=2)
        for _ in range(9):
            await receiver.release(await stage.take(receiver, wires))
        await stage.take(receiver, wires)
        await receiver.aclose()
    await stage.exactly(adapter, queue, wires, await stage.reader(adapter, queue))


@guarantee("G10")
async def test_stop_ends_the_intake_only(stage: Stage) -> None:
    """After `stop` nothing is handed out, what was handed out can be settled, and the rest is not lost."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    held, waiting = stage.wires(2, keys=["k"]), stage.wires(6, keys=["k"])
    await stage.send(adapter, queue, held)
    receiver = await stage.receiver(adapter, queue, prefetch=20)
    got = await stage.take(receiver, held)
    await stage.send(adapter, queue, waiting)
    await stage.breathe(adapter)  # so that they wait inside of the receiver
    await receiver.stop()
    for _ in range(2):
        with pytest.raises(ReceiverClosed):
            await stage.within(receiver.receive(), "receive after stop")
    await stage.ack(receiver, got)
    await receiver.aclose()
    await stage.exactly(adapter, queue, waiting, await stage.reader(adapter, queue), patience=stage.recovery)


@guarantee("G10", needs=("hand_over",))
async def test_stop_hands_over_at_once(stage: Stage) -> None:
    """What waits in a stopped receiver goes to others while it still holds what it handed out."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    held, waiting = stage.wires(2), stage.wires(6)
    await stage.send(adapter, queue, held)
    receiver = await stage.receiver(adapter, queue, prefetch=20)
    got = await stage.take(receiver, held)
    await stage.send(adapter, queue, waiting)
    await stage.breathe(adapter)
    await receiver.stop()
    other = await stage.reader(await stage.adapter(), queue)
    await stage.arrive(waiting, other)
    assert not set(ids(held)) & set(other.ids), "given to another while this one still holds it"
    await stage.ack(receiver, got)
    await receiver.aclose()
    await stage.exactly(adapter, queue, waiting, other)


@guarantee("G10")
async def test_closing_an_adapter_closes_its_receivers(stage: Stage) -> None:
    """`Adapter.aclose` gives back what its receivers hold, ends their `receive`, and may be called again."""
    first, second = await stage.adapter(), await stage.adapter()
    queue = await stage.queue(first)
    wires = stage.wires(6)
    await stage.send(first, queue, wires)
    receiver = await stage.receiver(first, queue)
    held = await stage.take(receiver, wires)
    await receiver.ack(held[:2])
    receiving = asyncio.create_task(receiver.receive())
    await stage.within(first.aclose(timeout=stage.recovery), "aclose", stage.recovery + 1)
    with pytest.raises(ReceiverClosed):
        await stage.within(receiving, "the end of receive")
    await stage.within(first.aclose(timeout=stage.recovery), "aclose again", stage.recovery + 1)
    await stage.within(receiver.aclose(), "aclose of the receiver")
    left = [delivery.wire for delivery in held[2:]]
    await stage.exactly(second, queue, left, await stage.reader(second, queue))


@guarantee("G10", needs=("leave_order",))
async def test_what_goes_back_keeps_its_order(stage: Stage) -> None:
    """An ordered receiver closes with messages of several keys unsettled: another gets each key's in order."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=2)
    wires = stage.wires(20, keys=["a", "b", "c", "d"])
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue)
    got = await stage.take(receiver, wires)
    heads = {key: next(d for d in got if d.wire.key == key) for key in ("a", "b")}
    await receiver.ack(list(heads.values()))
    await receiver.aclose()

    other = await stage.reader(await stage.adapter(), queue)
    left = [wire for wire in wires if wire.id not in set(ids(heads.values()))]
    await stage.exactly(adapter, queue, left, other, patience=stage.recovery)
    for key in ("a", "b", "c", "d"):
        bodies = [int(d.wire.body) for d in other.got if d.wire.key == key]
        assert bodies == sorted(bodies), f"key {key} came back as {bodies}"


@guarantee("G10", needs=("stall", "cut"))
async def test_closing_is_bounded_when_the_broker_is_dead(stage: Stage) -> None:
    """With a broker that does not answer any more, `aclose` returns within its deadline and raises nothing."""
    network = await stage.network()
    adapter = await stage.adapter(url=network.url)
    queue = await stage.queue(adapter)
    wires = stage.wires(3)
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue)
    await stage.take(receiver, wires)
    network.stall()
    await stage.within(adapter.aclose(timeout=1.0), "aclose(timeout=1)", 2.5)
    network.flow()
    await network.cut()
    await stage.arrive(wires, await stage.reader(await stage.adapter(), queue), patience=stage.recovery)


@guarantee("G4")
async def test_what_was_acknowledged_just_before_the_end_never_comes_again(stage: Stage) -> None:
    """Of hundreds of messages all but the first are acknowledged, and the receiver is closed at once, while the broker
    is busy storing others: the first one alone is delivered again."""
    adapter, other = await stage.adapter(), await stage.adapter()
    queue, aside = await stage.queue(adapter), await stage.queue(other)
    wires, large = stage.wires(600), [Wire(f"large-{number}", bytes(60_000)) for number in range(100)]
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue, prefetch=len(wires))
    first, *others = await stage.take(receiver, wires)
    storing = asyncio.create_task(stage.send(other, aside, large))
    await asyncio.sleep(0.02)  # so that it is under way
    await stage.ack(receiver, others)
    await receiver.aclose()
    await storing
    await stage.exactly(adapter, queue, [first.wire], await stage.reader(adapter, queue), patience=stage.recovery)
