"""G6: no more is held than was asked for, and who is slow slows down nobody else."""

import asyncio

from unimsg.adapter import Delivery
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import difference, ids
from unimsg_contracts.stage import Stage


@guarantee("G6")
async def test_prefetch_is_never_exceeded(stage: Stage) -> None:
    """`receive` gives no more while `prefetch` deliveries are unsettled, and goes on as soon as some are settled."""
    await prefetch_of_three(stage, partitions=0)


@guarantee("G6")
async def test_prefetch_holds_over_all_partitions(stage: Stage) -> None:
    """The same on an ordered channel with more partitions than prefetch."""
    await prefetch_of_three(stage, partitions=4)


async def prefetch_of_three(stage: Stage, *, partitions: int) -> None:
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=partitions)
    wires = stage.wires(24, keys=[f"k{n}" for n in range(12)])
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue, prefetch=3)
    unsettled: list[Delivery] = []
    while len(unsettled) < 3:
        unsettled += await stage.within(receiver.receive(), "receive")

    more = asyncio.create_task(receiver.receive())
    await stage.breathe(adapter)
    assert not more.done(), f"{len(unsettled)} handed out and unsettled, and receive returned more; prefetch is 3"
    seen = ids(unsettled)
    while len(seen) < len(wires):
        assert len(unsettled) <= 3, f"{len(unsettled)} handed out, prefetch is 3"
        if unsettled:
            await receiver.ack([unsettled.pop(0)])
        # With others unsettled nothing need come: their partition may have its share of the prefetch in use.
        await asyncio.wait([more], timeout=0.02 if unsettled else stage.patience)
        if more.done():
            got = more.result()
            unsettled += got
            seen += ids(got)
            more = asyncio.create_task(receiver.receive())
        else:
            assert unsettled, f"nothing comes after all was acknowledged: {difference(ids(wires), seen)}"
    more.cancel()
    assert not difference(ids(wires), seen), difference(ids(wires), seen)


@guarantee("G6")
async def test_who_joins_waits_for_nobody(stage: Stage) -> None:
    """A receiver is there at once although others still handle messages for a long time."""
    adapter, other = await stage.adapter(), await stage.adapter()
    queue = await stage.queue(adapter)
    await stage.send(adapter, queue, wires := stage.wires(3))
    receiver = await stage.receiver(adapter, queue, grace=60.0)
    held = await stage.take(receiver, wires)
    joining = stage.receiver(other, queue)
    await stage.within(joining, "a second receiver", min(stage.patience, 10.0))
    await stage.ack(receiver, held)


@guarantee("G6")
async def test_a_slow_subscription_starves_no_other(stage: Stage) -> None:
    """One subscription holds all that it may and settles nothing; another of the same process gets everything."""
    adapter = await stage.adapter()
    topic, slow, fast = await stage.topic(adapter, "slow", "fast")
    holding = await stage.reader(adapter, slow, prefetch=5, hold=True)
    quick = await stage.reader(adapter, fast, prefetch=5)
    for _ in range(5):
        wires = stage.wires(40)
        await stage.send(adapter, topic, wires)
        await stage.arrive(wires, quick)
    assert len(holding.got) <= 5
