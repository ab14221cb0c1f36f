"""What a receiver does at moments that a real broker gives too rarely to rely on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import unimsg_rabbitmq.receiver
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from unimsg_rabbitmq.connection import Connection
from unimsg_rabbitmq.receiver import RabbitReceiver
from unimsg_rabbitmq.transport import ChannelEvents, ack_frame, requeue_frame

from unimsg.adapter import Address, Kind, SettlementLost


class Channel:
    """One channel, and what became of it."""

    is_closed = False

    def __init__(self, broker: "Broker", number: int, events: ChannelEvents) -> None:
        self.number = number
        self.events = events
        self._broker = broker
        self._tag = 0

    async def basic_qos(self, *, prefetch_count: int) -> None:
        self._broker.calls.append(f"qos {prefetch_count}")

    async def basic_consume(self, queue: str, _: object, *, arguments: dict[str, Any] | None) -> Any:
        """Any: stands in for aiormq's answer."""
        self._broker.calls.append(f"consume {queue}{' by rank' if arguments else ''}")
        self.deliver()
        await self._broker.consuming.wait()
        return SimpleNamespace(consumer_tag=queue)

    async def basic_cancel(self, tag: str) -> None:
        self._broker.calls.append(f"cancel {tag}")
        self.deliver()  # on its way already

    async def close(self) -> None:
        if self._broker.failure is not None:
            raise self._broker.failure
        self._broker.calls.append(f"close {self.number}")

    def deliver(self) -> None:
        self._tag += 1
        header = ContentHeader(properties=Basic.Properties(message_id=f"m{self._tag}"))
        self.events.on_delivery(Basic.Deliver("tag", self._tag, False, "", "q"), header, b"")


class Broker:
    """A live connection; `consuming` holds the answers to basic.consume back."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.calls: list[str] = []
        self.channels: list[Channel] = []
        self.consuming = asyncio.Event()
        self.consuming.set()
        self.transport = SimpleNamespace(write=self.written.append, drain=self._nothing)
        self.ready: dict[str, int] = {}
        """How many messages wait in each queue."""
        self.failure: Exception | None = None

    @property
    def newest(self) -> Channel:
        return self.channels[-1]

    async def get(self) -> "Broker":
        return self

    async def channel(self, events: ChannelEvents) -> Channel:
        self.channels.append(Channel(self, len(self.channels) + 1, events))
        return self.newest

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator["Broker"]:
        yield self

    async def queue_declare(self, name: str, *, passive: bool) -> Any:
        """Any: stands in for aiormq's answer."""
        assert passive
        return SimpleNamespace(message_count=self.ready.get(name, 0))

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
    broker.newest.deliver()
    broker.newest.deliver()
    deliveries = await made.receive()
    await made.ack([deliveries[2], deliveries[0]])
    assert broker.written == [ack_frame(1, 1) + ack_frame(1, 3)]
    await made.ack([deliveries[0]])
    assert len(broker.written) == 1, "settled twice"
    await made.aclose()


async def test_settlements_of_a_lost_channel_are_told() -> None:
    broker = Broker()
    made = receiver(broker)
    await made.open(5)
    old = await made.receive()
    broker.newest.events.on_close(0, "cut")
    assert old[0].epoch.over
    with pytest.raises(SettlementLost):
        await made.ack(old)
    new = await made.receive()  # the next channel's
    await made.ack(new)
    assert broker.written == [ack_frame(2, 1)]
    await made.aclose()


async def test_stopping_gives_back_what_waits_and_what_is_on_its_way() -> None:
    broker = Broker()
    made = receiver(broker, prefetch=1)
    await made.open(5)
    broker.newest.deliver()
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
    assert sorted(broker.calls) == ["consume q..p0 by rank", "consume q..p1 by rank", "qos 20", "qos 20"]
    held = await made.receive()
    broker.newest.deliver()
    await made.stop()
    await made.ack(held)
    await made.aclose()
    assert not [call for call in broker.calls if call.startswith("cancel")]
    assert broker.written == [ack_frame(1, 1) + ack_frame(2, 1)]
    assert sorted(broker.calls[-2:]) == ["close 1", "close 2"]


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


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unimsg_rabbitmq.receiver, "LOOK_EVERY", 0.05)


