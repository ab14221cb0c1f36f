"""Mutants that connect, make channels, or tell of them wrongly."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Self

from unimsg.adapter import (
    About,
    Adapter,
    AdapterHealth,
    Address,
    Difference,
    Kind,
    Missing,
    Receiver,
    Right,
    Wanted,
    Wire,
)
from unimsg.errors import ConnectError, PublishError, PublishForbidden, PublishUnconfirmed, TopologyError
from unimsg_contracts.mutants.broken import Broken, BrokenOperations


class HidesTheCause(Broken):
    """Has one error for every failure to connect."""

    async def connect(self, *, timeout: float) -> None:
        try:
            await super().connect(timeout=timeout)
        except ConnectError as error:
            raise ConnectError("cannot connect", reason="protocol") from error


class WaitsForEver(Broken):
    """Tries to connect without end."""

    async def connect(self, *, timeout: float) -> None:
        try:
            await super().connect(timeout=timeout)
        except ConnectError:
            await asyncio.Event().wait()


class ShowsSecrets(Broken):
    """Helpfully says which password was refused."""

    def __init__(self, inner: Adapter) -> None:
        super().__init__(inner)
        self.options: Mapping[str, object] = {}

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        made = super().from_url(url, options)
        made.options = options
        return made

    async def connect(self, *, timeout: float) -> None:
        try:
            await super().connect(timeout=timeout)
        except ConnectError as error:
            error.args = (f"{error}: options were {self.options}",)
            raise


class HidesPermissions(Broken):
    """Calls what is not allowed a lost connection."""

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        return [
            PublishUnconfirmed(str(outcome), channel=outcome.channel, message_id=outcome.message_id)
            if isinstance(outcome, PublishForbidden)
            else outcome
            for outcome in await super().send(address, messages, timeout=timeout, delay=delay)
        ]


class AcceptsAnyOption(Broken):
    """Ignores options that it does not know."""

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        return super().from_url(url, {})


class EnsuresLater(Broken):
    """Returns from `ensure` before the subscription exists."""

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        if address.subscription is None:
            await super().ensure(address, wanted, timeout=timeout)
            return

        async def later() -> None:
            await asyncio.sleep(0.3)
            await self.inner.ensure(address, wanted, timeout=timeout)

        self._later = asyncio.create_task(later())

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        if hasattr(self, "_later"):
            await asyncio.wait([self._later])
        return await super().receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)


class Replays(Broken):
    """Begins a new subscription with what was sent before."""

    def __init__(self, inner: Adapter) -> None:
        super().__init__(inner)
        self._history: dict[str, list[Wire]] = {}
        self._known: set[Address] = set()

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        self._history.setdefault(address.channel, []).extend(messages)
        return await super().send(address, messages, timeout=timeout, delay=delay)

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await super().ensure(address, wanted, timeout=timeout)
        if address.subscription and address not in self._known:
            await super().send(address, self._history.get(address.channel, []), timeout=timeout)
        self._known.add(address)


class EnsurePurges(Broken):
    """Makes a channel anew when it exists."""

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await super().ensure(address, wanted, timeout=timeout)
        if address.kind is Kind.TOPIC and not address.subscription:
            return
        receiver = await self.inner.receiver(address, prefetch=1000, timeout=timeout)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                while True:
                    await receiver.ack(await receiver.receive())
        await receiver.aclose()


class AcceptsDifferences(Broken):
    """Takes a channel as it is, whatever was declared."""

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        with suppress(TopologyError):
            await super().ensure(address, wanted, timeout=timeout)


class ReceiverCreates(Broken):
    """Makes the channel that it is asked to receive from."""

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        await self.inner.ensure(address, Wanted(), timeout=timeout)
        return await super().receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)


class SeesNothing(Broken):
    """Finds no difference, and nothing that waits."""

    class Operations(BrokenOperations):
        async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
            return []

        async def backlog(self, address: Address, *, timeout: float) -> int | None:
            return 0

    def operations(self) -> Operations:
        return self.Operations(self.inner.operations())


class SeesDifferences(Broken):
    """Finds a difference in whatever was made."""

    class Operations(BrokenOperations):
        async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
            return [Difference(f"queue {address.name} arguments", "{}", "none")]

    def operations(self) -> Operations:
        return self.Operations(self.inner.operations())


class ForgetsTheStart(Broken):
    """Lets every subscription begin now."""

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await super().ensure(address, replace(wanted, start=None), timeout=timeout)


class BrowsingRemoves(Broken):
    """Takes out what it shows."""

    class Operations(BrokenOperations):
        def __init__(self, adapter: Adapter) -> None:
            super().__init__(adapter.operations())
            self._adapter = adapter

        async def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
            found = [page async for page in super().browse(address, limit=limit, timeout=timeout)]
            receiver = await self._adapter.receiver(address, prefetch=max(1, sum(map(len, found))), timeout=timeout)
            try:
                async with asyncio.timeout(timeout if found else 0):
                    await receiver.ack(await receiver.receive())
            except TimeoutError:
                pass
            finally:
                await receiver.aclose()
            for page in found:
                yield page

    def operations(self) -> Operations:
        return self.Operations(self.inner)


class ShowsOnePage(Broken):
    """Takes what fits into one page for all that is there."""

    class Operations(BrokenOperations):
        async def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
            async for page in super().browse(address, limit=limit, timeout=timeout):
                yield page
                return

    def operations(self) -> Operations:
        return self.Operations(self.inner.operations())


class FindsWhatIsAsked(Broken):
    """Says of any channel that it is as the caller thinks."""

    class Operations(BrokenOperations):
        async def find(self, address: Address, *, timeout: float) -> Address:
            return address

    def operations(self) -> Operations:
        return self.Operations(self.inner.operations())


class DeletesNothing(Broken):
    """Leaves it to the broker to clean up."""

    class Operations(BrokenOperations):
        async def delete(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
            if address.kind is Kind.TOPIC and address.subscription is None:
                raise ValueError(address.name)

    def operations(self) -> Operations:
        return self.Operations(self.inner.operations())


class TemporaryAsAny(Broken):
    """Makes a temporary subscription like any other, its topic included."""

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await super().ensure(address, replace(wanted, temporary=False), timeout=timeout)


class AllowsAll(Broken):
    """Misses no permission."""

    class Operations(BrokenOperations):
        async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
            return []

    def operations(self) -> Operations:
        return self.Operations(self.inner.operations())


class AsksByDoing(Broken):
    """Makes what it is asked about."""

    class Operations(BrokenOperations):
        def __init__(self, adapter: Adapter) -> None:
            super().__init__(adapter.operations())
            self._adapter = adapter

        async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
            await self._adapter.ensure(address, Wanted(), timeout=timeout)
            return []

    def operations(self) -> Operations:
        return self.Operations(self.inner)


class SaysNothing(Broken):
    """Does not know what it speaks to."""

    class Operations(BrokenOperations):
        async def about(self, *, timeout: float) -> About:
            return About("", "")

    def operations(self) -> Operations:
        return self.Operations(self.inner.operations())


class AlwaysWell(Broken):
    """Never tells that the broker is away."""

    def health(self) -> AdapterHealth:
        health = super().health()
        receivers = [replace(receiver, consuming=True, problem=None) for receiver in health.receivers]
        return AdapterHealth(True, receivers=receivers)
