"""Keeping what this process holds: Pub/Sub gives a message to another receiver when its lease runs out."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import NamedTuple

from unimsg.adapter import Delivery, Wire
from unimsg.mailbox import MAX_BYTES
from unimsg.surprises import Surprises
from unimsg_pubsub.log import log
from unimsg_pubsub.settlements import Settlements


class Room(NamedTuple):
    """How much more may be leased."""

    messages: int
    bytes: int
    share: float
    """Of what may be leased altogether; 0 or less: there is none."""


class Leases:
    """The deliveries of one receiver that are leased to it, handed out or waiting, oldest first.

    `limit`: how many are wanted at most; their bodies are limited as in the mailbox. `on_room` is called whenever there
    are less. `on_lapse` is called when they have run out, as far as this process can know: nothing could be extended
    for a whole deadline, because the connection or the event loop stood still.
    """

    def __init__(
        self,
        settlements: Settlements,
        seconds: int,
        limit: int,
        *,
        on_room: Callable[[], None],
        on_lapse: Callable[[], None],
    ) -> None:
        self._settlements = settlements
        self._seconds = seconds
        self._limit = limit
        self._on_room = on_room
        self._on_lapse = on_lapse
        # Keyed by delivery: nothing says that a redelivery has another ack id.
        self._held: dict[Delivery, float] = {}
        self._bytes = 0
        self._aside = 0
        self._task: asyncio.Task[None] | None = None
        self.surprises = Surprises(log)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """They were received now."""
        self._held.update(dict.fromkeys(deliveries, monotonic() + self._seconds))
        self._bytes += sum(len(delivery.wire.body) for delivery in deliveries)

    def drop(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Extends them no more; returns those that were still leased."""
        dropped = [delivery for delivery in deliveries if self._held.pop(delivery, None) is not None]
        self._bytes -= sum(len(delivery.wire.body) for delivery in dropped)
        self._on_room()
        return dropped

    def set_aside(self, deliveries: Sequence[Delivery]) -> None:
        """Goes on extending them until all is dropped, but keeps nothing else of them, and counts them no more."""
        ends = {each: end for each in deliveries if (end := self._held.get(each)) is not None}
        self._held.update({Delivery(Wire("", b""), each.epoch, each.token): end for each, end in ends.items()})
        self._aside += len(ends)
        self.drop(ends)

    def drop_all(self) -> list[Delivery]:
        self._aside = 0
        return self.drop(self.held())

    def held(self) -> list[Delivery]:
        return list(self._held)

    def room(self) -> Room:
        messages, bytes_ = self._limit + self._aside - len(self._held), MAX_BYTES - self._bytes
        return Room(messages, bytes_, min(messages / self._limit, bytes_ / MAX_BYTES))

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        step = self._seconds / 3
        while True:
            await asyncio.sleep(step)
            try:
                if any(end <= monotonic() for end in self._held.values()):
                    self._on_lapse()
                await self._extend(within=step)
                self.surprises.over()
            except Exception as error:  # noqa: BLE001  # without this task every lease would be lost, silently
                self.surprises.tell("pubsub: leases could not be extended", error)

    async def _extend(self, *, within: float) -> None:
        held = self.held()
        if not held:
            return
        begun = monotonic()
        lost = await self._settlements.lease(tokens(held), self._seconds, within=within)
        for delivery in held:
            if str(delivery.token) not in lost and delivery in self._held:  # else it was settled meanwhile
                self._held[delivery] = begun + self._seconds
        if lost:
            self.drop(each for each in held if (failure := lost.get(str(each.token))) and failure.gone)
            log.info("pubsub: %d leases not extended: %s", len(lost), next(iter(lost.values())).why)


def tokens(deliveries: Sequence[Delivery]) -> list[str]:
    """Their ack ids."""
    return [str(delivery.token) for delivery in deliveries]
