"""What a receiver does at moments that a real broker gives too rarely to rely on."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from unimsg_rabbitmq.connection import Connection
from unimsg_rabbitmq.receiver import RabbitReceiver
from unimsg_rabbitmq.transport import ChannelEvents, ack_frame, requeue_frame

from unimsg.adapter import Address, Kind, SettlementLost


class Broker:
    """A live connection with one channel; `consuming` holds the answers to basic.consume back."""

    number = 1

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.calls: list[str] = []
        self.consuming = asyncio.Event()
        self.consuming.set()
        self.events = ChannelEvents()
        self.transport = SimpleNamespace(write=self.written.append, drain=self._nothing)
        self._tag = 0

    async def get(self) -> "Broker":
        return self

    async def channel(self, events: ChannelEvents) -> "Broker":
        self.events, self._tag = events, 0
        return self

    async def basic_qos(self, *, prefetch_count: int) -> None:
        self.calls.append(f"qos {prefetch_count}")

    async def basic_consume(self, queue: str, _: object, *, arguments: dict[str, Any] | None) -> Any:
        """Any: stands in for aiormq's answer."""
        self.calls.append(f"consume {queue}{' by rank' if arguments else ''}")
        self.deliver()
        await self.consuming.wait()
        return SimpleNamespace(consumer_tag=queue)

    async def basic_cancel(self, tag: str) -> None:
        self.calls.append(f"cancel {tag}")
        self.deliver()  # on its way already

    async def close(self) -> None:
        self.calls.append("close")

    def deliver(self) -> None:
        self._tag += 1
        header = ContentHeader(properties=Basic.Properties(message_id=f"m{self._tag}"))
        self.events.on_delivery(Basic.Deliver("tag", self._tag, False, "", "q"), header, b"")

    async def _nothing(self) -> None: ...


def receiver(broker: Broker, *, partitions: int = 0, prefetch: int = 10) -> RabbitReceiver:
    address = Address("q", Kind.QUEUE, partitions=partitions)
    return RabbitReceiver(cast("Connection", broker), address, prefetch, lambda _: None)  # stands in for one


async def test_what_comes_while_a_channel_is_opened_can_be_settled_at_once() -> None:
    broker = Broker()
    broker.consuming.clear()
    made = receiver(broker)
    opening = asyncio.create_task(made.open(5))
    deliveries = await made.receive()
    await made.ack(deliveries)
    assert broker.written == [ack_frame(1, 1)]
    broker.consuming.set()
    await opening
    await made.aclose()


async def test_acknowledgements_are_joined_in_one_write() -> None:
    broker = Broker()
    made = receiver(broker)
    await made.open(5)
    broker.deliver()
    broker.deliver()
    deliveries = await made.receive()
    await made.ack([deliveries[2], deliveries[0]])
    assert broker.written == [ack_frame(1, 3) + ack_frame(1, 1)]
    await made.ack([deliveries[0]])
    assert len(broker.written) == 1, "settled twice"
    await made.aclose()


async def test_settlements_of_a_lost_channel_are_told() -> None:
    broker = Broker()
    made = receiver(broker)
    await made.open(5)
    old = await made.receive()
    broker.events.on_close(0, "cut")
    assert old[0].epoch.over
    with pytest.raises(SettlementLost):
        await made.ack(old)
    new = await made.receive()  # the next channel's
    await made.ack(new)
    assert broker.written == [ack_frame(1, 1)]
    await made.aclose()


async def test_stopping_gives_back_what_waits_and_what_is_on_its_way() -> None:
    broker = Broker()
    made = receiver(broker, prefetch=1)
    await made.open(5)
    broker.deliver()
    (held,) = await made.receive()
    await made.stop()
    assert broker.calls[-1] == "cancel q"
    assert broker.written == [requeue_frame(1, 2) + requeue_frame(1, 3)]
    await made.ack([held])
    assert broker.written[-1] == ack_frame(1, 1)
    await made.aclose()


async def test_an_ordered_channel_is_never_cancelled_and_nothing_is_requeued() -> None:
    broker = Broker()
    made = receiver(broker, partitions=2)
    await made.open(5)
    assert broker.calls == ["qos 5", "consume q..p0 by rank", "consume q..p1 by rank"]
    held = await made.receive()
    broker.deliver()
    await made.stop()
    await made.ack(held)
    await made.aclose()
    assert not [call for call in broker.calls if call.startswith("cancel")]
    assert broker.written == [ack_frame(1, 1) + ack_frame(1, 2)]
    assert broker.calls[-1] == "close"


async def test_giving_back_on_an_ordered_channel_closes_it_and_opens_another() -> None:
    broker = Broker()
    made = receiver(broker, partitions=1)
    await made.open(5)
    held = await made.receive()
    await made.release(held)
    assert held[0].epoch.over
    again = await made.receive()
    assert not again[0].epoch.over
    assert broker.written == []
    await made.aclose()
