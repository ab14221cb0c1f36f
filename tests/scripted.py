"""A broker under the test's thumb: it hands out what the test says, in epochs that the test ends, and checks that the
core keeps its half of the port."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import ClassVar

from unimsg.adapter import (
    AdapterHealth,
    Address,
    Delivery,
    Epoch,
    Receiver,
    ReceiverClosed,
    ReceiverHealth,
    SettlementLost,
    Wire,
)
from unimsg.errors import PublishError, Refused
from unimsg.mailbox import Mailbox
from unimsg.memory import MemoryAdapter


class ScriptedReceiver(Receiver):
    def __init__(self, address: Address, prefetch: int) -> None:
        self.address = address
        self.prefetch = prefetch
        self.mailbox = Mailbox(prefetch)
        self.acked: list[str] = []
        self.released: list[str] = []
        self.lost: list[str] = []
        """Acknowledged, but of an epoch that is over: they may come again."""
        self.wrong: list[str] = []
        """What the core must not do, and did."""
        self.failures: list[Exception] = []
        """What `receive` raises next."""
        self.settling_fails: Exception | None = None
        self.stopped = self.closed = False
        self._made = 0

    def give(self, *names: str, epoch: Epoch, key: str | None = None, body: bytes = b"1") -> list[Delivery]:
        """Deliveries of these ids."""
        self._made += 1
        made = [Delivery(Wire(name, body, {}, key), epoch, token=(self._made, name)) for name in names]
        self.mailbox.put(made)
        return made

    async def receive(self) -> Sequence[Delivery]:
        while self.failures:
            raise self.failures.pop(0)
        got = await self.mailbox.get()
        self.wrong += [f"{delivery.wire.id}: handed out while draining" for delivery in got if delivery.epoch.draining]
        return got

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.sleep(0)
        if self.settling_fails is not None:
            raise self.settling_fails
        lost = [delivery for delivery in self._settle(deliveries, "ack") if delivery.epoch.over]
        self.acked += [delivery.wire.id for delivery in deliveries if delivery not in lost]
        self.lost += [delivery.wire.id for delivery in lost]
        if lost:
            raise SettlementLost(f"{len(lost)} may come again")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.sleep(0)
        if self.settling_fails is not None:
            raise self.settling_fails
        for delivery in self._settle(deliveries, "release"):
            if self.address.ordered and not delivery.epoch.draining:
                self.wrong.append(f"{delivery.wire.id}: released on an ordered address, of a live epoch")
            self.released.append(delivery.wire.id)

    async def stop(self) -> None:
        self.stopped = True
        self.mailbox.close()

    async def aclose(self) -> None:
        if not self.stopped:
            await self.stop()
        self.closed = True

    def _settle(self, deliveries: Sequence[Delivery], verb: str) -> list[Delivery]:
        if self.closed:
            self.wrong += [f"{delivery.wire.id}: {verb} after the end" for delivery in deliveries]
        settled = self.mailbox.settle(deliveries)
        self.wrong += [
            f"{delivery.wire.id}: {verb}, and settled before" for delivery in deliveries if delivery not in settled
        ]
        return settled


class Scripted(MemoryAdapter):
    """Its receivers are the test's; all else is memory's. `forget` before use."""

    receivers: ClassVar[list[ScriptedReceiver]] = []
    problems: ClassVar[list[str]] = []
    consuming_since: ClassVar[float | None] = None
    """Since when its receivers have been without the broker, by `monotonic()`; None: they are not."""
    lost_connection: ClassVar[bool] = False
    refuses: ClassVar[bool] = False
    """Whether it stores nothing."""

    @classmethod
    def forget(cls) -> None:
        cls.receivers, cls.problems, cls.consuming_since, cls.lost_connection = [], [], None, False
        cls.refuses = False

    async def receiver(  # type: ignore[override]  # another receiver than memory's
        self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0
    ) -> ScriptedReceiver:
        self.receivers.append(ScriptedReceiver(address, prefetch))
        return self.receivers[-1]

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if self.refuses:
            return [Refused("no room", channel=address.name, message_id=wire.id) for wire in messages]
        return await super().send(address, messages, timeout=timeout, delay=delay)

    def health(self) -> AdapterHealth:
        away = self.consuming_since
        receivers = [
            ReceiverHealth(
                receiver.address,
                consuming=away is None,
                since=monotonic() if away is None else away,
                last_delivery=None,
                unsettled=receiver.mailbox.unsettled,
            )
            for receiver in self.receivers
        ]
        return AdapterHealth(not self.lost_connection, self.problems, receivers)


__all__ = ["ReceiverClosed", "Scripted", "ScriptedReceiver"]
