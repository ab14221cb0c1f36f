"""What the tests of retry, waiting and dead letters share: a quick policy, and a broker that cannot delay by itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from unimsg import Bus, DeadLetter, Queue, Retry, Topic
from unimsg.adapter import Address, Delivery, Kind, Wire
from unimsg.errors import PublishError
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryReceiver

SOON = Retry(*[0.02] * 50)
"""Again and again, a fiftieth of a second later."""


class Held(MemoryAdapter):
    """The broker in memory without delays of its own: the core holds what waits, as on Kafka and Pub/Sub."""

    capabilities = replace(MemoryAdapter.capabilities, max_delay=0.0)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        assert delay == 0, f"{address.name}: a delay of {delay} s was asked of a broker that has none"
        assert address.subscription is None, f"{address.name}: only brokers that delay can send to one subscription"
        return await super().send(address, messages, timeout=timeout)

    async def receiver(
        self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0
    ) -> "Watched":  # its class is changed below
        receiver = await super().receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)
        receiver.__class__ = Watched
        assert isinstance(receiver, Watched)
        receiver.settled = set()
        return receiver


class Watched(MemoryReceiver):
    """Fails a settlement that the core must not make."""

    settled: set[Delivery]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._once(deliveries)
        await super().ack(deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        self._once(deliveries)
        if self._line.address.ordered:
            alive = [delivery.wire.id for delivery in deliveries if not delivery.epoch.draining]
            if alive:
                wrong.append(f"{self._line.address.name}: {alive} released in a live epoch of an ordered address")
        await super().release(deliveries)

    def _once(self, deliveries: Sequence[Delivery]) -> None:
        again = [delivery.wire.id for delivery in deliveries if delivery in self.settled]
        if again:
            wrong.append(f"{self._line.address.name}: {again} settled twice")
        self.settled.update(deliveries)


wrong: list[str] = []
"""What the core did that it must not, in this test."""


def held(queue: str) -> int:
    """Messages that a queue holds, those handed out included; 0 for one that does not exist."""
    line = MemoryBroker.current().queues.get(queue)
    return 0 if line is None else line.length


def waiting(queue: str) -> list[Wire]:
    """What a queue holds and nobody has."""
    line = MemoryBroker.current().queues.get(queue)
    return [] if line is None else line.waiting_wires()


async def put(queue: str, *wires: Wire) -> None:
    """Sends as a stranger does."""
    outcomes = await MemoryAdapter().send(Address(queue, Kind.QUEUE), wires, timeout=1)
    assert list(outcomes) == [None] * len(wires)


async def letters(bus: Bus, channel: Queue[int] | Topic[int], subscription: str | None = None) -> list[DeadLetter]:
    """The dead letters of a channel."""
    return [letter async for letter in bus.dead_letters(channel, subscription)]


async def told(bus: Bus, text: str) -> None:
    """Returns when health tells of it."""
    deadline = monotonic() + 5
    while text not in (found := "\n".join((await bus.health()).problems)):
        assert monotonic() < deadline, f"health never said {text!r}, but {found!r}"
        await asyncio.sleep(0.01)