@pytest.mark.usefixtures("looks_often")
async def test_a_partition_that_is_withheld_goes_to_the_one_who_waits_when_nothing_of_it_runs() -> None:
    """The other partition goes on."""
    broker = Broker()
    made = receiver(broker, partitions=2)
    await made.open(5)
    broker.channels[0].deliver()
    running, held, elsewhere = sorted(await made.receive(), key=lambda one: (one.token[0].number, one.token[1]))  # type: ignore[index]
    broker.ready["q..p0"] = 1
    async with asyncio.timeout(5):
        draining = asyncio.Event()
        held.epoch.on_drain(draining.set)
        await draining.wait()
    await made.release([held])
    assert not held.epoch.over, "one of it still runs"
    await made.ack([running])
    assert held.epoch.over
    (again,) = await made.receive()
    assert not again.epoch.over
    assert not elsewhere.epoch.draining
    assert broker.calls[-3:] == ["close 1", "qos 20", "consume q..p0 by rank"]
    await made.aclose()


@pytest.mark.usefixtures("looks_often")
async def test_a_partition_stays_where_nothing_waits() -> None:
    broker = Broker()
    made = receiver(broker, partitions=1, prefetch=10)
    await made.open(5)
    (held,) = await made.receive()
    broker.ready["q..p0"] = 0
    await asyncio.sleep(0.4)
    assert not held.epoch.draining
    await made.aclose()


@pytest.mark.usefixtures("looks_often")
async def test_a_partition_stays_while_something_comes() -> None:
    broker = Broker()
    made = receiver(broker, partitions=1, prefetch=100)
    await made.open(5)
    (held,) = await made.receive()
    broker.ready["q..p0"] = 5
    for _ in range(10):
        await asyncio.sleep(0.04)
        broker.newest.deliver()
    assert not held.epoch.draining
    await made.aclose()


async def test_an_error_that_nobody_foresaw_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    made = receiver(broker)
    await made.open(5)
    await made.receive()
    broker.failure = KeyError("a bug")
    broker.newest.events.on_close(0, "cut")
    async with asyncio.timeout(5):
        (again,) = await made.receive()
    assert not again.epoch.over
    assert [record for record in caplog.records if record.exc_info]
    broker.failure = None
    await made.aclose()


async def test_what_is_older_than_all_that_is_open_is_acknowledged_with_one_frame() -> None:
    """RabbitMQ works on one frame after the other, and a channel that closes meanwhile loses the rest."""
    broker = Broker()
    made = receiver(broker, prefetch=10)
    await made.open(5)
    for _ in range(4):
        broker.newest.deliver()
    deliveries = list(await made.receive())
    while len(deliveries) < 5:
        deliveries += await made.receive()
    one, two, three, four, five = deliveries[:5]
    await made.ack([two, four])
    await made.ack([three, one])
    await made.ack([five])
    tag = [delivery.token[1] for delivery in (one, two, three, four, five)]  # type: ignore[index]  # the session's
    assert broker.written == [
        ack_frame(1, tag[1]) + ack_frame(1, tag[3]),
        ack_frame(1, tag[2], multiple=True),
        ack_frame(1, tag[4]),
    ]
    await made.aclose()


@pytest.mark.parametrize(("acknowledged", "waits"), [(20, True), (2, False)])
async def test_a_channel_is_not_closed_right_after_many_settlements(
    acknowledged: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lose those that its queue has not answered yet; a few are always answered, and nobody waits for them."""
    monkeypatch.setattr("unimsg_rabbitmq.session.SETTLED_WITHIN", 0.3)
    broker = Broker()
    made = receiver(broker, prefetch=100)
    await made.open(5)
    for _ in range(2 * acknowledged):
        broker.newest.deliver()
    deliveries = list(await made.receive())
    while len(deliveries) < 2 * acknowledged:
        deliveries += await made.receive()
    await made.ack(deliveries[1 : 2 * acknowledged : 2])  # the oldest stays open: a frame for each
    began = asyncio.get_running_loop().time()
    await made.aclose()
    took = asyncio.get_running_loop().time() - began
    assert (took >= 0.2) is waits, f"closed after {took:.2f} s"
