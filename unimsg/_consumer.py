"""Intake → lanes → handler → settlement, for one handler; what fails waits or is a dead letter; and its orderly end."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Literal

from unimsg._answers import Answers
from unimsg._brokers import Broker
from unimsg._copies import Copies
from unimsg._failing import Failing
from unimsg._handling import Attempt, StillRunning
from unimsg._intake import Intake
from unimsg._lanes import Lane, Lanes
from unimsg._message import now, shown
from unimsg._pace import Pace, is_suspicious
from unimsg._room import Rooms
from unimsg._settlements import Settlements
from unimsg._waiting import due_of, retry_room, rooms_of
from unimsg._workers import Cause, Worker, Workers
from unimsg.adapter import Address, Delivery, Epoch, Receiver, Wanted
from unimsg.dead_letters import first_failed_of
from unimsg.retry import Retry

log = logging.getLogger("unimsg")

CANCELLED_AGAIN_AFTER = 1.0
"""Seconds until a message whose task others cancelled is handled again."""
Work = tuple[Delivery, Receiver]


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
        self.settlements = Settlements()
        self.expired = 0
        """Messages dropped because their time was over."""
        self._address = address
        self._attempt = attempt
        self._limits = limits
        self._lanes: Lanes[Work] = Lanes(limits.concurrency)
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
        self._workers = Workers(name, limits.timeout)
        self._epochs: set[Epoch] = set()
        self._starting = False
        """Whether more workers start in the next turn of the event loop."""
        self._threads = 0
        """Of `def` handlers that were told to stop, and run on."""
        self._counted = broker.adapter.capabilities.counts_redeliveries
        """Whether the broker gives up what it delivered too often."""
        self._suspicious: set[Delivery] = set()
        """What came several times of an ordered channel, and may be one that kills its process. While there is any, one
        is handled at a time, of any key. It cannot be held alone: RabbitMQ keeps the order of what goes back only for
        those who take as many as before. But its neighbours get their turn before it, sooner or later."""
        self._operations = broker.adapter.operations()
        self._pace = Pace(
            name,
            self._intake,
            limits.prefetch,
            empty=self._empty,
            holds=lambda receiver: self._lanes.any(lambda work: work[1] is receiver),
            go_on=lambda: self._start_workers(),
        )
        self._stopping = False

    @property
    def overdue(self) -> int:
        """Handlers that go on though they were told to stop a while ago: each has a slot for good."""
        return self._workers.overdue + self._threads

    @property
    def choked(self) -> bool:
        """Whether failing messages, and those behind them, are all that it may hold: nothing else comes in."""
        return self._lanes.parked > 0 and self._lanes.held >= self._limits.prefetch

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
        self._stopping = True
        await self._pace.stop()
        await asyncio.gather(self._intake.stop(), self._rooms.stop())
        if not self._address.ordered:  # of an ordered one, a key may still run here: closing gives it back in order
            self._shed(lambda _: True)
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
        for delivery in batch:
            self._put(delivery, receiver)
        if self._counted and not self._address.ordered:
            self._pace.saw(batch)
        elif self._counted:
            self._suspicious.update(delivery for delivery in batch if is_suspicious(delivery))
        self._start_workers()

    async def _empty(self) -> None:
        """Returns when no handler runs, and gives back what waits for one."""
        while tasks := self._workers.tasks:
            await asyncio.wait(tasks)
        if not self._address.ordered:
            self._shed(lambda _: True)
        await self.settlements.drain()

    def _left_room(self, delivery: Delivery, receiver: Receiver) -> None:
        """Its time in a room has passed."""
        due = due_of(delivery.wire)
        if due > time.time():
            self._failing.onward(delivery, due)
        self._put(delivery, receiver)
        self._start_workers()

    def _put(self, delivery: Delivery, receiver: Receiver) -> None:
        if delivery.given_up:
            self._failing.give_up(delivery)
        if delivery.epoch not in self._epochs:
            self._epochs.add(delivery.epoch)
            delivery.epoch.on_drain(partial(self._drained, delivery.epoch))  # a lambda would keep this delivery
        key = delivery.wire.key if self._address.ordered else None
        self._lanes.put(delivery if key is None else key, (delivery, receiver))  # a lane of its own: it can be parked

    def _drained(self, epoch: Epoch) -> None:
        """Called when an epoch ends or is about to: nothing of it is started any more; what runs may end, and if the
        connection still lives, within the grace period."""
        self._epochs.discard(epoch)
        self._shed(lambda work: work[0].epoch is epoch)
        self._start_workers()
        if not epoch.over:
            asyncio.get_running_loop().call_later(self._limits.grace, self._workers.cancel_those_of, epoch)

    def _shed(self, unwanted: Callable[[Work], bool]) -> None:
        """Gives back what does not run."""
        for delivery, receiver in self._lanes.shed(unwanted):
            self._forget(delivery)
            self.settlements.add(receiver, "release", delivery)

    # -- handling

    def _start_workers(self) -> None:
        if not self._starting:
            self._start_some()

    def _start_some(self) -> None:
        """One worker, or as many as there are: one whose handler does not wait takes all the rest by itself, and a task
        for each message would cost as much as handling it. Those that are still there a turn later wait."""
        for _ in range(max(1, len(self._workers))):
            if (self._suspicious and self._workers) or (lane := self._next()) is None:
                break
            worker = Worker()
            worker.task = asyncio.create_task(self._work(worker, lane))
            self._workers.add(worker)
        self._starting = not (self._stopping or self._pace.paused or self._suspicious) and self._lanes.can_start
        if self._starting:
            asyncio.get_running_loop().call_soon(self._start_some)

    def _next(self) -> Lane[Work] | None:
        """A lane whose head may be handled now."""
        if self._stopping or self._pace.paused:
            return None
        if self._suspicious:
            self._lanes.shuffle()
        return self._lanes.start()

    async def _work(self, worker: Worker, lane: Lane[Work] | None) -> None:
        try:
            while lane is not None:
                await self._handle(worker, lane)
                # Beside a suspicious one nothing is begun: of several workers the last one goes on.
                lane = None if self._suspicious and len(self._workers) > 1 else self._next()
        finally:
            self._workers.remove(worker)

    async def _handle(self, worker: Worker, lane: Lane[Work]) -> None:
        delivery, _ = lane.head
        if delivery.epoch.draining:
            self._settle(lane, "release")
            return
        if (waiting := self._failing.unsent.get(delivery)) is not None and waiting.is_late():
            self._failing.forget(delivery)
        if delivery not in self._failing.unsent:
            if self._attempt.is_too_late(delivery):
                self._drop(lane)
                return
            await self._try(worker, lane)
        if delivery in self._failing.unsent:
            await self._send_copy(worker, lane)

    async def _try(self, worker: Worker, lane: Lane[Work]) -> None:
        """One attempt. It leaves the lane settled, parked, or with a copy to send."""
        delivery, _ = lane.head
        number = self._failing.number(delivery, lane.tries)
        worker.delivery, worker.deadline = delivery, monotonic() + self._limits.timeout
        try:
            await self._attempt.run(delivery, number, last=self._failing.is_last(number))
        except StillRunning as running:
            if worker.is_ended:
                raise asyncio.CancelledError from None
            self._hold(lane, running, worker.cause or "timeout")  # a timeout of an `around`, if not of ours
        except asyncio.CancelledError:
            if worker.is_ended:
                # By the loop's end or by its own handler, nobody can tell: the slot is free, the message unsettled.
                log.warning("%s: message %s: its task was cancelled by others", self.name, shown(delivery.wire.id))
                self._wait_in_place(lane, CANCELLED_AGAIN_AFTER)
                raise
            if worker.cause == "stop":
                self._give_back(lane)
            elif worker.cause == "timeout":
                self._failed(lane, self._late())
            else:
                self._failed(lane, RuntimeError("the handler was cancelled from within"))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever else a handler raises is its failure, logged there
            if worker.cause == "stop":  # but not what it made of our cancellation
                self._give_back(lane)
            else:
                self._failed(lane, error)
        else:
            self.failures.forget(delivery.wire.id)
            self._settle(lane, "ack")
        finally:
            worker.rest()

    def _settle(self, lane: Lane[Work], verb: Literal["ack", "release"]) -> None:
        delivery, receiver = lane.head
        self._forget(delivery)
        self.settlements.add(receiver, verb, delivery)
        self._lanes.finish(lane)

    def _forget(self, delivery: Delivery) -> None:
        """It is settled, or given back."""
        self._failing.forget(delivery)
        if delivery in self._suspicious:
            self._suspicious.discard(delivery)
            asyncio.get_running_loop().call_soon(self._start_workers)  # others may be begun again

    def _drop(self, lane: Lane[Work]) -> None:
        """Its time is over: nobody wants it handled any more."""
        self.expired += 1
        log.info("%s: message %s has expired and is dropped", self.name, shown(lane.head[0].wire.id))
        self.failures.forget(lane.head[0].wire.id)
        self._settle(lane, "ack")

    def _give_back(self, lane: Lane[Work]) -> None:
        """Cancelled: no failure. Of an ordered address it stays unsettled: closing gives keys back in order."""
        if self._address.ordered and not lane.head[0].epoch.draining:
            self._forget(lane.head[0])
            self._lanes.finish(lane)
        else:
            self._settle(lane, "release")

    def _hold(self, lane: Lane[Work], running: StillRunning, cause: Cause) -> None:
        """A thread cannot be stopped: its key stays held here until it ends, whatever becomes of the message."""
        delivery, receiver = lane.head
        log.warning("%s: message %s: its thread cannot be stopped and runs on", self.name, shown(delivery.wire.id))
        goes_back = delivery.epoch.draining or (cause == "stop" and not self._address.ordered)
        if goes_back:
            self.settlements.add(receiver, "release", delivery)

        def ended(thread: asyncio.Future[object]) -> None:
            self._threads -= 1
            if not thread.cancelled():
                thread.exception()  # ignored with the result
            if goes_back or self._stopping:
                self._forget(delivery)
                self._lanes.finish(lane)
            elif cause == "timeout":
                self._failed(lane, self._late())
                if delivery in self._failing.unsent:  # there is no worker here to send it
                    self._wait_in_place(lane, 0.0)
            else:
                self._wait_in_place(lane, CANCELLED_AGAIN_AFTER)
            self._start_workers()

        self._threads += 1
        running.thread.add_done_callback(ended)

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the handler did not end in {self._limits.timeout:g} s")

    # -- what failed

    def _failed(self, lane: Lane[Work], error: BaseException) -> None:
        """Leaves the lane parked until the next attempt, or with a copy to send."""
        delivery, _ = lane.head
        if delivery.epoch.over:  # the broker delivers it again, whatever is made of it here
            log.warning(
                "%s: message %s comes again: it failed, its connection lost", self.name, shown(delivery.wire.id)
            )
            self._settle(lane, "release")
            return
        number = self._failing.number(delivery, lane.tries)
        wait = self._failing.failed(delivery, error, number, lane.first_failed, in_place=self._address.ordered)
        if wait is not None:
            lane.first_failed = lane.first_failed or first_failed_of(delivery.wire) or now()
            lane.tries += 1
            self._wait_in_place(lane, wait)

    async def _send_copy(self, worker: Worker, lane: Lane[Work]) -> None:
        delivery, _ = lane.head
        copy = self._failing.unsent[delivery]
        try:
            error = await copy.send()
        except asyncio.CancelledError:
            if worker.is_ended:  # by its own handler, too: as in `_try`
                self._wait_in_place(lane, CANCELLED_AGAIN_AFTER)
                raise
            self._give_back(lane)  # the copy may be stored: then it is handled once more, and not lost
            return
        finally:
            worker.rest()
        if error is None:
            self._failing.went_on()
            if copy.is_dead:
                self.failures.forget(delivery.wire.id)
            self._settle(lane, "ack")
            return
        if copy.due is not None and self._copies.has_nowhere_to_wait(copy, error):
            self._failing.forget(delivery)
            lane.tries += not copy.is_onward
            self._wait_in_place(lane, max(0.0, copy.due - time.time()))
            return
        if copy.is_dead and self._copies.cannot_travel(copy, error):
            log.warning("%s: dead letter %s loses its headers: %s", self.name, shown(delivery.wire.id), error)
            self._failing.unsent[delivery] = self._copies.reduced(copy)
            self._wait_in_place(lane, 0.0)
            return
        self._failing.stays(str(error))
        log.warning("%s: message %s stays: %s", self.name, shown(delivery.wire.id), error)
        self._wait_in_place(lane, copy.next_wait())

    def _wait_in_place(self, lane: Lane[Work], wait: float) -> None:
        """It stays unsettled, and others go on. Giving it back to the broker would count against RabbitMQ's delivery
        limit, which is there for processes that die."""
        delivery, _ = lane.head
        if delivery.epoch.draining or (self._stopping and not self._address.ordered):
            self._settle(lane, "release")
        else:
            self._lanes.park(lane)
            asyncio.get_running_loop().call_later(wait, self._wake, lane, lane.head)

    def _wake(self, lane: Lane[Work], work: Work) -> None:
        self._lanes.wake(lane, work)
        self._start_workers()
