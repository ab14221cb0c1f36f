"""Faults that a reviewer found, each seen before it was mended."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from waiting import until

import unimsg
from unimsg import Context, MemoryStore, Queue, Reject, Retry, Service, Topic
from unimsg.memory import MemoryBroker

numbers = Queue("found.numbers", int)
ordered = Queue("found.ordered", int, ordered=True)
events = Topic("found.events", int, history=timedelta(hours=1))


async def test_a_replayed_message_that_died_is_let_in_by_its_store_when_it_is_redriven() -> None:
    service, handled, broken = Service("shop", retry=Retry()), list[int](), False

    @service.handler(events, store=MemoryStore())
    async def handle(body: int) -> None:
        if broken:
            raise Reject("not now")
        handled.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.publish(events, 1)
        await until(lambda: handled == [1], "the event")
        broken = True
        await bus.replay(events, "shop", since=datetime.now(UTC) - timedelta(minutes=1))
        line = MemoryBroker.current().queues
        await until(lambda: line["found.events..shop..dead"].length == 1, "its dead letter")
        broken = False
        assert await bus.redrive(events, "shop") == 1
        await until(lambda: handled == [1, 1], "it again")


async def test_a_handler_of_batches_that_cancels_itself_keeps_nothing_for_good() -> None:
    service, alone = Service("shop", retry=Retry()), list[int]()

    @service.batch_handler(numbers, size=5, within=0.05)
    async def handle(bodies: Sequence[int]) -> None:
        if len(bodies) > 1:
            raise ValueError
        alone.append(bodies[0])
        if bodies[0] == 0 and alone.count(0) == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    async with unimsg.connect(service, url="memory://") as bus:
        for n in range(5):
            await bus.send(numbers, n)
        await until(lambda: set(alone) == set(range(5)), "all of them")
        await until(lambda: MemoryBroker.current().queues["found.numbers"].length == 0, "their acknowledgements")


async def test_one_suspicious_message_does_not_slow_down_an_ordered_channel_for_good() -> None:
    """What came several times is handled with no other beside it; afterwards all go on at once."""
    service, running, most_after, suspicious_over = Service("shop"), 0, 0, False

    @service.handler(ordered, concurrency=10)
    async def handle(body: int, context: Context) -> None:
        nonlocal running, most_after, suspicious_over
        running += 1
        await asyncio.sleep(0.005)
        if suspicious_over:
            most_after = max(most_after, running)
        running -= 1
        suspicious_over = suspicious_over or body == 3

    async with unimsg.connect(url="memory://") as bus, unimsg.connect(service, url="memory://"):
        pass
    async with unimsg.connect(url="memory://") as bus:
        for n in range(100):
            await bus.send(ordered, n, key=f"k{n}")
        line = MemoryBroker.current().queues["found.ordered"]
        for lane in line._lanes.values():
            for entry in lane.waiting:
                entry.deliveries = 5 if entry.wire.body == b"3" else 0
        async with unimsg.connect(service, url="memory://"):
            await until(lambda: line.length == 0, "all of them")
    assert most_after > 5
