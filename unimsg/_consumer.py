"""Intake → lanes → handler → settlement, for one handler; what fails waits or is a dead letter; and its orderly end."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from unimsg._answers import Answers
from unimsg._brokers import Broker
from unimsg._copies import Copies
from unimsg._failing import Failing
from unimsg._handling import Attempt
from unimsg._held import Held, Work
from unimsg._intake import Intake
from unimsg._lanes import Lane
from unimsg._pace import Pace
from unimsg._room import Rooms
from unimsg._tries import Tries
from unimsg._waiting import due_of, retry_room, rooms_of
from unimsg._workers import Worker, Workers
from unimsg.adapter import Address, Delivery, Epoch, Receiver, Wanted
from unimsg.retry import Retry


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one handler; times in seconds."""

    concurrency: int
    prefetch: int
    timeout: float
    grace: float


class Consumer:
    """One handler at work. Nothing that happens to a message or a connection ends it before `stop`."""

    def __init__(
        self,
        name: str,
        broker: Broker,
        address: Address,
        wanted: Wanted,
        attempt: Attempt,
        *,
        limits: Limits,
        retry: Retry,
        answers: Answers,
        expose_errors: bool,
    ) -> None:
        self.name = name
        self._address = address
        self._attempt = attempt
        self._limits = limits
        # An ordered message waits in its place; others may have to be kept back by the broker.
        delays = () if address.ordered else tuple(sorted({delay for delay in retry.delays if delay > 0}))
        self._copies = Copies(broker, address, wanted, delays)
        if self._copies.native:
            wanted = replace(wanted, delays=delays)
        self._intake = Intake(name, broker, address, wanted, self._admit, prefetch=limits.prefetch, grace=limits.grace)
        self._rooms = Rooms(
            name, broker, partial(retry_room, address), Wanted(wanted.options), self._left_room, grace=limits.grace
        )
        self._first_rooms = self._rooms_for(delays)
        self._failing = Failing(
            self._copies, retry, answers, origin=name, handler=attempt.name, expose_errors=expose_errors
        )
        self.failures = self._failing.failures
        self._held = Held(
            self._failing, slots=limits.concurrency, ordered=address.ordered, go_on=lambda: self._start_workers()
        )
        self.settlements = self._held.settlements
        self._tries = Tries(
            name,
            attempt,
            self._held,
            self._failing,
            self._copies,
            timeout=limits.timeout,
            ordered=address.ordered,
            go_on=lambda: self._start_workers(),
        )
        self._workers = Workers(name, limits.timeout)
        self._epochs: set[Epoch] = set()
        self._starting = False
        """Whether more workers start in the next turn of the event loop."""
        self._burst = 1
        """Workers to start at once."""
        self._counted = broker.adapter.capabilities.counts_redeliveries
        """Whether the broker gives up what it delivered too often."""
        self._operations = broker.adapter.operations()
        self._pace = Pace(
            name,
            self._intake,
            limits.prefetch,
            empty=self._empty,
            holds=self._held.holds,
            go_on=lambda: self._start_workers(),
        )

    @property
    def expired(self) -> int:
        """Messages dropped because their time was over."""
        return self._tries.expired

    @property
    def overdue(self) -> int:
        """Handlers that go on though they were told to stop a while ago: each has a slot for good."""
        return self._workers.overdue + self._tries.threads

    @property
    def choked(self) -> bool:
        """Whether failing messages, and those behind them, are all that it may hold: nothing else comes in."""
        return self._held.lanes.parked > 0 and self._held.lanes.held >= self._limits.prefetch

    @property
    def copy_problem(self) -> str | None:
        """Why a failed message cannot go on to where it waits, or to the dead letters."""
        return self._failing.problem

    @property
    def concurrency(self) -> int:
        return self._limits.concurrency

    @property
    def live(self) -> bool:
        """Whether it still takes messages in; False is a bug of ours or the end."""
        return all(intake.live for intake in self._intakes)

    @property
    def problem(self) -> str | None:
        """Why it receives nothing, or not everything, at present."""
        return next((intake.problem for intake in self._intakes if intake.problem is not None), None)

    async def start(self) -> None:
        """Raises: as `Adapter.ensure`."""
        await self._intake.prepare()  # before what belongs to the channel, which may be made like it
        rooms = [] if self._copies.native else self._first_rooms
        opened = await asyncio.gather(
            self._copies.prepare(), *(self._rooms.open(suffix) for suffix in rooms), return_exceptions=True
        )
        for error in opened:
            if error is not None:
                raise error
        if self._counted and not self._address.ordered:
            await self._pace.begin(self._operations)
        await self._intake.start()  # the last: nothing is taken in that has nowhere to go when it fails
        if rooms:
            self._rooms.look()

    async def stop(self) -> None:
        """Takes no more in, lets what runs end within the grace period, settles it, and gives the rest back."""
        self._held.stopping = True
        await self._pace.stop()
        await asyncio.gather(self._intake.stop(), self._rooms.stop())
        if not self._address.ordered:  # of an ordered one, a key may still run here: closing gives it back in order
            self._held.shed(lambda _: True)
        await self._workers.finish(self._limits.grace)
        await self._copies.aclose()
        await self.settlements.drain()
        await asyncio.gather(self._intake.aclose(), self._rooms.aclose())
        self._attempt.close()

    @property
    def _intakes(self) -> list[Intake]:
        return [self._intake, *self._rooms.intakes]

    def _rooms_for(self, delays: Sequence[float]) -> list[str]:
        """The first always, where anything can come back that way: what is redriven does."""
        if self._address.ordered and self._address.subscription is None:
            return []
        return sorted({"", *(suffix for delay in delays for suffix in rooms_of(delay))})

    # -- taking in

    def _admit(self, batch: Sequence[Delivery], receiver: Receiver) -> None:
        if self._counted and self._address.ordered:
            self._held.suspects.look(batch)
        for delivery in batch:
            self._put(delivery, receiver)
        if self._counted and not self._address.ordered:
            self._pace.saw(batch)
        self._start_workers()

    async def _empty(self) -> None:
        """Returns when no handler runs, and gives back what waits for one."""
        while tasks := self._workers.tasks:
            await asyncio.wait(tasks)
        if not self._address.ordered:
            self._held.shed(lambda _: True)
        await self.settlements.drain()

    def _left_room(self, delivery: Delivery, receiver: Receiver) -> None:
        """Its time in a room has passed."""
        due = due_of(delivery.wire)
        if due > time.time():
            self._failing.onward(delivery, due)
        elif self._counted:
            self._held.suspects.look([delivery])
        self._put(delivery, receiver)
        asyncio.get_running_loop().call_soon(self._start_workers)  # once all are here that leave it together

    def _put(self, delivery: Delivery, receiver: Receiver) -> None:
        if delivery.given_up:
            self._failing.give_up(delivery)
        if delivery.epoch not in self._epochs:
            self._epochs.add(delivery.epoch)
            delivery.epoch.on_drain(partial(self._drained, delivery.epoch))  # a lambda would keep this delivery
        self._held.put(delivery, receiver)

    def _drained(self, epoch: Epoch) -> None:
        """Called when an epoch ends or is about to: nothing of it is started any more; what runs may end, and if the
        connection still lives, within the grace period."""
        self._epochs.discard(epoch)
        self._held.shed(lambda work: work[0].epoch is epoch)
        self._start_workers()
        if not epoch.over:
            asyncio.get_running_loop().call_later(self._limits.grace, self._workers.cancel_those_of, epoch)

    # -- handling

    def _start_workers(self) -> None:
        if not self._starting:
            self._start_some()

    def _start_some(self) -> None:
        """One worker, or as many as there are: one whose handler does not wait takes all the rest by itself, and a task
        for each message would cost as much as handling it. Those that are still there a turn later wait. Next time as
        many as were needed start at once: what they send then leaves together."""
        if self._starting:
            waiting = len(self._workers)
            self._burst = min(max(self._burst, 2 * waiting), self._limits.concurrency) if waiting else 1
        started = 0
        for _ in range(max(self._burst, len(self._workers))):
            if (self._held.suspects.held and self._workers) or (lane := self._next()) is None:
                break
            worker = Worker()
            worker.task = asyncio.create_task(self._work(worker, lane))
            self._workers.add(worker)
            started += 1
        idle = self._held.stopping or self._pace.paused or self._held.suspects.held
        self._starting = not idle and (self._held.lanes.can_start or started > 1)
        if self._starting:
            asyncio.get_running_loop().call_soon(self._start_some)

    def _next(self) -> Lane[Work] | None:
        """A lane whose head may be handled now."""
        if self._held.stopping or self._pace.paused:
            return None
        if self._held.suspects.held:
            if self._held.suspects.gathering:
                return None
            self._held.suspects.sort(self._held.lanes)
        return self._held.lanes.start()

    async def _work(self, worker: Worker, lane: Lane[Work] | None) -> None:
        try:
            while lane is not None:
                await self._tries.handle(worker, lane)
                # Beside a suspicious one nothing is begun: of several workers the last one goes on.
                lane = None if self._held.suspects.held and len(self._workers) > 1 else self._next()
        finally:
            self._workers.remove(worker)
