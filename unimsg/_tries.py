"""Handling one message: it is tried, and then settled, parked until its next try, or copied to where it goes on."""

import asyncio
import logging
import time
from collections.abc import Callable
from time import monotonic

from unimsg._copies import Copies
from unimsg._failing import Failing
from unimsg._handling import Attempt, StillRunning
from unimsg._held import Held, Work
from unimsg._lanes import Lane
from unimsg._message import now, shown
from unimsg._workers import Cause, Worker
from unimsg.dead_letters import first_failed_of

log = logging.getLogger("unimsg")

CANCELLED_AGAIN_AFTER = 1.0
"""Seconds until a message whose task others cancelled is handled again."""


class Tries:
    """Of one handler. `timeout`: seconds of each. `go_on`: called when handlers may start that could not before."""

    def __init__(
        self,
        name: str,
        attempt: Attempt,
        held: Held,
        failing: Failing,
        copies: Copies,
        *,
        timeout: float,
        ordered: bool,
        go_on: Callable[[], None],
    ) -> None:
        self.expired = 0
        """Messages dropped because their time was over."""
        self.threads = 0
        """Of `def` handlers that were told to stop, and run on."""
        self._name = name
        self._attempt = attempt
        self._held = held
        self._failing = failing
        self._copies = copies
        self._timeout = timeout
        self._ordered = ordered
        self._go_on = go_on

    async def handle(self, worker: Worker, lane: Lane[Work]) -> None:
        delivery, _ = lane.head
        if delivery.epoch.draining:
            self._held.settle(lane, "release")
            return
        if delivery.last_chance and self._held.suspects.is_to_blame(delivery):
            self._failing.give_up(delivery)
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
        try:
            if delivery in self._held.suspects.held:
                # What was done before must not come again if it takes the process along.
                await self._held.settlements.drain()
                if delivery.epoch.draining:
                    self._held.settle(lane, "release")
                    return
            worker.delivery, worker.deadline = delivery, monotonic() + self._timeout
            await self._attempt.run(delivery, number, last=self._failing.is_last(number))
        except StillRunning as running:
            if worker.is_ended:
                raise asyncio.CancelledError from None
            self._hold(lane, running, worker.cause or "timeout")  # a timeout of an `around`, if not of ours
        except asyncio.CancelledError:
            if worker.is_ended:
                # By the loop's end or by its own handler, nobody can tell: the slot is free, the message unsettled.
                log.warning("%s: message %s: its task was cancelled by others", self._name, shown(delivery.wire.id))
                self._held.wait_in_place(lane, CANCELLED_AGAIN_AFTER)
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
            self._failing.failures.forget(delivery.wire.id)
            self._held.settle(lane, "ack")
        finally:
            worker.rest()

    def _drop(self, lane: Lane[Work]) -> None:
        """Its time is over: nobody wants it handled any more."""
        self.expired += 1
        log.info("%s: message %s has expired and is dropped", self._name, shown(lane.head[0].wire.id))
        self._failing.failures.forget(lane.head[0].wire.id)
        self._held.settle(lane, "ack")

    def _give_back(self, lane: Lane[Work]) -> None:
        """Cancelled: no failure. Of an ordered address it stays unsettled: closing gives keys back in order."""
        if self._ordered and not lane.head[0].epoch.draining:
            self._held.forget(lane.head[0])
            self._held.lanes.finish(lane)
        else:
            self._held.settle(lane, "release")

    def _hold(self, lane: Lane[Work], running: StillRunning, cause: Cause) -> None:
        """A thread cannot be stopped: its key stays held here until it ends, whatever becomes of the message."""
        delivery, receiver = lane.head
        log.warning("%s: message %s: its thread cannot be stopped and runs on", self._name, shown(delivery.wire.id))
        goes_back = delivery.epoch.draining or (cause == "stop" and not self._ordered)
        if goes_back:
            self._held.settlements.add(receiver, "release", delivery)

        def ended(thread: asyncio.Future[object]) -> None:
            self.threads -= 1
            if not thread.cancelled():
                thread.exception()  # ignored with the result
            if goes_back or self._held.stopping:
                self._held.forget(delivery)
                self._held.lanes.finish(lane)
            elif cause == "timeout":
                self._failed(lane, self._late())
                if delivery in self._failing.unsent:  # there is no worker here to send it
                    self._held.wait_in_place(lane, 0.0)
            else:
                self._held.wait_in_place(lane, CANCELLED_AGAIN_AFTER)
            self._go_on()

        self.threads += 1
        running.thread.add_done_callback(ended)

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the handler did not end in {self._timeout:g} s")

    def _failed(self, lane: Lane[Work], error: BaseException) -> None:
        """Leaves the lane parked until the next attempt, or with a copy to send."""
        delivery, _ = lane.head
        if delivery.epoch.over:  # the broker delivers it again, whatever is made of it here
            log.warning(
                "%s: message %s comes again: it failed, its connection lost", self._name, shown(delivery.wire.id)
            )
            self._held.settle(lane, "release")
            return
        number = self._failing.number(delivery, lane.tries)
        wait = self._failing.failed(delivery, error, number, lane.first_failed, in_place=self._ordered)
        if wait is not None:
            lane.first_failed = lane.first_failed or first_failed_of(delivery.wire) or now()
            lane.tries += 1
            self._held.wait_in_place(lane, wait)

    async def _send_copy(self, worker: Worker, lane: Lane[Work]) -> None:
        delivery, _ = lane.head
        copy = self._failing.unsent[delivery]
        try:
            error = await copy.send()
        except asyncio.CancelledError:
            if worker.is_ended:  # by its own handler, too: as in `_try`
                self._held.wait_in_place(lane, CANCELLED_AGAIN_AFTER)
                raise
            self._give_back(lane)  # the copy may be stored: then it is handled once more, and not lost
            return
        finally:
            worker.rest()
        if error is None:
            self._failing.went_on()
            if copy.is_dead:
                self._failing.failures.forget(delivery.wire.id)
            self._held.settle(lane, "ack")
            return
        if copy.due is not None and self._copies.has_nowhere_to_wait(copy, error):
            self._failing.forget(delivery)
            lane.tries += not copy.is_onward
            self._held.wait_in_place(lane, max(0.0, copy.due - time.time()))
            return
        if copy.is_dead and self._copies.cannot_travel(copy, error):
            log.warning("%s: dead letter %s loses its headers: %s", self._name, shown(delivery.wire.id), error)
            self._failing.unsent[delivery] = self._copies.reduced(copy)
            self._held.wait_in_place(lane, 0.0)
            return
        self._failing.stays(str(error))
        log.warning("%s: message %s stays: %s", self._name, shown(delivery.wire.id), error)
        self._held.wait_in_place(lane, copy.next_wait())
