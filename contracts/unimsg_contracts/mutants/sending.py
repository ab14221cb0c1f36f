"""Mutants that send wrongly."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace

from unimsg.adapter import Adapter, Address, Kind, Wanted, Wire
from unimsg.errors import PublishError, PublishRejected, PublishUnconfirmed, Refused, Unroutable
from unimsg_contracts.mutants.broken import Broken

Outcomes = Sequence[PublishError | None]


class LosesMessages(Broken):
    """Confirms every second message without storing it."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        await super().send(address, messages[::2], timeout=timeout, delay=delay)
        return [None] * len(messages)


class Truncates(Broken):
    """Stores the first 500 messages of a batch, and confirms all."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        outcomes = await super().send(address, messages[:500], timeout=timeout, delay=delay)
        return [*outcomes, *[None] * len(messages[500:])]


class Twice(Broken):
    """Sends each message twice, as a retry without care would."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        outcomes = await super().send(address, messages, timeout=timeout, delay=delay)
        await super().send(address, messages, timeout=timeout, delay=delay)
        return outcomes


class CreatesMissing(Broken):
    """Makes the channel that a message is sent to."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        await self.inner.ensure(address, Wanted(), timeout=timeout)
        return await super().send(address, messages, timeout=timeout, delay=delay)


class SwallowsRefusals(Broken):
    """Reports every failure as stored."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        await super().send(address, messages, timeout=timeout, delay=delay)
        return [None] * len(messages)


class RefusesWhatItStores(Broken):
    """Reports some stored messages as refused."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        outcomes = list(await super().send(address, messages, timeout=timeout, delay=delay))
        if outcomes[-1] is None and len(messages) > 1:
            outcomes[-1] = Refused("not so", channel=address.name, message_id=messages[-1].id)
        return outcomes


class RefusesAllItStores(Broken):
    """Calls everything with a body refused, and stores it."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        outcomes = await super().send(address, messages, timeout=timeout, delay=delay)
        return [
            Refused("not so", channel=address.name, message_id=wire.id) if wire.body else outcome
            for wire, outcome in zip(messages, outcomes, strict=True)
        ]


class FailsTheBatch(Broken):
    """One failure fails its neighbours in the batch."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        outcomes = await super().send(address, messages, timeout=timeout, delay=delay)
        failed = [outcome for outcome in outcomes if outcome is not None]
        return [failed[0]] * len(messages) if failed else outcomes


class FailsItsNeighbours(Broken):
    """A missing channel fails the next send to another one, as a channel closed by the broker does."""

    _closed = False

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        if self._closed:
            self._closed = False
            return [PublishUnconfirmed("closed", channel=address.name, message_id=wire.id) for wire in messages]
        outcomes = await super().send(address, messages, timeout=timeout, delay=delay)
        self._closed = any(isinstance(outcome, Unroutable) for outcome in outcomes)
        return outcomes


class WantsSubscriptions(Broken):
    """Refuses what is sent to a topic that nobody subscribed to."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        if address.kind is Kind.TOPIC:
            return [Unroutable("nobody listens", channel=address.name, message_id=wire.id) for wire in messages]
        return await super().send(address, messages, timeout=timeout, delay=delay)


class FirstSubscriptionOnly(Broken):
    """Sends to one subscription of a topic, as to a queue."""

    def __init__(self, inner: Adapter) -> None:
        super().__init__(inner)
        self._first: dict[str, str] = {}

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await super().ensure(address, wanted, timeout=timeout)
        if address.subscription:
            self._first.setdefault(address.channel, address.subscription)

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        target = replace(address, subscription=self._first.get(address.channel))
        return await super().send(target, messages, timeout=timeout, delay=delay)


class IgnoresDeadlines(Broken):
    """Waits for the broker as long as it takes."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        return await super().send(address, messages, timeout=timeout + 60.0, delay=delay)


class CallsUnconfirmedRejected(Broken):
    """Says "certainly not stored" of what may be stored."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        return [
            PublishRejected(str(outcome), channel=outcome.channel, message_id=outcome.message_id)
            if isinstance(outcome, PublishUnconfirmed)
            else outcome
            for outcome in await super().send(address, messages, timeout=timeout, delay=delay)
        ]


class GivesUpAtOnce(Broken):
    """Does not wait for a reconnection."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        return await super().send(address, messages, timeout=min(timeout, 0.1), delay=delay)


class IgnoresDelays(Broken):
    """Sends at once what was to be delayed."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        return await super().send(address, messages, timeout=timeout)


class ShufflesKeys(Broken):
    """Stores a batch in another order."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        outcomes = await super().send(address, messages[::-1], timeout=timeout, delay=delay)
        return outcomes[::-1]


class LetsCallsOvertake(Broken):
    """Of overlapping calls, a later one is sometimes stored first."""

    def __init__(self, inner: Adapter) -> None:
        super().__init__(inner)
        self._calls = itertools.count()

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        if next(self._calls) % 2:
            await asyncio.sleep(0.01)
        return await super().send(address, messages, timeout=timeout, delay=delay)


class DropsHeaders(Broken):
    """Sends the body alone."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        bare = [replace(wire, headers={}) for wire in messages]
        return await super().send(address, bare, timeout=timeout, delay=delay)


class ReadsBodiesAsText(Broken):
    """Takes every body for text."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        text = [replace(wire, body=wire.body.decode(errors="replace").encode()) for wire in messages]
        return await super().send(address, text, timeout=timeout, delay=delay)


class MakesIds(Broken):
    """Gives each message a new id."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        named = [replace(wire, id=f"new-{n}") for n, wire in enumerate(messages)]
        return await super().send(address, named, timeout=timeout, delay=delay)


class InventsKeys(Broken):
    """Gives a key to messages that have none."""

    async def send(self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0) -> Outcomes:
        keyed = [replace(wire, key=wire.key or "") for wire in messages]
        return await super().send(address, keyed, timeout=timeout, delay=delay)
