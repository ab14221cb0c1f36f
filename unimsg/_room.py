"""Rooms: where messages wait, on brokers that cannot delay by themselves, held back until their time has come."""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from unimsg._brokers import Broker
from unimsg._intake import Intake
from unimsg._settlements import Settlements
from unimsg._waiting import ROOMS, until_of
from unimsg.adapter import Address, Delivery, Epoch, Receiver, Wanted
from unimsg.errors import UnimsgError

log = logging.getLogger("unimsg")

HELD = 1000
"""Messages that a process holds in one room at most. What waits behind them becomes due no sooner than they do."""
WORN = 2
"""Redeliveries from which on what waits goes on as a new copy. Restarts give it back each time, and a broker that
counts deliveries would give up what only waited."""
LOOK_EVERY = 5.0
"""Seconds between looks for the first room, where others may have made it."""
LONG_ROOMS_EACH = 12
"""Every so many of these looks are for the other rooms, too. A message waits longer in each of those."""
INSPECT_TIMEOUT = 10.0

Leave = Callable[[Delivery, Receiver], None]


class Room:
    """One room. `leave` gets each message when its time in here has passed, or when it is worn."""

    def __init__(self, name: str, broker: Broker, address: Address, wanted: Wanted, leave: Leave, grace: float) -> None:
        self.intake = Intake(name, broker, address, wanted, self._admit, prefetch=HELD, grace=grace)
        self._leave = leave
        self._settlements = Settlements()
        self._held: list[tuple[float, int, Delivery, Receiver]] = []
        self._number = itertools.count()  # of two that leave at the same time the first comes first
        self._epochs: set[Epoch] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    async def stop(self) -> None:
        """Holds nothing any more: what waited goes back."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        await self.intake.stop()
        if not self.intake.address.ordered:  # else closing gives it back, in order
            self._release(lambda _: True)
        await self._settlements.drain()

    def _admit(self, batch: Sequence[Delivery], receiver: Receiver) -> None:
        for delivery in batch:
            if (delivery.redelivered or 0) >= WORN and not self.intake.address.ordered:  # a copy would lose its place
                self._leave(delivery, receiver)
                continue
            if delivery.epoch not in self._epochs:
                self._epochs.add(delivery.epoch)
                delivery.epoch.on_drain(partial(self._drained, delivery.epoch))
            heapq.heappush(self._held, (until_of(delivery.wire), next(self._number), delivery, receiver))
        self._let_go()

    def _let_go(self) -> None:
        if self._stopping:
            return
        now = time.time()
        while self._held and self._held[0][0] <= now:
            _, _, delivery, receiver = heapq.heappop(self._held)
            self._leave(delivery, receiver)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:  # the wall's clock, which others read too, may be set: never sleep past it for long
            wait = min(self._held[0][0] - now, 60.0)
            self._timer = asyncio.get_running_loop().call_later(wait, self._let_go)

    def _drained(self, epoch: Epoch) -> None:
        self._epochs.discard(epoch)
        self._release(lambda delivery: delivery.epoch is epoch)

    def _release(self, unwanted: Callable[[Delivery], bool]) -> None:
        kept = []
        for entry in self._held:
            if unwanted(entry[2]):
                self._settlements.add(entry[3], "release", entry[2])
            else:
                kept.append(entry)
        heapq.heapify(kept)
        self._held = kept


class Rooms:
    """All rooms of one channel or subscription: the first from the start, the others once anybody made them."""

    def __init__(
        self,
        name: str,
        broker: Broker,
        address_of: Callable[[str], Address],
        wanted: Wanted,
        leave: Leave,
        *,
        grace: float,
    ) -> None:
        self._name = name
        self._broker = broker
        self._address_of = address_of
        self._wanted = wanted
        self._leave = leave
        self._grace = grace
        self._rooms: dict[str, Room] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def intakes(self) -> list[Intake]:
        return [room.intake for room in self._rooms.values() if room.intake.receiver is not None]

    async def open(self, suffix: str) -> None:
        """Makes the room if need be. Raises: as `Adapter.ensure`."""
        if suffix in self._rooms:
            return
        address = self._address_of(suffix)
        room = self._rooms[suffix] = Room(self._name, self._broker, address, self._wanted, self._leave, self._grace)
        try:
            await room.intake.start()
        except BaseException:
            del self._rooms[suffix]
            raise

    def has(self, suffix: str) -> bool:
        return suffix in self._rooms

    def look(self) -> None:
        """Looks from now on for rooms that others made, and opens them."""
        self._looking = asyncio.create_task(self._look_for_others())

    async def stop(self) -> None:
        """Takes no more in and gives back what waits."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await asyncio.gather(*(room.stop() for room in self._rooms.values()))

    async def aclose(self) -> None:
        """After `stop` and the last settlement."""
        await asyncio.gather(*(intake.aclose() for intake in self.intakes))

    async def _look_for_others(self) -> None:
        """A room is made with the first message that needs it, by any process: all must find it."""
        turn = -1
        while True:
            turn = (turn + 1) % LONG_ROOMS_EACH
            for suffix in ROOMS.values():
                if suffix in self._rooms or (suffix and turn):
                    continue
                try:
                    if await self._exists(suffix):
                        await self.open(suffix)
                except (UnimsgError, TimeoutError) as error:  # looked for again
                    log.warning(
                        "%s: looking for what waits in %s: %s", self._name, self._address_of(suffix).name, error
                    )
                except Exception:  # a bug of an adapter must not end the looking silently
                    log.exception("%s: looking for rooms failed", self._name)
            await asyncio.sleep(LOOK_EVERY)

    async def _exists(self, suffix: str) -> bool:
        differences = await self._broker.adapter.operations().inspect(
            self._address_of(suffix), self._wanted, timeout=INSPECT_TIMEOUT
        )
        return not any(difference.found is None for difference in differences)
