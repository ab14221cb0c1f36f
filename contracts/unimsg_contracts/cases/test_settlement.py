"""G3 and G4: delivered until it is acknowledged, and not again after it was."""

import asyncio

from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually, ids
from unimsg_contracts.stage import Stage


@guarantee("G3")
async def test_the_unsettled_come_back(stage: Stage) -> None:
    """A receiver closes with half of its messages acknowledged, in any order: another gets exactly the other half."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    wires = stage.wires(10)
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue)
    got = {delivery.wire.id: delivery for delivery in await stage.take(receiver, wires)}
    for wire in reversed(wires[::2]):
        await receiver.ack([got[wire.id]])
    await receiver.aclose()
    await stage.exactly(adapter, queue, wires[1::2], await stage.reader(await stage.adapter(), queue))


@guarantee("G3", needs=("processes", "kill"))
async def test_a_killed_process_loses_nothing(stage: Stage) -> None:
    """A process that is killed while it holds messages: another receiver gets exactly what it had not acknowledged."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    done, held = stage.wires(4), stage.wires(6)
    await stage.send(adapter, queue, done)
    child = await stage.child()
    await child.tell("hold", queue, ack=ids(done), hold=ids(held))
    await child.says("acked")
    await stage.send(adapter, queue, held)
    await child.says("holding")
    reader = await stage.reader(adapter, queue)
    await child.kill()
    await stage.arrive(held, reader, patience=stage.recovery)
    assert not set(ids(done)) & set(reader.ids), "acknowledged before the kill, and delivered again"


@guarantee("G3")
async def test_a_cancelled_receive_loses_nothing(stage: Stage) -> None:
    """`receive` is cancelled at every moment of a message's way: what it did not return comes with the next call."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    receiver = await stage.receiver(adapter, queue, prefetch=100)
    wires, got = stage.wires(40), []
    for n, wire in enumerate(wires):
        receiving = asyncio.create_task(receiver.receive())
        sending = asyncio.create_task(stage.send(adapter, queue, [wire]))
        for _ in range(n % 10):
            await asyncio.sleep(0)
        receiving.cancel()
        got += [d for r in await asyncio.gather(receiving, return_exceptions=True) if isinstance(r, list) for d in r]
        await sending
    rest = [wire for wire in wires if wire.id not in set(ids(got))]
    if rest:
        await stage.take(receiver, rest)


@guarantee("G3")
async def test_a_released_message_comes_again(stage: Stage) -> None:
    """What is released is delivered again, soon, with everything that it had."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    wires = stage.wires(5, keys=["a"])
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue)
    first = await stage.take(receiver, wires)
    await receiver.release(first)
    again = await stage.take(receiver, wires)
    assert sorted(ids(again)) == sorted(ids(wires))
    assert {d.wire.id: d.wire for d in again} == {d.wire.id: d.wire for d in first}
    await receiver.ack(again)
    await stage.exactly(adapter, queue, [], stage.read(receiver))


@guarantee("G3")
async def test_a_held_message_is_held_as_long_as_it_takes(stage: Stage) -> None:
    """A handler may take longer than the broker's own lease: its message goes to nobody else meanwhile."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    held = stage.wires(3, keys=["held"])
    await stage.send(adapter, queue, held)
    receiver = await stage.receiver(adapter, queue, prefetch=3)
    got = await stage.take(receiver, held)
    other_adapter = await stage.adapter()
    other = await stage.reader(other_adapter, queue)
    await eventually(  # the other one is there, or this one was told to make room for it
        lambda: other_adapter.health().receivers[0].consuming or got[0].epoch.draining,
        stage.patience,
        lambda: "the second receiver does not come",
    )
    await asyncio.sleep(1.4 * stage.harness.lease)  # the time itself is the fault here, not a way to wait
    await stage.breathe(adapter)
    assert not other.got, f"delivered while it was held: {other.ids}"
    await stage.ack(receiver, got)
    await receiver.aclose()
    await stage.exactly(adapter, queue, [], other, patience=stage.recovery)


@guarantee("G4")
async def test_the_acknowledged_do_not_come_back(stage: Stage) -> None:
    """Acknowledged in any order, over several closes and opens: each time only what is still open comes."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    left = stage.wires(27, keys=["a", "b", "c", "d", "e"])
    await stage.send(adapter, queue, left)
    for n in range(3):
        receiver = await stage.receiver(adapter, queue)
        got = {delivery.wire.id: delivery for delivery in await stage.take(receiver, left)}
        done = left[n::3] if n else left[2::3]  # the last ones first: there are always older ones open
        await receiver.ack([got[wire.id] for wire in reversed(done)])
        await receiver.aclose()
        left = [wire for wire in left if wire not in done]
    await stage.exactly(adapter, queue, left, await stage.reader(await stage.adapter(), queue))


@guarantee("G4")
async def test_an_acknowledgement_right_before_the_end_counts(stage: Stage) -> None:
    """What is acknowledged in the last moment before everything closes is acknowledged."""
    first, second = await stage.adapter(), await stage.adapter()
    queue = await stage.queue(first)
    wires = stage.wires(30)
    await stage.send(first, queue, wires)
    receiver = await stage.receiver(first, queue)
    await receiver.ack(await stage.take(receiver, wires))
    await first.aclose(timeout=stage.recovery)
    await stage.exactly(second, queue, [], await stage.reader(second, queue))


@guarantee("G4")
async def test_receivers_come_and_go_without_repeats(stage: Stage) -> None:
    """Under load receivers join and leave in good order: everything comes, and nothing twice."""
    sender = await stage.adapter()
    queue = await stage.queue(sender)
    readers = [await stage.reader(await stage.adapter(), queue, prefetch=10)]
    sent = []
    for n in range(6):
        batch = stage.wires(24, keys=[f"k{n}" for n in range(24)])
        sent += batch
        await stage.send(sender, queue, batch)
        if n in (1, 3):
            readers.append(await stage.reader(await stage.adapter(), queue, prefetch=10))
        if n == 4:
            await readers[0].leave()
            await readers[0].receiver.aclose()
    await stage.exactly(sender, queue, sent, *readers, patience=stage.recovery)
