"""Receiving from the broker in memory."""

from collections.abc import Sequence
from time import monotonic

from unimsg._memory_broker import Entry, Line, MemoryBroker
from unimsg.adapter import (
    ChannelMissing,
    Delivery,
    Epoch,
    Kind,
    Receiver,
    ReceiverHealth,
    SettlementLost,
)
from unimsg.mailbox import Mailbox


class MemoryReceiver(Receiver):
    def __init__(self, broker: MemoryBroker, line: Line, prefetch: int) -> None:
        self._broker = broker
        self._line = line
        self._prefetch = prefetch
        self._mailbox = Mailbox(prefetch)
        self._epoch = Epoch()
        self._open: dict[Delivery, Entry] = {}  # given to this receiver and unsettled, oldest first
        self._stopped = False
        self._deleted = False
        self.closed = False
        self._since = monotonic()
        self._last_delivery: float | None = None
        line.receivers.append(self)
        line.pump()

    @property
    def has_room(self) -> bool:
        return not (self._stopped or self._epoch.draining) and len(self._open) < self._prefetch

    def give(self, entry: Entry) -> None:
        """From the line."""
        delivery = Delivery(entry.wire, self._epoch, entry, raw=entry.wire, redelivered=entry.deliveries)
        entry.deliveries += 1
        self._open[delivery] = entry
        self._last_delivery = monotonic()
        self._mailbox.put([delivery])

    async def receive(self) -> Sequence[Delivery]:
        return await self._mailbox.get()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        lost = 0
        for delivery in self._mailbox.settle(deliveries):
            entry = self._open.pop(delivery, None)
            if entry is None:
                lost += 1
            else:
                self._line.done(self, entry)
        self._line.pump()
        if lost:
            raise SettlementLost(f"memory: {lost} messages of {self._line.address.name} come again")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        released = self._mailbox.settle(deliveries)
        if not self._line.address.ordered:  # else they go back with the rest of their epoch, in their order
            self._give_back(released)
            self._line.pump()

    async def stop(self) -> None:
        if not self._stopped:
            self._since = monotonic()
        self._stopped = True
        waited = self._mailbox.close()
        if not self._line.address.ordered:  # of an ordered line, a key may still run here: `aclose` gives it back
            self._give_back(waited)
            self._line.pump()

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self.stop()
        self._give_back(list(self._open))
        self._epoch.end()
        if self in self._line.receivers:
            self._line.receivers.remove(self)
        self._line.pump()
        if self._line.address.kind is Kind.INBOX:
            self._broker.queues.pop(self._line.address.channel, None)

    def lose_connection(self) -> None:
        """Everything unsettled goes back; the next deliveries are of a new epoch."""
        self._give_back(list(self._open))
        self._epoch.end()
        self._epoch = Epoch()

    def lose_channel(self) -> None:
        self._stopped = self._deleted = True
        self._since = monotonic()
        self._open.clear()
        self._epoch.end()
        self._mailbox.close(ChannelMissing(f"memory: {self._line.address.name} was deleted"))

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(
            self._line.address,
            consuming=not self._stopped,
            since=self._since,
            last_delivery=self._last_delivery,
            unsettled=self._mailbox.unsettled,
            problem="its channel was deleted" if self._deleted else None,
        )

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        wanted = set(deliveries)
        back = [delivery for delivery in self._open if delivery in wanted]
        self._line.back(self, [self._open.pop(delivery) for delivery in back])
