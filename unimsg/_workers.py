"""The tasks that handle messages: when they are late, and when they are told to stop."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from unimsg.adapter import Delivery, Epoch

log = logging.getLogger("unimsg")

CANCELLED_WITHIN = 5.0
"""Seconds that a cancelled handler gets to clean up at shutdown."""

Cause = Literal["timeout", "stop"]


@dataclass(slots=True, eq=False)
class Worker:
    """A task that handles one message after the other, as long as there are any."""

    task: asyncio.Task[None] | None = None
    delivery: Delivery | None = None
    deadline: float = 0.0
    cause: Cause | None = None
    """Why we cancelled it, None if we did not."""

    @property
    def is_ended(self) -> bool:
        """Whether somebody else cancelled its task, with the loop: the delivery stays unsettled."""
        return self.cause is None and self.task is not None and self.task.cancelling() > 0

    def handles(self, epoch: Epoch) -> bool:
        """Whether it handles something of this epoch."""
        return self.delivery is not None and self.delivery.epoch is epoch

    def cancel(self, cause: Cause) -> None:
        if self.cause is None and self.task is not None:
            self.cause = cause
            self.task.cancel()

    def rest(self) -> None:
        """What it did is done with, and so is our cancellation of it, if any."""
        self.delivery = None
        if self.cause is not None and self.task is not None:
            self.cause = None
            self.task.uncancel()


class Workers:
    """Those of one handler. `timeout`: seconds that each message may take."""

    def __init__(self, name: str, timeout: float) -> None:
        self._name = name
        self._timeout = timeout
        self._workers: dict[Worker, None] = {}
        self._watch: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return [worker.task for worker in self._workers if worker.task is not None]

    @property
    def overdue(self) -> int:
        """How many go on though they were told to stop a while ago."""
        late = monotonic() - CANCELLED_WITHIN
        return sum(worker.delivery is not None and worker.deadline < late for worker in self._workers)

    def add(self, worker: Worker) -> None:
        self._workers[worker] = None
        if self._watch is None:
            self._look()

    def remove(self, worker: Worker) -> None:
        del self._workers[worker]

    def cancel_those_of(self, epoch: Epoch) -> None:
        """Those that still handle something of an epoch that is about to end."""
        for worker in self._workers:
            if worker.handles(epoch):
                worker.cancel("stop")

    async def finish(self, grace: float) -> None:
        """Returns when they have ended, those that do not within `grace` seconds being cancelled."""
        tasks = self.tasks
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            if late:
                await self._cancel(late, grace)
        if self._watch is not None:
            self._watch.cancel()

    async def _cancel(self, late: set[asyncio.Task[None]], grace: float) -> None:
        for worker in list(self._workers):
            if worker.task in late:
                log.warning("%s: a handler did not end in %g s: cancelled, its message comes again", self._name, grace)
                worker.cancel("stop")
        _, stubborn = await asyncio.wait(late, timeout=CANCELLED_WITHIN)
        if stubborn:  # they swallow it: what they handle stays unsettled, and closing gives it back
            log.error("%s: %d handlers go on although they were cancelled: left alone", self._name, len(stubborn))

    def _look(self) -> None:
        """One timer for all handlers: what is a second late to be cancelled costs nothing, a timer each would."""
        moment = monotonic()
        for worker in self._workers:
            if worker.delivery is not None and worker.deadline <= moment:
                worker.cancel("timeout")
        period = min(1.0, self._timeout / 4)
        self._watch = asyncio.get_running_loop().call_later(period, self._look) if self._workers else None
