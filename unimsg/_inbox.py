"""The private channel of one process on one broker, where the replies to what it asked arrive."""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Protocol

from unimsg._brokers import Broker
from unimsg._intake import Intake
from unimsg._message import shown
from unimsg._return import new_inbox
from unimsg._settlements import Settlements
from unimsg.adapter import Address, Delivery, Kind, Receiver, Wanted, Wire
from unimsg.errors import BusClosed

log = logging.getLogger("unimsg")

PREFETCH = 1000
"""Replies that are not settled yet, at most."""
SETTLE_WITHIN = 0.05
"""Seconds from a reply until it is settled, with all that came meanwhile: a settlement of its own would cost a lone
request a tenth of its time. One that comes again, after a lost connection, is dropped."""
SETTLE_AT = 100
SETTLE_BYTES = 1024 * 1024
"""Replies, and bytes of them, that are settled at once: they leave most of the room to what comes next."""
REMEMBERED = 10_000
"""Ended questions, to tell a late reply and a repeated one from one that nobody asked for."""


class Asked(Protocol):
    """A question that waits for its reply, or for several."""

    def take(self, reply: Wire) -> bool:
        """False: it has this one already."""

    def close(self) -> None:
        """No reply comes any more."""


class Inbox:
    """Every reply that arrives goes to the question whose id it names, and is dropped and counted if none waits."""

    def __init__(self, broker: Broker) -> None:
        self.name = new_inbox()
        self.dropped: Counter[str] = Counter()
        """Replies by why nobody got them: late, duplicate, unknown."""
        self.settlements = Settlements()
        self.is_open = False
        address = Address(broker.prefix + self.name, Kind.INBOX)
        self.label = f"inbox on {broker.name}"
        self._intake = Intake(self.label, broker, address, Wanted(), self._admit, prefetch=PREFETCH, grace=0)
        self._broker = broker
        self._cause = f"{broker.adapter.attribute_prefix}causationid"
        self._taken: list[tuple[Receiver, Delivery]] = []
        """What is not settled yet."""
        self._taken_bytes = 0
        self._settling: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed = False
        self._asked: dict[str, Asked] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        """Questions that wait no more, and what a reply to them is."""

    @property
    def problem(self) -> str | None:
        """Why no reply arrives at present."""
        if self.is_open and not self._intake.live:
            return "the inbox's intake has ended"
        return self._intake.problem or self.settlements.problem

    async def open(self) -> None:
        """Returns when replies to what is sent from now on arrive. Concurrent callers share it; a failed one is tried
        again by the next.

        Raises:
            BusClosed: it was closed before.
            ConnectError and others: as `Broker.connect` and `Adapter.receiver`.
        """
        if self.is_open:
            return
        if self._closed:
            raise self._bus_closed()
        if self._opening is None or (self._opening.done() and not self.is_open):
            self._opening = asyncio.create_task(self._open())
            # Whoever waited may have given up meanwhile: then nobody asks for its error.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([self._opening])  # a caller that gives up does not take it from the others
        if self._opening.cancelled():
            raise self._bus_closed()
        self._opening.result()

    def expect(self, id: str, asked: Asked) -> None:
        """Replies to the message `id` go to `asked` until `forget`. Raises BusClosed: none comes any more."""
        if self._closed:
            raise self._bus_closed()
        self._asked[id] = asked

    def forget(self, id: str, *, answered: bool) -> None:
        """It waits no more."""
        if self._asked.pop(id, None) is not None:
            self._ended[id] = "duplicate" if answered else "late"
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)

    async def aclose(self) -> None:
        self._closed = True
        for asked in list(self._asked.values()):
            asked.close()
        if self._opening is not None:
            if not self._opening.done():
                self._opening.cancel()
                await asyncio.wait([self._opening])
            await self._intake.stop()
            self._settle()
            await self.settlements.drain()
            await self._intake.aclose()

    async def _open(self) -> None:
        await self._broker.connect()
        await self._intake.start()
        self.is_open = True

    def _bus_closed(self) -> BusClosed:
        return BusClosed(f"{self.label}: the bus was closed")

    def _admit(self, batch: Sequence[Delivery], receiver: Receiver) -> None:
        for delivery in batch:
            self._take(delivery.wire)
            self._taken.append((receiver, delivery))
            self._taken_bytes += len(delivery.wire.body)
        if len(self._taken) >= SETTLE_AT or self._taken_bytes >= SETTLE_BYTES:
            self._settle()
        elif self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_WITHIN, self._settle)

    def _settle(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        for receiver, delivery in self._taken:
            self.settlements.add(receiver, "ack", delivery)
        self._taken.clear()
        self._taken_bytes = 0

    def _take(self, reply: Wire) -> None:
        id = reply.headers.get(self._cause, "")
        asked = self._asked.get(id)
        if asked is not None and asked.take(reply):
            return
        why = "duplicate" if asked is not None else self._ended.get(id, "unknown")
        self.dropped[why] += 1
        log.info("a reply was dropped: %s, to message %s", why, shown(id))
