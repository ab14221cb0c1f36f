"""An adapter around any other, which does all as that one does. A mutant overrides what it breaks."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import ClassVar, Self

from unimsg.adapter import (
    About,
    Adapter,
    AdapterHealth,
    Address,
    Delivery,
    Difference,
    Missing,
    Operations,
    Receiver,
    Right,
    Wanted,
    Wire,
)
from unimsg.errors import PublishError


class Broken(Adapter):
    inner_type: ClassVar[type[Adapter]]
    receiver_type: "ClassVar[type[BrokenReceiver] | None]" = None
    """What its receivers are put into."""

    def __init__(self, inner: Adapter) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        return cls(cls.inner_type.from_url(url, options))

    async def connect(self, *, timeout: float) -> None:
        await self.inner.connect(timeout=timeout)

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await self.inner.ensure(address, wanted, timeout=timeout)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        return await self.inner.send(address, messages, timeout=timeout, delay=delay)

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        inner = await self.inner.receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)
        return self.receiver_type(inner) if self.receiver_type else inner

    def health(self) -> AdapterHealth:
        return self.inner.health()

    def operations(self) -> Operations:
        return self.inner.operations()

    async def aclose(self, *, timeout: float) -> None:
        await self.inner.aclose(timeout=timeout)


class BrokenReceiver(Receiver):
    def __init__(self, inner: Receiver) -> None:
        self.inner = inner

    async def receive(self) -> Sequence[Delivery]:
        return await self.inner.receive()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.ack(deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.release(deliveries)

    async def stop(self) -> None:
        await self.inner.stop()

    async def aclose(self) -> None:
        await self.inner.aclose()


class BrokenOperations(Operations):
    def __init__(self, inner: Operations) -> None:
        self.inner = inner

    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        return await self.inner.inspect(address, wanted, timeout=timeout)

    async def backlog(self, address: Address, *, timeout: float) -> int | None:
        return await self.inner.backlog(address, timeout=timeout)

    def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        return self.inner.browse(address, limit=limit, timeout=timeout)

    def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        return self.inner.history(topic, since, timeout=timeout)

    async def find(self, address: Address, *, timeout: float) -> Address:
        return await self.inner.find(address, timeout=timeout)

    async def delete(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await self.inner.delete(address, wanted, timeout=timeout)

    async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
        return await self.inner.permissions(address, right, timeout=timeout)

    async def about(self, *, timeout: float) -> About:
        return await self.inner.about(timeout=timeout)


@cache
def around(mutant: type[Broken] | type[BrokenReceiver], adapter: type[Adapter]) -> type[Broken]:
    """An adapter type that is `adapter` but for what the mutant breaks."""
    members = {name: getattr(adapter, name) for name in ("broker", "attribute_prefix", "options_type")}
    members |= {"inner_type": adapter, "__module__": mutant.__module__}
    base = mutant
    if issubclass(mutant, BrokenReceiver):
        base, members["receiver_type"] = Broken, mutant
    made: type[Broken] = type(mutant.__name__, (base,), members)
    return made
