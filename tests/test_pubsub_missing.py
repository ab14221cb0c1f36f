"""A queue that was missing is sent to again once its subscription is there, not as soon as its topic is."""

import asyncio
from typing import Any

from unimsg_pubsub.adapter import PubSubAdapter

from unimsg.adapter import Address, ChannelMissing, Kind, Wire
from unimsg.errors import PermissionDenied, Unroutable

QUEUE = Address("shop.orders", Kind.QUEUE)
WIRE = Wire("m", b"", {})


class Broker:
    """Stands for topology and publisher: the topic may be there without its subscription."""

    def __init__(self) -> None:
        self.topic_there, self.error = False, ChannelMissing("no subscription")
        self.stored: list[str] = []
        self.looks = 0

    def topic(self, _: Address) -> str:
        return "topic"

    def subscription(self, _: Address) -> str:
        return "subscription"

    async def get_subscription(self, _: str, __: float) -> object:
        self.looks += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return object()

    async def send(self, _: str, address: Address, messages: list[Wire], *, timeout: float) -> list[Any]:
        if not self.topic_there:
            return [Unroutable("gone", channel=address.name, message_id=wire.id) for wire in messages]
        self.stored += [wire.id for wire in messages]
        return [None for _ in messages]


def adapter_over(broker: Any) -> PubSubAdapter:
    adapter = PubSubAdapter.from_url("pubsub://local?emulator=127.0.0.1:1", {})
    adapter._topology = adapter._publisher = broker
    return adapter


async def test_a_topic_without_its_subscription_is_not_sent_to() -> None:
    broker: Any = Broker()
    adapter = adapter_over(broker)
    assert isinstance((await adapter.send(QUEUE, [WIRE], timeout=1))[0], Unroutable)
    assert broker.looks == 0, "only what was missing is looked for"
    broker.topic_there = True
    [outcome] = await adapter.send(QUEUE, [WIRE], timeout=1)
    assert isinstance(outcome, Unroutable), "it would be stored nowhere"
    assert not broker.stored
    broker.error = None
    calls = [adapter.send(QUEUE, [Wire(str(n), b"", {})], timeout=1) for n in range(5)]
    assert await asyncio.gather(*calls) == [[None]] * 5
    assert broker.stored == list("01234"), "calls that overlap keep their order"
    assert broker.looks == 2, "one look for all that wait for it"
    await adapter.send(QUEUE, [WIRE], timeout=1)
    assert broker.looks == 2, "and none for what is there"


async def test_who_may_not_look_sends_as_before() -> None:
    broker: Any = Broker()
    adapter = adapter_over(broker)
    await adapter.send(QUEUE, [WIRE], timeout=1)
    broker.topic_there, broker.error = True, PermissionDenied("not yours")
    assert await adapter.send(QUEUE, [WIRE], timeout=1) == [None]
