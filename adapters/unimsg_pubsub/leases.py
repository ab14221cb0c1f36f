"""Keeping what this process holds: Pub/Sub gives a message to another receiver when its lease runs out."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from unimsg.adapter import Delivery
from unimsg_pubsub.settlements import Settlements

log = logging.getLogger("unimsg.pubsub")


class Leases:
    """The deliveries of one receiver that are leased to it, handed out or waiting, oldest first.

    `on_lapse` is called when they have run out, as far as this process can know: nothing could be extended for a whole
    deadline, because the connection or the event loop stood still.
    """

    def __init__(self, settlements: Settlements, seconds: int, on_lapse: Callable[[], None]) -> None:
        self._settlements = settlements
        self._seconds = seconds
        self._on_lapse = on_lapse
        # Keyed by delivery: nothing says that a redelivery has another ack id.
        self._held: dict[Delivery, float] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """They were received now."""
        self._held.update(dict.fromkeys(deliveries, monotonic() + self._seconds))

    def drop(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Extends them no more; returns those that were still leased."""
        return [delivery for delivery in deliveries if self._held.pop(delivery, None) is not None]

    def held(self) -> list[Delivery]:
        return list(self._held)

    def drop_all(self) -> list[Delivery]:
        dropped, self._held = list(self._held), {}
        return dropped

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        step = self._seconds / 3
        while True:
            await asyncio.sleep(step)
            if any(end <= monotonic() for end in self._held.values()):
                self._on_lapse()
            try:
                await self._extend(within=step)
            except Exception:  # whatever it is: without this task every lease would be lost, silently
                log.exception("pubsub: leases could not be extended")

    async def _extend(self, *, within: float) -> None:
        held = self.held()
        if not held:
            return
        begun = monotonic()
        lost = await self._settlements.lease(tokens(held), self._seconds, within=within)
        for delivery in held:
            failure = lost.get(str(delivery.token))
            if failure is None and delivery in self._held:  # else it was settled meanwhile
                self._held[delivery] = begun + self._seconds
            elif failure is not None and failure.gone:
                self._held.pop(delivery, None)
        if lost:
            log.info("pubsub: %d leases not extended: %s", len(lost), next(iter(lost.values())).why)


def tokens(deliveries: Sequence[Delivery]) -> list[str]:
    """Their ack ids."""
    return [str(delivery.token) for delivery in deliveries]
