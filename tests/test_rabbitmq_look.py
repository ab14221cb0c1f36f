"""Looking at a queue: what is seen goes back however the look ends."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import aiormq
import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from unimsg_rabbitmq import look as looking
from unimsg_rabbitmq.connection import Connection
from unimsg_rabbitmq.look import look
from unimsg_rabbitmq.operations import RabbitOperations
from unimsg_rabbitmq.transport import ChannelEvents

from unimsg.adapter import Address, ChannelMissing, Kind, Wire
from unimsg.errors import CapabilityError, ConnectError


class Queue:
    """A live connection to a broker with one queue, of which the consumer gets `gives` messages at once."""

    number = 1

    def __init__(self, counts: list[int], gives: int = 0) -> None:
        self.calls: list[str] = []
        self.events = ChannelEvents()
        self.consuming = asyncio.Event()
        self._counts = counts
        self._gives = gives

    async def get(self) -> "Queue":
        return self

    async def channel(self, events: ChannelEvents) -> "Queue":
        self.events = events
        return self

    def scratch(self) -> "Queue":
        return self

    async def __aenter__(self) -> "Queue":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def queue_declare(self, name: str, *, passive: bool) -> Any:
        """Any: stands in for aiormq's answer."""
        assert passive
        if not self._counts:
            raise aiormq.ChannelNotFoundEntity("NOT_FOUND - no queue")
        self.calls.append("count")
        return SimpleNamespace(message_count=self._counts.pop(0) if len(self._counts) > 1 else self._counts[0])

    async def basic_qos(self, *, prefetch_count: int) -> None:
        self.calls.append(f"qos {prefetch_count}")

    async def basic_consume(self, _queue: str, _callback: object) -> None:
        self.calls.append("consume")
        for number in range(self._gives):
            self.deliver(number)
        self.consuming.set()

    async def close(self) -> None:
        self.calls.append("close")

    def deliver(self, number: int) -> None:
        header = ContentHeader(properties=Basic.Properties(message_id=f"m{number}"))
        self.events.on_delivery(Basic.Deliver("tag", number + 1, False, "", "q"), header, b"")


async def seen(queue: Queue, limit: int = 10) -> list[str]:
    pages = look(cast("Connection", queue), "q..dead", limit, 1.0)  # stands in for one
    return [wire.id async for page in pages for wire in page]


async def browsed(operations: RabbitOperations, address: Address, timeout: float = 1.0) -> list[Wire]:
    return [wire async for page in operations.browse(address, limit=1, timeout=timeout) for wire in page]


async def test_it_ends_with_the_limit_and_waits_until_all_is_back() -> None:
    queue = Queue([5, 3, 4, 5], gives=2)
    assert await seen(queue, limit=2) == ["m0", "m1"]
    assert queue.calls == ["count", "qos 2", "consume", "close", "count", "count", "count"]


@pytest.mark.parametrize(("counts", "gives"), [([3, 0], 2), ([0], 0), ([0], 2)])
async def test_it_ends_when_no_more_comes(counts: list[int], gives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others took what is missing; or a receiver that was just closed gave something back."""
    for name in ("TAKEN", "QUIET", "BACK"):
        monkeypatch.setattr(looking, name, 0.01)
    queue = Queue(counts, gives)
    assert len(await seen(queue)) == gives
    assert "close" in queue.calls


async def test_one_who_is_cancelled_gives_all_back() -> None:
    queue = Queue([5], gives=2)
    task = asyncio.create_task(seen(queue))
    await queue.consuming.wait()
    task.cancel()
    await asyncio.wait([task])
    assert queue.calls[-1] == "close"


async def test_a_deleted_queue_ends_it() -> None:
    queue = Queue([5], gives=1)
    task = asyncio.create_task(seen(queue))
    await queue.consuming.wait()
    queue.events.on_cancel()
    async with asyncio.timeout(looking.TAKEN / 2):
        assert await task == ["m0"]


async def test_what_cannot_be_looked_at() -> None:
    operations = RabbitOperations(cast("Connection", Queue([])))  # stands in for one
    with pytest.raises(ChannelMissing, match="orders"):
        await browsed(operations, Address("orders", Kind.QUEUE))
    with pytest.raises(CapabilityError, match="order"):
        await browsed(operations, Address("orders", Kind.QUEUE, partitions=2))


async def test_it_is_bounded_in_time() -> None:
    operations = RabbitOperations(cast("Connection", Queue([5])))  # stands in for one
    with pytest.raises(ConnectError, match="in time"):
        await browsed(operations, Address("orders", Kind.QUEUE), timeout=0.01)
