"""Adapters over the broker in memory that remember what the core asked of them, and can be made to fail."""

from collections.abc import Sequence
from typing import ClassVar

from unimsg.adapter import Address, Wanted, Wire
from unimsg.errors import PublishError
from unimsg.memory import MemoryAdapter, MemoryOptions


class TeaOptions(MemoryOptions):
    broker: ClassVar[str] = "tea"

    sugar: int = 0


class Tea(MemoryAdapter):
    """A third party's broker. What was asked of all its adapters lies in class variables: `forget` before use."""

    broker = "tea"
    options_type = TeaOptions
    ensured: ClassVar[list[tuple[Address, Wanted]]] = []
    sent: ClassVar[list[tuple[Address, Wire]]] = []
    connected: ClassVar[list[float]] = []
    fails_to_connect: ClassVar[Exception | None] = None

    @classmethod
    def forget(cls) -> None:
        cls.ensured, cls.sent, cls.connected, cls.fails_to_connect = [], [], [], None

    async def connect(self, *, timeout: float) -> None:
        self.connected.append(timeout)
        if self.fails_to_connect is not None:
            raise self.fails_to_connect
        await super().connect(timeout=timeout)

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        self.ensured.append((address, wanted))
        await super().ensure(address, wanted, timeout=timeout)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        self.sent.extend((address, wire) for wire in messages)
        return await super().send(address, messages, timeout=timeout, delay=delay)
