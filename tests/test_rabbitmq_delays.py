"""Delay queues of the RabbitMQ adapter: names, arguments, and the order of making them."""

import asyncio
from typing import Any, cast

import pytest
from unimsg_rabbitmq import topology
from unimsg_rabbitmq.adapter import RabbitAdapter
from unimsg_rabbitmq.connection import Link
from unimsg_rabbitmq.delays import MAX_DELAY, delay_queue, delay_queues
from unimsg_rabbitmq.options import RabbitOptions

from unimsg.adapter import Address, Kind, Wanted, Wire
from unimsg.errors import CapabilityError

QUEUE = Address("orders", Kind.QUEUE)
TOPIC = Address("placed", Kind.TOPIC)
BILLING = Address("placed", Kind.TOPIC, "billing")


@pytest.mark.parametrize(
    ("delay", "step"),
    [
        (0.5, "500ms"),
        (1, "1s"),
        (10, "10s"),
        (60, "1m"),
        (90, "90s"),
        (300, "5m"),
        (3600, "1h"),
        (MAX_DELAY, "24h"),
        (0.29, "290ms"),
        (0.0001, "1ms"),
        (1.0005, "1001ms"),
    ],
)
def test_names_say_how_long_it_is_and_never_less(delay: float, step: str) -> None:
    assert delay_queue(QUEUE, delay) == f"orders..retry.{step}"
    assert delay_queue(BILLING, delay) == f"placed..billing..retry.{step}"
    assert delay_queue(TOPIC, delay) == f"placed..delay.{step}"
    arguments = dict(delay_queues(QUEUE, (delay,)))[f"orders..retry.{step}"]
    assert cast("int", arguments["x-message-ttl"]) >= delay * 1000 - 0.001


def test_what_is_due_goes_back_to_its_queue_and_nothing_is_dropped() -> None:
    [(_, arguments)] = delay_queues(BILLING, (10,))
    assert arguments == {
        "x-queue-type": "quorum",
        "x-message-ttl": 10_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "placed..billing",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-delivery-limit": -1,
    }


def test_what_is_due_of_a_topic_goes_to_all_its_subscriptions() -> None:
    (sink, _), (_, arguments) = delay_queues(TOPIC, (10,))
    assert sink == "placed..delay"
    assert (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]) == ("placed..delay", "")
    assert delay_queues(TOPIC, ()) == delay_queues(QUEUE, ()) == []


class Broker:
    """Answers every declare, and remembers what was asked for."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def scratch(self) -> "Broker":
        return self

    async def __aenter__(self) -> "Broker":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def queue_declare(self, name: str, *, passive: bool = False, **_: object) -> None:
        if passive:
            raise topology.aiormq.ChannelNotFoundEntity("NOT_FOUND - no queue")
        self.made.append(f"queue {name}")

    async def exchange_declare(self, name: str, *, passive: bool = False, **_: object) -> None:
        if passive:
            raise topology.aiormq.ChannelNotFoundEntity("NOT_FOUND - no exchange")
        self.made.append(f"exchange {name}")

    async def queue_bind(self, queue: str, exchange: str, _key: str) -> None:
        self.made.append(f"queue {queue} <- {exchange}")

    async def exchange_bind(self, destination: str, source: str, _key: str) -> None:
        self.made.append(f"exchange {destination} <- {source}")


async def made(address: Address, delays: tuple[float, ...]) -> list[str]:
    broker = Broker()
    await topology.create(cast("Link", broker), address, RabbitOptions(), delays)  # stands in for one
    return broker.made


async def test_each_is_made_after_what_it_leads_to() -> None:
    assert await made(QUEUE, (1, 2)) == [
        "queue orders..dead",
        "queue orders",
        "queue orders..retry.1s",
        "queue orders..retry.2s",
    ]
    assert await made(TOPIC, (1,)) == [
        "exchange placed",
        "exchange placed..delay",
        "exchange placed <- placed..delay",
        "queue placed..delay",
        "queue placed..delay <- placed..delay",
        "queue placed..delay.1s",
    ]
    assert await made(TOPIC, ()) == ["exchange placed"]


def test_order_and_delay_exclude_each_other() -> None:
    ordered = Address("orders", Kind.QUEUE, partitions=2)
    with pytest.raises(CapabilityError, match="orders"):
        topology.options_of(ordered, Wanted(delays=(1,)))
    with pytest.raises(CapabilityError, match="orders"):
        topology.options_of(QUEUE, Wanted(delays=(MAX_DELAY + 1,)))
    topology.options_of(QUEUE, Wanted(delays=(0.1, MAX_DELAY)))


async def test_what_cannot_be_delayed_is_not_sent() -> None:
    adapter = RabbitAdapter.from_url("amqp://host", {})
    wires = [Wire("id", b"")]
    for address, delay in ((QUEUE, MAX_DELAY + 1), (Address("orders", Kind.QUEUE, partitions=2), 1.0)):
        with pytest.raises(ValueError, match="delay"):
            await adapter.send(address, wires, timeout=1, delay=delay)


class Sent:
    """Stands in for the publisher of one exchange."""

    def __init__(self) -> None:
        self.calls: list[Any] = []  # the adapter's own

    async def send(self, call: Any, deadline: float) -> list[None]:
        self.calls.append(call)
        assert deadline > asyncio.get_running_loop().time()
        return [None] * len(call.messages)


@pytest.mark.parametrize(
    ("address", "delay", "route"),
    [
        (QUEUE, 10, "orders..retry.10s"),
        (BILLING, 10, "placed..billing..retry.10s"),
        (TOPIC, 10, "placed..delay.10s"),
        (BILLING, 0, "placed..billing"),
    ],
)
async def test_what_is_sent_to_one_queue_must_find_it(
    address: Address, delay: float, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, sent = RabbitAdapter.from_url("amqp://host", {}), Sent()
    exchanges: list[str] = []
    monkeypatch.setattr(adapter, "_publisher", lambda exchange: exchanges.append(exchange) or sent)
    await adapter.send(address, [Wire("id", b"")], timeout=5, delay=delay)
    [call] = sent.calls
    assert (exchanges, [route for route, _ in call.messages], call.mandatory) == ([""], [route], True)


async def test_of_an_ordered_subscription_the_key_chooses_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, sent = RabbitAdapter.from_url("amqp://host", {}), Sent()
    monkeypatch.setattr(adapter, "_publisher", lambda _: sent)
    await adapter.send(Address("placed", Kind.TOPIC, "billing", 8), [Wire("id", b"", key="a")], timeout=5)
    assert [route for route, _ in sent.calls[0].messages] == ["placed..billing..p4"]


async def test_what_is_missing_is_told() -> None:
    async def missing(address: Address, delays: tuple[float, ...]) -> list[str]:
        link = cast("Link", Broker())  # stands in for one
        return [difference.what for difference in await topology.compare(link, address, RabbitOptions(), delays)]

    assert await missing(QUEUE, (1,)) == ["queue orders..dead", "queue orders", "queue orders..retry.1s"]
    assert await missing(TOPIC, (1,)) == [
        "exchange placed",
        "exchange placed..delay",
        "queue placed..delay",
        "queue placed..delay.1s",
    ]
