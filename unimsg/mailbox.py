"""The hand-over between an adapter's feeding side and `Receiver.receive`."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from unimsg.adapter import Delivery, ReceiverClosed, Wire

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of bodies handed out at most: twice the largest that is decoded, so that one that waits for its next try does
not keep all others out."""


PAGE = 1000
PAGE_BYTES = 16 * 1024 * 1024
"""Messages, and bytes of their bodies, that a page of `Operations.browse` has at most."""


def pages(wires: Iterable[Wire]) -> Iterator[list[Wire]]:
    """Cut so that each is within its bounds, but for a body that is larger by itself."""
    page: list[Wire] = []
    size = 0
    for wire in wires:
        if page and (len(page) == PAGE or size + len(wire.body) > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append(wire)
        size += len(wire.body)
    if page:
        yield page


class Mailbox:
    """Deliveries waiting, and those handed out and unsettled, of which there are never more than `limit`.

    It is what keeps a receiver within its prefetch whatever the broker does. Cancelling `get` loses nothing.
    Deliveries whose epoch drains are dropped instead of handed out: they were never started, and whoever drained
    the epoch gives them back. One caller of `get` at a time.
    """

    def __init__(self, limit: int, *, max_bytes: int = MAX_BYTES) -> None:
        self.limit = limit
        self._max_bytes = max_bytes
        self._waiting: deque[Delivery] = deque()
        self._out: dict[Delivery, None] = {}
        self._out_bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._closed = False
        self._failure: Exception | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def unsettled(self) -> int:
        """How many are handed out and not settled."""
        return len(self._out)

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Adds behind what waits. After `close` they are dropped: the adapter gives them back."""
        if not self._closed:
            self._waiting.extend(deliveries)
            self._notify()

    def settle(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Takes them off the books, and returns those that were on them: nothing is ever settled twice."""
        out, settled = self._out, []
        for delivery in deliveries:
            if delivery in out:
                del out[delivery]
                self._out_bytes -= len(delivery.wire.body)
                settled.append(delivery)
        self._notify()
        return settled

    def handed_out(self) -> list[Delivery]:
        """What is handed out and unsettled, oldest first."""
        return list(self._out)

    async def get(self) -> Sequence[Delivery]:
        """One or more deliveries, as there is room.

        Raises:
            ReceiverClosed: after `close()`.
            Exception: the failure that `close` was given.
        """
        while True:
            got = self._take()
            if got:
                return got
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise ReceiverClosed("the receiver is closed")
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    def close(self, failure: Exception | None = None) -> list[Delivery]:
        """Hands out nothing more; returns what waited. `failure`: what `get` raises from now on."""
        if not self._closed:
            self._closed, self._failure = True, failure
            self._notify()
        waited, self._waiting = list(self._waiting), deque()
        return waited

    def _take(self) -> list[Delivery]:
        waiting, out, got = self._waiting, self._out, []
        while waiting and len(out) < self.limit and (not out or self._out_bytes < self._max_bytes):
            delivery = waiting.popleft()
            if not delivery.epoch.draining:
                out[delivery] = None
                self._out_bytes += len(delivery.wire.body)
                got.append(delivery)
        return got

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
