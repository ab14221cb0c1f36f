"""The dead letters of one queue or subscription: reading them, and putting them back."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from unimsg._publisher import Publisher
from unimsg._routes import OPEN_TIMEOUT, Route
from unimsg._targets import anew, publisher_to, source_of
from unimsg.adapter import ChannelMissing, Delivery, Receiver, ReceiverClosed, SettlementLost, Wire
from unimsg.dead_letters import DeadLetter, dead_address, read, without_record
from unimsg.errors import BusClosed, TopologyError, UnimsgError

log = logging.getLogger("unimsg")


LOOKED_AT = 10_000
"""Dead letters that one call looks at."""
TIMEOUT = 10.0
IDLE = 15.0
"""Seconds without any of those that are wanted, after which others must have taken them. A receiver may have to wait
for its share of a broker's partitions."""


class Graveyard:
    """See `Bus.dead_letters` and `Bus.redrive`."""

    def __init__(self, route: Route, subscription: str | None) -> None:
        self._route = route
        self._adapter = route.broker.adapter
        self._source = source_of(route, subscription)
        self._dead = dead_address(self._source)

    async def letters(self) -> Sequence[DeadLetter]:
        return [self._read(wire) for wire in await self._browse()]

    async def redrive(self, where: Callable[[DeadLetter], bool], limit: int | None, rate: float | None) -> int:
        if (limit is not None and limit < 1) or (rate is not None and not rate > 0):
            raise ValueError("limit must be 1 or more, rate more than 0 a second")
        found = await self._browse()
        chosen = [wire.id for wire in found if where(self._read(wire))][:limit]
        if not chosen:
            return 0
        # What is not wanted is held until the end: given back at once, it would come again and again.
        receiver = await self._adapter.receiver(self._dead, prefetch=len(found) + 100, timeout=OPEN_TIMEOUT)
        target = publisher_to(self._route, self._source)
        try:
            moved = await self._move(receiver, target, Counter(chosen), rate)
            if moved < len(chosen):
                log.warning(
                    "%s: %d of %d chosen dead letters did not come within %g s: others took them, or what is not "
                    "chosen is more than a process may hold (32 MiB of bodies); redrive again, perhaps without where",
                    self._dead.name,
                    len(chosen) - moved,
                    len(chosen),
                    IDLE,
                )
            return moved
        finally:
            await receiver.stop()
            await target.aclose()
            await receiver.aclose()

    async def _move(self, receiver: Receiver, target: Publisher, wanted: Counter[str], rate: float | None) -> int:
        moved = 0
        while wanted.total():
            try:
                async with asyncio.timeout(IDLE):
                    batch = await receiver.receive()
            except TimeoutError:
                break
            except ChannelMissing as error:
                raise TopologyError(f"{error}: {moved} dead letters were put back before") from error
            except ReceiverClosed as error:
                raise BusClosed(f"{self._dead.name}: the bus was closed; {moved} were put back before") from error
            ours: list[Delivery] = []
            for delivery in batch:
                if wanted[delivery.wire.id] > 0:
                    wanted[delivery.wire.id] -= 1
                    ours.append(delivery)
            if rate is None:
                moved += await self._put_back(receiver, target, ours)
                continue
            for delivery in ours:
                if delivery.epoch.draining:  # it comes again, and could not be removed now
                    wanted[delivery.wire.id] += 1
                    continue
                moved += await self._put_back(receiver, target, [delivery])
                await asyncio.sleep(1 / rate)
        return moved

    async def _put_back(self, receiver: Receiver, target: Publisher, deliveries: Sequence[Delivery]) -> int:
        """Raises the first error, after all that were confirmed are removed."""
        outcomes = await asyncio.gather(
            *(target.submit(anew(self._route, without_record(delivery.wire)), TIMEOUT) for delivery in deliveries)
        )
        confirmed = [delivery for delivery, error in zip(deliveries, outcomes, strict=True) if error is None]
        if confirmed:
            try:
                await receiver.ack(confirmed)
            except SettlementLost as error:
                log.warning("%s: some that were put back may still be dead letters: %s", self._dead.name, error)
        errors: list[UnimsgError] = [error for error in outcomes if error is not None]
        if errors:
            raise errors[0]
        return len(confirmed)

    async def _browse(self) -> Sequence[Wire]:
        await self._route.broker.connect()
        try:
            return await self._adapter.operations().browse(self._dead, limit=LOOKED_AT, timeout=OPEN_TIMEOUT)
        except ChannelMissing as error:
            raise TopologyError(
                f"{error}: it is made when {self._source.name} is handled for the first time"
            ) from error

    def _read(self, wire: Wire) -> DeadLetter:
        return read(wire, self._route.prefix, self._route.channel.name)
