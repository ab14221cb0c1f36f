"""Receiver → lanes → handler → settlement, for one handler; and its orderly end."""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Literal

from unimsg._brokers import Broker
from unimsg._handling import Attempt, StillRunning
from unimsg._lanes import Lane, Lanes
from unimsg._message import shown
from unimsg._settlements import Settlements
from unimsg.adapter import Address, ChannelMissing, Delivery, Epoch, Receiver, ReceiverClosed, Wanted
from unimsg.backoff import Backoff
from unimsg.errors import TopologyError, UnimsgError

log = logging.getLogger("unimsg")

FAILED_AGAIN_AFTER = 1.0
"""Seconds until a message whose handler failed is handled again. It is not acknowledged in between."""
OPEN_TIMEOUT = 30.0
"""Seconds for making the channel and the receiver."""
CANCELLED_WITHIN = 5.0
"""Seconds that a cancelled handler gets to clean up at shutdown."""
REMEMBERED_FAILURES = 1000

Work = tuple[Delivery, Receiver]
Cause = Literal["timeout", "stop"]


@dataclass(slots=True, eq=False)
class _Worker:
    """A task that handles one message after the other, as long as there are any."""

    task: asyncio.Task[None] | None = None
    delivery: Delivery | None = None
    deadline: float = 0.0
    cause: Cause | None = None
    """Why we cancelled it, None if we did not."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest failure of a message."""

    count: int
    error: str
    when: float
    """`time.monotonic()`"""


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
        concurrency: int,
        prefetch: int,
        timeout: float,
        grace: float,
    ) -> None:
        self.name = name
        self.failures: OrderedDict[str, Failure] = OrderedDict()
        self.problem: str | None = None
        """Why it receives nothing at present."""
        self._broker = broker
        self._address = address
        self._wanted = wanted
        self._attempt = attempt
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._timeout = timeout
        self._grace = grace
        self._lanes: Lanes[Work] = Lanes(concurrency)
        self.settlements = Settlements()
        self._workers: dict[_Worker, None] = {}
        self._epochs: set[Epoch] = set()
        self._receiver: Receiver | None = None
        self._intake: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._starting = False
        """Whether more workers start in the next turn of the event loop."""
        self._threads = 0
        """Of `def` handlers that were told to stop, and run on."""
        self._stopping = False

    @property
    def overdue(self) -> int:
        """Handlers that go on though they were told to stop a while ago: each has a slot for good."""
        late = monotonic() - CANCELLED_WITHIN
        return sum(worker.delivery is not None and worker.deadline < late for worker in self._workers) + self._threads

    @property
    def choked(self) -> bool:
        """Whether failing messages, and those behind them, are all that it may hold: nothing else comes in."""
        return self._lanes.parked > 0 and self._lanes.held >= self._prefetch

    @property
    def concurrency(self) -> int:
        return self._concurrency

    @property
    def live(self) -> bool:
        """Whether it still takes messages in; False is a bug of ours or the end."""
        return self._intake is not None and not self._intake.done()

    async def start(self) -> None:
        """Raises: as `Adapter.ensure`."""
        try:
            self._receiver = await self._open()
        except ChannelMissing as error:  # nobody was to make it, or to look
            raise TopologyError(f'{error}: create it, or run once with topology = "create"') from error
        self._intake = asyncio.create_task(self._take_in(self._receiver), name=f"unimsg {self.name}")

    async def stop(self) -> None:
        """Takes no more in, lets what runs end within the grace period, settles it, and gives the rest back."""
        self._stopping = True
        if self._intake is not None:
            self._intake.cancel()
            await asyncio.wait([self._intake])
        receiver = self._receiver
        if receiver is None:
            return
        await receiver.stop()
        if not self._address.ordered:  # of an ordered one, a key may still run here: closing gives it back in order
            for delivery, its_receiver in self._lanes.shed(lambda _: True):
                self.settlements.add(its_receiver, "release", delivery)
        await self._finish_workers(self._grace)
        await self.settlements.drain()
        await receiver.aclose()
        if self._watch is not None:
            self._watch.cancel()
        self._attempt.close()

    # -- taking in

    async def _open(self) -> Receiver:
        await self._broker.preparation.prepare(self._address, self._wanted, timeout=OPEN_TIMEOUT)
        return await self._broker.adapter.receiver(
            self._address, prefetch=self._prefetch, timeout=OPEN_TIMEOUT, grace=self._grace
        )

    async def _take_in(self, receiver: Receiver) -> None:
        backoff = Backoff()
        while True:
            try:
                batch = await receiver.receive()
            except ReceiverClosed:
                return
            except ChannelMissing as error:
                receiver = await self._open_again(receiver, error)
                continue
            except Exception as error:  # a bug of an adapter must not end the consumer silently
                self.problem = f"receiving fails: {type(error).__name__}"
                log.exception("%s: receiving failed", self.name)
                await asyncio.sleep(backoff.next())
                continue
            self.problem = None
            backoff.reset()
            for delivery in batch:
                self._admit(delivery, receiver)
            self._start_workers()

    async def _open_again(self, old: Receiver, error: ChannelMissing) -> Receiver:
        """Its channel was deleted: make it again if that is ours to do, else wait until somebody does."""
        log.error("%s: its channel was deleted: %s", self.name, error)
        await old.aclose()
        backoff = Backoff()
        while True:
            self._broker.preparation.forget(self._address)
            try:
                self._receiver = await self._open()
            except (UnimsgError, TimeoutError) as again:
                self.problem = f"its channel was deleted, and opening it again fails: {again}"
                log.warning("%s: %s", self.name, self.problem)
                await asyncio.sleep(backoff.next())
            except Exception as again:  # a bug of an adapter must not end the consumer silently
                self.problem = f"its channel was deleted, and opening it again fails: {type(again).__name__}"
                log.exception("%s: opening its channel again failed", self.name)
                await asyncio.sleep(backoff.next())
            else:
                self.problem = None
                return self._receiver

    def _admit(self, delivery: Delivery, receiver: Receiver) -> None:
        if delivery.epoch not in self._epochs:
            self._epochs.add(delivery.epoch)
            delivery.epoch.on_drain(partial(self._drained, delivery.epoch))  # a lambda would keep this delivery
        key = delivery.wire.key if self._address.ordered else None
        self._lanes.put(delivery if key is None else key, (delivery, receiver))  # a lane of its own: it can be parked

    def _drained(self, epoch: Epoch) -> None:
        """Called when an epoch ends or is about to: nothing of it is started any more; what runs may end, and if the
        connection still lives, within the grace period."""
        self._epochs.discard(epoch)
        for delivery, receiver in self._lanes.shed(lambda work: work[0].epoch is epoch):
            self.settlements.add(receiver, "release", delivery)
        self._start_workers()
        if not epoch.over:
            asyncio.get_running_loop().call_later(self._grace, self._cancel_late, epoch)

    def _cancel_late(self, epoch: Epoch) -> None:
        for worker in self._workers:
            if worker.delivery is not None and worker.delivery.epoch is epoch:
                self._cancel(worker, "stop")

    # -- handling

    def _start_workers(self) -> None:
        if not self._starting:
            self._start_some()

    def _start_some(self) -> None:
        """One worker, or as many as there are: one whose handler does not wait takes all the rest by itself, and a task
        for each message would cost as much as handling it. Those that are still there a turn later wait."""
        for _ in range(max(1, len(self._workers))):
            if self._stopping or (lane := self._lanes.start()) is None:
                break
            worker = _Worker()
            worker.task = asyncio.create_task(self._work(worker, lane))
            self._workers[worker] = None
        self._starting = not self._stopping and self._lanes.can_start
        if self._starting:
            asyncio.get_running_loop().call_soon(self._start_some)
        if self._workers and self._watch is None:
            self._watch_deadlines()

    async def _work(self, worker: _Worker, lane: Lane[Work] | None) -> None:
        try:
            while lane is not None:
                await self._handle(worker, lane)
                lane = None if self._stopping else self._lanes.start()
        finally:
            del self._workers[worker]

    async def _handle(self, worker: _Worker, lane: Lane[Work]) -> None:
        delivery, _ = lane.head
        if delivery.epoch.draining:
            self._settle(lane, "release")
            return
        worker.delivery, worker.deadline = delivery, monotonic() + self._timeout
        try:
            await self._attempt.run(delivery)
        except StillRunning as running:
            if _is_ended(worker):
                raise asyncio.CancelledError from None
            self._hold(lane, running, worker.cause or "timeout")  # a timeout of an `around`, if not of ours
        except asyncio.CancelledError:
            if _is_ended(worker):
                # By the loop's end or by its own handler, nobody can tell: the slot is free, the message unsettled.
                log.warning("%s: message %s: its task was cancelled by others", self.name, shown(delivery.wire.id))
                self._try_again(lane)
                raise
            if worker.cause == "stop":
                self._give_back(lane)
            elif worker.cause == "timeout":
                self._failed_now(lane, self._late())
            else:
                self._failed_now(lane, RuntimeError("the handler was cancelled from within"))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever else a handler raises is its failure, logged there
            if worker.cause == "stop":  # but not what it made of our cancellation
                self._give_back(lane)
            else:
                self._failed_now(lane, error)
        else:
            if self.failures:
                self.failures.pop(delivery.wire.id, None)
            self._settle(lane, "ack")
        finally:
            worker.delivery = None
            if worker.cause is not None and worker.task is not None:
                worker.cause = None
                worker.task.uncancel()

    def _settle(self, lane: Lane[Work], verb: Literal["ack", "release"]) -> None:
        delivery, receiver = lane.head
        self.settlements.add(receiver, verb, delivery)
        self._lanes.finish(lane)

    def _give_back(self, lane: Lane[Work]) -> None:
        """Cancelled: no failure. Of an ordered address it stays unsettled: closing gives keys back in order."""
        if self._address.ordered and not lane.head[0].epoch.draining:
            self._lanes.finish(lane)
        else:
            self._settle(lane, "release")

    def _hold(self, lane: Lane[Work], running: StillRunning, cause: Cause) -> None:
        """A thread cannot be stopped: its key stays held here until it ends, whatever becomes of the message."""
        delivery, receiver = lane.head
        log.warning("%s: message %s: its thread cannot be stopped and runs on", self.name, shown(delivery.wire.id))
        if cause == "timeout":
            self._note_failure(delivery, self._late())
        goes_back = delivery.epoch.draining or (cause == "stop" and not self._address.ordered)
        if goes_back:
            self.settlements.add(receiver, "release", delivery)

        def ended(thread: asyncio.Future[None]) -> None:
            self._threads -= 1
            if not thread.cancelled():
                thread.exception()  # ignored with the result
            if goes_back or self._stopping:
                self._lanes.finish(lane)
            else:
                self._try_again(lane)
            self._start_workers()

        self._threads += 1
        running.thread.add_done_callback(ended)

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the handler did not end in {self._timeout:g} s")

    def _failed_now(self, lane: Lane[Work], error: BaseException) -> None:
        self._note_failure(lane.head[0], error)
        self._try_again(lane)

    def _try_again(self, lane: Lane[Work]) -> None:
        """After a second, in place: it stays unsettled, and others go on. Giving it back to the broker would count
        against RabbitMQ's delivery limit, which is there for processes that die."""
        delivery, _ = lane.head
        if delivery.epoch.draining or (self._stopping and not self._address.ordered):
            self._settle(lane, "release")
        else:
            self._lanes.park(lane)
            asyncio.get_running_loop().call_later(FAILED_AGAIN_AFTER, self._wake, lane, lane.head)

    def _note_failure(self, delivery: Delivery, error: BaseException) -> None:
        id, kind = delivery.wire.id, type(error).__name__
        known = self.failures.pop(id, None)
        self.failures[id] = Failure(known.count + 1 if known else 1, kind, monotonic())
        while len(self.failures) > REMEMBERED_FAILURES:
            self.failures.popitem(last=False)
        if known is None:
            log.error("%s: message %s failed and will be handled again", self.name, shown(id), exc_info=error)
        else:  # its traceback once is enough: it may fail every second
            log.error("%s: message %s failed %d times: %s", self.name, shown(id), known.count + 1, kind)

    def _wake(self, lane: Lane[Work], work: Work) -> None:
        self._lanes.wake(lane, work)
        self._start_workers()

    # -- deadlines and the end

    def _watch_deadlines(self) -> None:
        """One timer for all handlers: what is a second late to be cancelled costs nothing, a timer each would."""
        now = monotonic()
        for worker in self._workers:
            if worker.delivery is not None and worker.deadline <= now:
                self._cancel(worker, "timeout")
        period = min(1.0, self._timeout / 4)
        self._watch = asyncio.get_running_loop().call_later(period, self._watch_deadlines) if self._workers else None

    def _cancel(self, worker: _Worker, cause: Cause) -> None:
        if worker.cause is None and worker.task is not None:
            worker.cause = cause
            worker.task.cancel()

    async def _finish_workers(self, grace: float) -> None:
        tasks = [worker.task for worker in self._workers if worker.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace)
        for worker in list(self._workers):
            if worker.task in late:
                log.warning("%s: a handler did not end in %g s: cancelled, its message comes again", self.name, grace)
                self._cancel(worker, "stop")
        if not late:
            return
        _, stubborn = await asyncio.wait(late, timeout=CANCELLED_WITHIN)
        if stubborn:  # they swallow it: what they handle stays unsettled, and closing gives it back
            log.error("%s: %d handlers go on although they were cancelled: left alone", self.name, len(stubborn))


def _is_ended(worker: _Worker) -> bool:
    """Whether somebody else cancelled its task, with the loop: the delivery stays unsettled."""
    return worker.cause is None and worker.task is not None and worker.task.cancelling() > 0
