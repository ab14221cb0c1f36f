"""Putting chosen dead letters back, past any number of others, with a bounded number of them in memory.

A broker hands out what is in front, and more only for what was settled. So what is not wanted is held while it is
little; when it is more, it goes to the end of its queue: a copy is confirmed, and then the first one is removed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from unimsg._publisher import Publisher
from unimsg._routes import OPEN_TIMEOUT, Route
from unimsg._targets import anew, publisher_to
from unimsg.adapter import Address, ChannelMissing, Delivery, Receiver, ReceiverClosed, SettlementLost, Wire
from unimsg.dead_letters import without_record
from unimsg.errors import BusClosed, TopologyError, UnimsgError

log = logging.getLogger("unimsg")

TIMEOUT = 10.0
IDLE = 15.0
"""Seconds without any letter, after which others must have taken those that are wanted. A receiver may have to wait for
its share of a broker's partitions."""
HELD, HELD_BYTES = 1000, 8 * 1024 * 1024
"""Letters that are not wanted, and bytes of their bodies, that stay where they are; what is beyond goes behind."""
LEAST = 5
"""Letters that are held at least, however large they are."""
TURNS = 2
"""How often all that was seen may come round before those that still miss must be gone: a broker may have no order."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a look has found."""

    ids: Counter[str]
    """The first of those that are wanted. Of one id there may be several letters."""
    count: int
    """All that are wanted."""
    looked_at: int
    largest: int
    """Bytes of the largest body."""

    @property
    def room(self) -> int:
        """How many letters like these may be held."""
        return max(LEAST, min(HELD, HELD_BYTES // max(1, self.largest)))


class Redriving:
    """One call of `Bus.redrive`."""

    done: ClassVar[str] = "put back"
    """What was done with those that moved."""

    def __init__(self, route: Route, source: Address, dead: Address) -> None:
        self._route = route
        self._source = source
        self._dead = dead
        self._adapter = route.broker.adapter
        self.moved = 0
        self.missing = 0
        """Of those that were chosen last: how many did not come."""

    async def move(self, chosen: Chosen, rate: float | None) -> None:
        """
        Raises:
            PublishError: one was not confirmed; it is still a dead letter.
        """
        wanted = chosen.ids.copy()
        # Twice what is held: there is always room for more to come.
        receiver = await self._adapter.receiver(self._dead, prefetch=2 * chosen.room, timeout=OPEN_TIMEOUT)
        target, behind = publisher_to(self._route, self._source), Publisher(self._adapter, self._dead, _made)
        try:
            others = _Others(receiver, behind, chosen.room)
            while wanted.total() and others.passed <= TURNS * (chosen.looked_at + chosen.room):
                batch = await self._next(receiver)
                if not batch:
                    break
                ours = _taken(batch, wanted)
                await others.add([delivery for delivery in batch if delivery not in ours])
                await self._put_all_back(receiver, target, list(ours), wanted, rate)
            self.missing = wanted.total()
        finally:
            await receiver.stop()
            await target.aclose()
            await behind.aclose()
            await receiver.aclose()

    async def _next(self, receiver: Receiver) -> Sequence[Delivery]:
        """None: nothing came."""
        try:
            async with asyncio.timeout(IDLE):
                return await receiver.receive()
        except TimeoutError:
            return []
        except ChannelMissing as error:
            raise TopologyError(f"{error}: {self.moved} dead letters were {self.done} before") from error
        except ReceiverClosed as error:
            raise BusClosed(f"{self._dead.name}: the bus was closed; {self.moved} were {self.done} before") from error

    async def _put_all_back(
        self,
        receiver: Receiver,
        target: Publisher,
        deliveries: Sequence[Delivery],
        wanted: Counter[str],
        rate: float | None,
    ) -> None:
        if rate is None:
            self.moved += await self._put_back(receiver, target, deliveries)
            return
        for delivery in deliveries:
            if delivery.epoch.draining:  # it comes again, and could not be removed now
                wanted[delivery.wire.id] += 1
                continue
            self.moved += await self._put_back(receiver, target, [delivery])
            await asyncio.sleep(1 / rate)

    async def _put_back(self, receiver: Receiver, target: Publisher, deliveries: Sequence[Delivery]) -> int:
        """Raises the first error, after all that were confirmed are removed."""
        wires = [anew(self._route, without_record(delivery.wire)) for delivery in deliveries]
        return await replace(receiver, deliveries, target, wires)


class Dropping(Redriving):
    """One call of `Bus.drop_dead_letters`: what is wanted goes nowhere."""

    done = "dropped"

    async def _put_back(self, receiver: Receiver, target: Publisher, deliveries: Sequence[Delivery]) -> int:
        if deliveries:
            try:
                await receiver.ack(deliveries)
            except SettlementLost as error:
                log.warning("some dead letters that were dropped may still be in their place: %s", error)
        return len(deliveries)


class _Others:
    """Those that are not wanted."""

    def __init__(self, receiver: Receiver, behind: Publisher, room: int) -> None:
        self._receiver = receiver
        self._behind = behind
        self._room = room
        self._held: list[Delivery] = []
        self.passed = 0
        """How many came, those that came again included."""

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        self.passed += len(deliveries)
        self._held += deliveries
        if len(self._held) > self._room or sum(len(each.wire.body) for each in self._held) > HELD_BYTES:
            held, self._held = self._held, []
            await self._receiver.release([each for each in held if each.epoch.draining])  # they come again
            live = [each for each in held if not each.epoch.draining]
            await replace(self._receiver, live, self._behind, [each.wire for each in live])


def _taken(batch: Sequence[Delivery], wanted: Counter[str]) -> Mapping[Delivery, None]:
    """Those that are wanted, in their order; they are not wanted any more."""
    taken: dict[Delivery, None] = {}
    for delivery in batch:
        if wanted[delivery.wire.id] > 0:
            wanted[delivery.wire.id] -= 1
            taken[delivery] = None
    return taken


async def replace(receiver: Receiver, deliveries: Sequence[Delivery], target: Publisher, wires: Sequence[Wire]) -> int:
    """Each by the message that stands for it, elsewhere: confirmed, then removed. Returns how many.

    Raises:
        PublishError: the first of those that were not confirmed, which stay; after the others are removed.
    """
    outcomes = await asyncio.gather(*(target.submit(wire, TIMEOUT) for wire in wires))
    confirmed = [delivery for delivery, error in zip(deliveries, outcomes, strict=True) if error is None]
    if confirmed:
        try:
            await receiver.ack(confirmed)
        except SettlementLost as error:
            log.warning("some dead letters that were put elsewhere may still be in their place, too: %s", error)
    errors: list[UnimsgError] = [error for error in outcomes if error is not None]
    if errors:
        raise errors[0]
    return len(confirmed)


async def _made() -> None:
    """What is read from exists."""
