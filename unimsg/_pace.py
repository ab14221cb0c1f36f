"""One at a time, where a message may be one that kills its process.

A broker that counts deliveries counts one of all that a dead process held, and gives up what it delivered too often.
So that it gives up the killer alone, a message that came several times already is held, and handled, with no other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from unimsg._intake import Intake
from unimsg.adapter import Delivery, Operations, Receiver
from unimsg.errors import UnimsgError

log = logging.getLogger("unimsg")

SUSPICIOUS_FROM = 2
"""Redeliveries of a message from which on it is handled alone."""
LOOK_EVERY = 0.2
"""Seconds between looks whether a receiver that hands out nothing more has everything settled."""
BACKLOG_TIMEOUT = 5.0


def is_suspicious(delivery: Delivery) -> bool:
    """Whether it came so often that it may be what kills those who handle it."""
    return delivery.redelivered is not None and delivery.redelivered >= SUSPICIOUS_FROM


class Pace:
    """Decides how many messages an intake holds: one, or as many as usual.

    `empty`: returns when no handler runs and nothing else is held. `holds`: whether anything of a receiver is not
    settled yet. `go_on`: called when handlers may start again.
    """

    def __init__(
        self,
        name: str,
        intake: Intake,
        usual: int,
        *,
        empty: Callable[[], Awaitable[None]],
        holds: Callable[[Receiver], bool],
        go_on: Callable[[], None],
    ) -> None:
        self.paused = False
        """Whether no handler may start."""
        self._name = name
        self._intake = intake
        self._usual = usual
        self._empty = empty
        self._holds = holds
        self._go_on = go_on
        self._alone = False
        self._suspicious = False
        """Whether there was a suspicious one in what came last, or since the change under way began."""
        self._changing: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def begin(self, operations: Operations) -> None:
        """Before the intake starts: what earlier processes left behind is looked at one by one at first."""
        try:
            waiting = await operations.backlog(self._intake.address, timeout=BACKLOG_TIMEOUT)
        except UnimsgError:
            waiting = None  # whatever it is, the intake will tell
        if waiting != 0:
            self._alone = True
            self._intake.prefetch = 1

    def saw(self, batch: Sequence[Delivery]) -> None:
        """What the intake took in."""
        suspicious = any(is_suspicious(delivery) for delivery in batch)
        if self._changing is not None:  # what is to be done about it shows when that has changed
            self._suspicious = self._suspicious or suspicious
            self.paused = self.paused or suspicious
            return
        self._suspicious = suspicious
        if self._suspicious is not self._alone:
            self._change()

    def _change(self) -> None:
        self._alone = self.paused = self._suspicious
        self._changing = asyncio.create_task(self._slow_down() if self._alone else self._speed_up())
        self._changing.add_done_callback(self._changed)

    async def stop(self) -> None:
        """Changes nothing any more."""
        tasks = [*self._leaving, *([self._changing] if self._changing is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _slow_down(self) -> None:
        """Gives back all but what runs, so that the next one comes by itself."""
        log.info("%s: a message came several times: one at a time for now", self._name)
        await self._intake.reopen(1, self._empty)

    async def _speed_up(self) -> None:
        """Beside what is still handled alone: it may take long."""
        old = await self._intake.replace(self._usual)
        if old is not None:
            task = asyncio.create_task(self._close_when_settled(old))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _close_when_settled(self, old: Receiver) -> None:
        while self._holds(old):  # noqa: ASYNC110  # settling sets no event, and nobody waits for this
            await asyncio.sleep(LOOK_EVERY)
        await self._intake.close(old)

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._changing = None
        self.paused = False
        if not task.cancelled() and (error := task.exception()) is not None:  # a bug: it must not stop the handlers
            log.error("%s: changing its pace failed", self._name, exc_info=error)
        if self._suspicious and not self._alone and not task.cancelled():
            self._change()
        else:
            self._go_on()
