"""What the core does with a receiver, in its smallest form: to judge the order that an adapter makes possible."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from unimsg.adapter import Delivery, Receiver, ReceiverClosed, SettlementLost


@dataclass(slots=True)
class History:
    """What all workers together did, for the judgement."""

    running: Counter[str] = field(default_factory=Counter)
    overlaps: list[str] = field(default_factory=list)
    """Keys of which two messages were handled at once."""
    handled: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By key, the bodies in the order of handling."""
    done: int = 0

    def begin(self, delivery: Delivery) -> None:
        key = delivery.wire.key or ""
        if self.running[key]:
            self.overlaps.append(key)
        self.running[key] += 1
        self.handled[key].append(int(delivery.wire.body))

    def end(self, delivery: Delivery) -> None:
        self.running[delivery.wire.key or ""] -= 1
        self.done += 1

    def disorder(self) -> list[str]:
        """Keys whose messages were first handled in another order than they were sent in."""
        return [key for key, bodies in self.handled.items() if (first := list(dict.fromkeys(bodies))) != sorted(first)]

    def distinct(self) -> int:
        return sum(len(set(bodies)) for bodies in self.handled.values())

    def repeats(self) -> int:
        return sum(len(bodies) - len(set(bodies)) for bodies in self.handled.values())


class Worker:
    """Handles the messages of one key one after the other, of different keys at once, and settles each after it."""

    def __init__(self, receiver: Receiver, history: History, handle: Callable[[Delivery], Awaitable[None]]) -> None:
        self._receiver = receiver
        self._history = history
        self._handle = handle
        self._lanes: dict[str | None, deque[Delivery]] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._intake = asyncio.create_task(self._receive())

    async def leave(self) -> None:
        """As a service ends: no new messages, what runs ends and is settled, the rest goes back."""
        await self._receiver.stop()
        self._leaving = True
        while self._runs:
            await asyncio.wait(self._runs)
        await self._intake
        await self._receiver.aclose()

    async def abandon(self) -> None:
        """Ends everything at once, at the end of a case."""
        tasks = [self._intake, *self._runs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            try:
                deliveries = await self._receiver.receive()
            except ReceiverClosed:
                return
            for delivery in deliveries:
                lane = self._lanes.get(delivery.wire.key)
                if lane is None:
                    lane = self._lanes[delivery.wire.key] = deque()
                    run = asyncio.create_task(self._run(delivery.wire.key, lane))
                    self._runs.add(run)
                    run.add_done_callback(self._runs.discard)
                lane.append(delivery)

    async def _run(self, key: str | None, lane: deque[Delivery]) -> None:
        while lane:
            delivery = lane.popleft()
            if self._leaving:
                continue  # `aclose` gives it back
            if delivery.epoch.draining:
                await self._receiver.release([delivery])
                continue
            self._history.begin(delivery)
            try:
                await self._handle(delivery)
            finally:
                self._history.end(delivery)
            with suppress(SettlementLost):  # then it comes again: at least once
                await self._receiver.ack([delivery])
        del self._lanes[key]
