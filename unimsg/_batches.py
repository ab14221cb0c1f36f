"""Handlers of batches: messages are collected, handled together, and one by one if that fails."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from unimsg._consumer import Consumer
from unimsg._handling import Attempt, StillRunning, Undecodable
from unimsg._held import Work
from unimsg._lanes import Lane, Lanes
from unimsg._workers import Worker
from unimsg.adapter import Delivery, Epoch
from unimsg.dead_letters import attempt_of

log = logging.getLogger("unimsg")


@dataclass(slots=True, eq=False)
class BatchWorker(Worker):
    """A task that collects one batch, handles it, and ends."""

    batch: Sequence[Delivery] = ()
    singles: list[Lane[Work]] = field(default_factory=list)
    """Lanes whose head is to be handled by itself."""

    def handles(self, epoch: Epoch) -> bool:
        return any(delivery.epoch is epoch for delivery in self.batch) or (
            self.delivery is not None and self.delivery.epoch is epoch
        )


class BatchConsumer(Consumer):
    """A batch that fails is handled again one message at a time, so that only the one at fault is tried again, or is a
    dead letter. A key is in one batch at a time, in order."""

    def __init__(self, *parts: Any, size: int, within: float, **how: Any) -> None:  # those of Consumer
        super().__init__(*parts, **how)
        self._batch_attempt: BatchAttempt = parts[4]
        self._size = size
        self._within = within
        self._held.lanes = Lanes(size * self._limits.concurrency)
        self._collecting = False
        self._arrived: asyncio.Future[None] | None = None

    async def stop(self) -> None:
        self._held.stopping = True
        self._wake_collector()
        await super().stop()

    def _start_workers(self) -> None:
        """One worker collects at a time: two would share what one batch could hold."""
        self._wake_collector()
        most = 1 if self._held.suspects.held else self.concurrency
        while not (self._held.stopping or self._pace.paused or self._collecting) and len(self._workers) < most:
            lane = self._next()
            if lane is None:
                break
            self._collecting = True
            worker = BatchWorker()
            worker.task = asyncio.create_task(self._work_batch(worker, lane))
            self._workers.add(worker)

    def _wake_collector(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def _work_batch(self, worker: BatchWorker, first: Lane[Work]) -> None:
        lanes: list[Lane[Work]] = []
        try:
            try:
                await self._collect(worker, first, lanes)
            finally:
                self._collecting = False
                self._start_workers()
            if self._held.stopping or self._pace.paused:
                return
            batch, lanes = lanes, []
            await self._handle_batch(worker, batch)
            while worker.singles:
                await self._tries.handle(worker, worker.singles.pop(0))
        except asyncio.CancelledError:
            if worker.cause is None:
                raise
        finally:
            self._put_back([*lanes, *worker.singles])  # those that were not begun
            self._workers.remove(worker)
            self._start_workers()

    async def _collect(self, worker: BatchWorker, lane: Lane[Work] | None, lanes: list[Lane[Work]]) -> None:
        """Fills `lanes` until the batch is full or has waited long enough."""
        loop = asyncio.get_running_loop()
        until, count = loop.time() + self._within, 0
        while not (self._held.stopping or self._pace.paused):
            while lane is not None:
                if self._is_single(lane.head[0]):
                    worker.singles.append(lane)
                else:
                    count += self._widen(lane, self._size - count)
                    lanes.append(lane)
                lane = self._held.lanes.start() if count < self._size else None
            if count >= self._size or (worker.singles and not count) or loop.time() >= until:
                break
            self._arrived = loop.create_future()
            timer = loop.call_at(until, self._wake_collector)
            try:
                await self._arrived
            finally:
                timer.cancel()
                self._arrived = None
            lane = self._held.lanes.start()
        if lane is not None:  # started, and then the end came: it is put back with the others
            worker.singles.append(lane)
        for lane in list(lanes):  # more of their keys may have come meanwhile, and their epoch may drain by now
            before = lane.running
            if self._is_single(lane.head[0]):
                lanes.remove(lane)
                worker.singles.append(lane)
                count += self._held.lanes.widen(lane, 1) - 1 - before
            else:
                count += self._widen(lane, before + self._size - count) - before

    def _is_single(self, delivery: Delivery) -> bool:
        return (
            bool(self._held.suspects.held)
            or delivery in self._held.single
            or delivery in self._failing.unsent
            or delivery.epoch.draining
            or attempt_of(delivery.wire) > 1
            or self._attempt.is_too_late(delivery)
        )

    def _widen(self, lane: Lane[Work], most: int) -> int:
        """As many of a key's messages as can be handled together."""
        fitting = 0
        for delivery, _ in lane.items:
            if fitting >= most or self._is_single(delivery):
                break
            fitting += 1
        return self._held.lanes.widen(lane, max(1, fitting))  # its head was fit a moment ago

    async def _handle_batch(self, worker: BatchWorker, lanes: list[Lane[Work]]) -> None:
        deliveries = [delivery for lane in lanes for delivery, _ in list(lane.items)[: lane.running]]
        if not deliveries:
            return
        worker.batch, worker.delivery = deliveries, deliveries[0]
        worker.deadline = monotonic() + self._limits.timeout
        stopped = False
        try:
            await self._batch_attempt.run_batch(deliveries)
        except StillRunning as running:
            stopped = worker.cause == "stop"
            await asyncio.wait([running.thread])  # its messages stay held until it ends
            log.warning("%s: the thread of a batch did not end in time, and its result is ignored", self.name)
            self._apart(lanes, deliveries, stopped=stopped)
        except asyncio.CancelledError:
            if worker.is_ended:
                self._apart(lanes, deliveries, stopped=True)
                raise
            self._apart(lanes, deliveries, stopped=worker.cause == "stop")
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever a handler raises is its failure
            if not isinstance(error, Undecodable):
                log.warning(
                    "%s: a batch of %d failed, and is handled one by one: %s",
                    self.name,
                    len(deliveries),
                    type(error).__name__,
                )
            self._apart(lanes, deliveries, stopped=worker.cause == "stop")
        else:
            for lane in lanes:
                for _ in range(lane.running):
                    self._held.settle(lane, "ack")
        finally:
            worker.rest()
            worker.batch = ()

    def _apart(self, lanes: Sequence[Lane[Work]], deliveries: Sequence[Delivery], *, stopped: bool) -> None:
        """The batch is no more: each message is handled by itself, or goes back."""
        if not stopped:
            self._held.single.update(deliveries)
        self._put_back(lanes)

    def _put_back(self, lanes: Sequence[Lane[Work]]) -> None:
        """Of a stopping consumer, to the broker, as far as that keeps the order."""
        for lane in lanes:
            if self._held.stopping and not self._address.ordered:
                for _ in range(lane.running):
                    self._held.settle(lane, "release")
            else:
                self._held.lanes.put_back(lane)
        self._held.shed(lambda work: work[0].epoch.draining)  # what ran when that began, and nobody starts any more


class BatchAttempt(Attempt):
    """Runs a handler of batches; of one message, for a batch of one."""

    async def run_batch(self, deliveries: Sequence[Delivery]) -> None:
        """One attempt at all of them, which is not counted if it fails. Raises: as `run`."""
        bodies = [self._decoded(delivery) for delivery in deliveries]
        others = list(zip(deliveries, bodies, strict=True))[1:]
        await self._handle(deliveries[0], bodies[0], bodies, 1, False, others)

    def _argument(self, body: object) -> object:
        return [body]
