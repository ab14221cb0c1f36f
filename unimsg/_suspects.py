"""What came several times and cannot be held alone, and whose turn it is of these.

Of an ordered channel: RabbitMQ keeps the order of what goes back only for those who take as many as before. From a
room: it is there to hold many. So what may kill its process is held with others, and the broker counts a death of them
all. But one is handled at a time, and the others get their turn before it, this time or the next.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from functools import partial

from unimsg._lanes import Lanes
from unimsg._pace import is_suspicious
from unimsg.adapter import Delivery, Receiver

GATHERED_WITHIN = 0.25
"""Seconds from the first of those that came several times to the last, of several partitions."""

Work = tuple[Delivery, Receiver]


def turn_of(name: str, deaths: int) -> float:
    """The place of a message or key among all that came so often. What comes behind a killer in one order comes before
    it in the next, which is its reverse, and is done before it kills again. Every second time the order is another one,
    lest two killers have the same ones between them each time."""
    digest = hashlib.blake2b(f"{deaths // 2} {name}".encode(errors="replace"), digest_size=4).digest()
    place = int.from_bytes(digest)
    return -place if deaths % 2 else place


class Suspects:
    """Those of one handler. While there are any one message is handled at a time, whatever it is.

    `go_on`: called when handlers may start again.
    """

    def __init__(self, *, ordered: bool, go_on: Callable[[], None]) -> None:
        self.held: set[Delivery] = set()
        """Those that are not settled."""
        self.gathering = False
        """Whether others may still be on their way that came as often: none is begun."""
        self._ordered = ordered
        self._go_on = go_on
        self._past: set[str | None] = set()
        """Keys of which the message that had its last chance is done with."""

    def look(self, batch: Sequence[Delivery]) -> None:
        """Takes in what came several times, before it is begun."""
        suspicious = [delivery for delivery in batch if is_suspicious(delivery)]
        if suspicious and not self.held and self._ordered:  # what leaves a room together comes together
            self.gathering = True
            asyncio.get_running_loop().call_later(GATHERED_WITHIN, self._gathered)
        self.held.update(suspicious)

    def forget(self, delivery: Delivery) -> None:
        """It is settled, or given back."""
        self.held.discard(delivery)
        asyncio.get_running_loop().call_soon(self._go_on)  # others may be begun again

    def sort(self, lanes: Lanes[Work]) -> None:
        """Whose turn it is: suspicious ones first. The others will be that when they come again."""
        lanes.sort(partial(self._place, max(delivery.redelivered or 0 for delivery in self.held)))

    def is_to_blame(self, delivery: Delivery) -> bool:
        """Asked of what has its last chance, the first of its key: the broker would give up with it what waits behind
        it, and never had its turn."""
        if not self._ordered or delivery.wire.key in self._past:
            return False
        self._past.add(delivery.wire.key)
        return True

    def _place(self, deaths: int, work: Work) -> tuple[bool, float]:
        delivery, wire = work[0], work[0].wire
        name = wire.key if self._ordered and wire.key is not None else wire.id
        return delivery not in self.held, turn_of(name, deaths)

    def _gathered(self) -> None:
        self.gathering = False
        self._go_on()
