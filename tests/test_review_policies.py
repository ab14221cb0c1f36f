"""Faults that a reviewer found, each seen before it was mended."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from waiting import until

import unimsg
from unimsg import Context, MemoryStore, MessageTooLarge, Queue, Reject, Retry, Service, Topic
from unimsg.adapter import Address, Wire
from unimsg.memory import MemoryAdapter, MemoryBroker

numbers = Queue("found.numbers", int)
long = "x" * 2000
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


@pytest.mark.parametrize("retry", [Retry(), Retry(0.05)], ids=["dead", "retried"])
async def test_what_no_copy_can_carry_is_a_dead_letter_without_it(
    retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's headers that its broker takes from him, and not from us: they must not hold the message for ever."""
    send = MemoryAdapter.send

    async def refusing(self: MemoryAdapter, address: Address, messages: Sequence[Wire], **how: Any) -> Any:
        if any("odd" in wire.headers for wire in messages):
            return [MessageTooLarge("too large", channel=address.name, message_id=wire.id) for wire in messages]
        return await send(self, address, messages, **how)

    monkeypatch.setattr(MemoryAdapter, "send", refusing)
    service, attempts = Service("shop", retry=retry), list[int]()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        attempts.append(context.attempt)
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        line = MemoryBroker.current().queues["found.numbers"]
        line.put(Wire("odd", b"7", {"odd": long}))
        line.pump()
        await until(lambda: MemoryBroker.current().queues["found.numbers..dead"].length == 1, "the dead letter")
        [letter] = [letter async for letter in bus.dead_letters(numbers)]
        await until(lambda: line.length == 0, "its acknowledgement")
    assert attempts == list(range(1, retry.attempts + 1))
    assert (letter.message.id, letter.message.body, letter.message.headers) == ("odd", b"7", {})
    assert (letter.reason, letter.attempts) == ("failed", retry.attempts)


async def test_a_redriven_message_expires_as_if_it_were_sent_anew() -> None:
    service, handled, broken = Service("shop", retry=Retry()), list[int](), True

    @service.handler(numbers)
    async def handle(body: int) -> None:
        if broken:
            raise Reject("not now")
        handled.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 1, ttl=0.2)
        await until(lambda: MemoryBroker.current().queues["found.numbers..dead"].length == 1, "the dead letter")
        await asyncio.sleep(0.25)  # beyond its time
        broken = False
        assert await bus.redrive(numbers) == 1
        await until(lambda: handled == [1], "it")


async def test_the_reject_of_a_task_group_is_one() -> None:
    service, attempts = Service("shop", retry=Retry(0.01)), list[int]()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        attempts.append(context.attempt)
        raise ExceptionGroup("unhandled errors in a TaskGroup", [Reject("never")])

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 1)
        await until(lambda: MemoryBroker.current().queues["found.numbers..dead"].length == 1, "the dead letter")
    assert attempts == [1]
