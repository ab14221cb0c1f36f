"""Mutants that receive and settle wrongly."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from unimsg.adapter import Address, ChannelMissing, Delivery, Epoch, Kind, Receiver, ReceiverClosed, SettlementLost
from unimsg_contracts.mutants.broken import Broken, BrokenReceiver


class AcksOnReceive(BrokenReceiver):
    """Acknowledges what it hands out."""

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        await self.inner.ack(deliveries)
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None: ...

    async def release(self, deliveries: Sequence[Delivery]) -> None: ...


class LosesOnCancel(BrokenReceiver):
    """Takes messages out, and loses them if `receive` is cancelled then."""

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        for _ in range(3):
            await asyncio.sleep(0)
        return deliveries


class ReleaseAcks(BrokenReceiver):
    """Acknowledges what is given back."""

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.ack(deliveries)


class CountsGivingBack(BrokenReceiver):
    """Gives a message up that was given back ten times, as a delivery limit does."""

    def __init__(self, inner: Receiver) -> None:
        super().__init__(inner)
        self._counts: dict[str, int] = {}

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            id = delivery.wire.id
            self._counts[id] = self._counts.get(id, 0) + 1
            await (self.inner.ack if self._counts[id] > 5 else self.inner.release)([delivery])


class CloseAcks(BrokenReceiver):
    """Acknowledges everything when it closes, as an automatic commit does."""

    def __init__(self, inner: Receiver) -> None:
        super().__init__(inner)
        self._out: dict[Delivery, None] = {}

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        self._out.update(dict.fromkeys(deliveries))
        return deliveries

    async def aclose(self) -> None:
        await self.inner.ack(list(self._out))
        await super().aclose()


class CloseKeeps(BrokenReceiver):
    """Gives nothing back when it closes."""

    async def aclose(self) -> None: ...


class DropsLastAcks(BrokenReceiver):
    """Collects acknowledgements to send them later, and forgets those that it has when it closes."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None: ...


class AcksUpToTheFirstGap(BrokenReceiver):
    """Acknowledges only what has nothing open before it, as an offset does."""

    def __init__(self, inner: Receiver) -> None:
        super().__init__(inner)
        self._open: list[Delivery] = []
        self._done: set[Delivery] = set()

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        self._open += deliveries
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._done.update(deliveries)
        while self._open and self._open[0] in self._done:
            await self.inner.ack([self._open.pop(0)])


class SwallowsLost(BrokenReceiver):
    """Says nothing when an acknowledgement did not count."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        try:
            await super().ack(deliveries)
        except SettlementLost:
            return


class IgnoresPrefetch(Broken):
    """Asks the broker for three times as many messages."""

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        return await super().receiver(address, prefetch=3 * prefetch, timeout=timeout, grace=grace)


class OneForAll(BrokenReceiver):
    """Hands out nothing while any other receiver has something unsettled."""

    turn: ClassVar[asyncio.Lock]

    def __init__(self, inner: Receiver) -> None:
        super().__init__(inner)
        self._out: set[Delivery] = set()

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        if not self._out:
            await self.turn.acquire()
        self._out.update(deliveries)
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await super().ack(deliveries)
        self._out.difference_update(deliveries)
        if not self._out:
            self.turn.release()


@contextmanager
def one_turn() -> Iterator[None]:
    """For `OneForAll`: a lock of the case's own event loop."""
    OneForAll.turn = asyncio.Lock()
    yield


class OneAtATime(Broken):
    """Hands out no message of any key before the one before it is settled."""

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        return await super().receiver(address, prefetch=1, timeout=timeout, grace=grace)


class WaitsToJoin(Broken):
    """Is there when its group has settled."""

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        await asyncio.sleep(3.0)
        return await super().receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)


class StopDoesNothing(BrokenReceiver):
    """Goes on handing out after `stop`."""

    async def stop(self) -> None: ...


class StopKeepsWhatWaits(BrokenReceiver):
    """Hands out nothing after `stop`, and keeps what waits until it is closed."""

    _stopped = False

    async def receive(self) -> Sequence[Delivery]:
        if self._stopped:
            raise ReceiverClosed
        return await super().receive()

    async def stop(self) -> None:
        self._stopped = True


class StopCloses(BrokenReceiver):
    """Gives everything back at `stop`, also what is still being handled."""

    async def stop(self) -> None:
        await self.inner.aclose()


class ForgetsReceivers(Broken):
    """Closes its connection and none of its receivers."""

    async def aclose(self, *, timeout: float) -> None: ...


class SlowToClose(Broken):
    """Closes when the broker lets it."""

    async def aclose(self, *, timeout: float) -> None:
        await asyncio.sleep(timeout + 3.0)
        await super().aclose(timeout=timeout)


class NeverReconnects(BrokenReceiver):
    """Receives nothing any more once a connection was lost, and says nothing."""

    def __init__(self, inner: Receiver) -> None:
        super().__init__(inner)
        self._epochs: set[Epoch] = set()

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        self._epochs.update(delivery.epoch for delivery in deliveries)
        if any(epoch.over for epoch in self._epochs):
            await asyncio.Event().wait()
        return deliveries


class IgnoresDeletion(BrokenReceiver):
    """Waits for ever for messages of a channel that is gone."""

    async def receive(self) -> Sequence[Delivery]:
        try:
            return await super().receive()
        except ChannelMissing:
            await asyncio.Event().wait()
            raise


class DropsForeignHeaders(BrokenReceiver):
    """Knows the headers of unimsg only."""

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        for delivery in deliveries:
            object.__setattr__(delivery.wire, "headers", {})
        return deliveries


class StopsAtForeign(BrokenReceiver):
    """Comes no further than a message without the attributes of a CloudEvent."""

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        if any(delivery.wire.body == b"odd" for delivery in deliveries):
            await asyncio.Event().wait()
        return deliveries


class LateInbox(Broken):
    """Makes an inbox when it is first read."""

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        if address.kind is not Kind.INBOX:
            return await super().receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)
        return LateReceiver(lambda: self.inner.receiver(address, prefetch=prefetch, timeout=timeout, grace=grace))


class LateReceiver(BrokenReceiver):
    def __init__(self, make: Callable[[], Awaitable[Receiver]]) -> None:
        self._make = make

    async def receive(self) -> Sequence[Delivery]:
        if not hasattr(self, "inner"):
            self.inner = await self._make()
        return await self.inner.receive()

    async def aclose(self) -> None:
        if hasattr(self, "inner"):
            await self.inner.aclose()


class HandsOutHeld(BrokenReceiver):
    """Hands out again what is still being handled: a lease that nobody extends."""

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        return [*deliveries, *deliveries]
