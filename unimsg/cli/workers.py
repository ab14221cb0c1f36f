"""Several processes that do the same: started, started again when one crashes, and ended together."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType

import typer

from unimsg.backoff import Backoff
from unimsg.cli.ending import USAGE, guarded
from unimsg.cli.reloading import Changes

log = logging.getLogger("unimsg.workers")

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before a worker that crashed is started again: first, and after many crashes in a row."""
STEADY = 60.0
"""Seconds after which a crash is not counted with the one before."""
CHANGED, WOKEN = b"c", b"w"
ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class _Place:
    """One of the workers: the process that runs now, or when the next one starts."""

    number: int
    backoff: Backoff
    process: SpawnProcess | None = None
    started: float = 0.0
    due: float | None = 0.0
    """When to start it; None: not until a file changes, or never."""


class Supervisor:
    """Spawns the workers, so that none inherits connections or threads, and puts each into a process group of its own:
    a Ctrl-C on the terminal reaches them once, through here."""

    def __init__(self, apps: Sequence[str], url: str | None, count: int, *, reload: bool) -> None:
        self._order = list(apps), url
        self._places = [_Place(number, Backoff(FIRST_WAIT, LONGEST_WAIT)) for number in range(1, count + 1)]
        self._reload = reload
        self._stopping = False
        self._signals = 0
        self._code = 0
        self._woken, self._wake = os.pipe()

    def run(self) -> int:
        """Returns the exit code when all have ended."""
        for number in ENDING:
            signal.signal(number, self._on_signal)
        with Changes(lambda: os.write(self._wake, CHANGED)) if self._reload else contextlib.nullcontext():
            while True:
                self._start_due()
                if not any(place.process for place in self._places) and self._is_over:
                    return self._code
                self._wait()

    @property
    def _is_over(self) -> bool:
        return self._stopping or (not self._reload and all(place.due is None for place in self._places))

    def _start_due(self) -> None:
        for place in self._places:
            if place.process is None and place.due is not None and place.due <= monotonic() and not self._stopping:
                place.process = multiprocessing.get_context("spawn").Process(target=_work, args=self._order)
                place.started, place.due = monotonic(), None
                with _signals_held():  # a Ctrl-C would end it in the middle of its imports, with a traceback
                    place.process.start()
                log.info("worker %d started: process %s", place.number, place.process.pid)

    def _wait(self) -> None:
        """Until a worker ends, one is due, or somebody wants something."""
        running = {place.process.sentinel: place for place in self._places if place.process is not None}
        waiting = [] if self._stopping else [place.due for place in self._places if place.process is None]
        dues = [due for due in waiting if due is not None]
        timeout = max(0.0, min(dues) - monotonic()) if dues else None
        for ready in wait([*running, self._woken], timeout):
            if ready == self._woken:
                if CHANGED in os.read(self._woken, 1024) and not self._stopping:
                    self._start_anew()
            elif isinstance(ready, int):
                self._ended(running[ready])

    def _ended(self, place: _Place) -> None:
        assert place.process is not None  # noqa: S101  # it was waited for
        place.process.join()
        code, place.process = place.process.exitcode or 0, None
        if self._stopping:
            before_it_began = self._signals == 1 and code == -signal.SIGTERM
            self._code = self._code or (0 if before_it_began else 128 - code if code < 0 else code)
        elif place.due is not None:
            return  # it was stopped to be started anew
        elif code == 0:
            log.info("worker %d has ended", place.number)
        elif self._reload:
            log.warning("worker %d ended with %s: waiting for a file to change", place.number, code)
        elif code == USAGE:  # no other would do better
            self._code = USAGE
            self._stop()
        else:
            if monotonic() - place.started > STEADY:
                place.backoff.reset()
            pause = place.backoff.next()
            place.due = monotonic() + pause
            log.error("worker %d ended with %s: starting another in %.1f s", place.number, code, pause)

    def _start_anew(self) -> None:
        log.info("a file has changed: starting anew")
        for place in self._places:
            place.due = 0.0
            if place.process is not None:
                place.process.terminate()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop()
        os.write(self._wake, WOKEN)

    def _stop(self) -> None:
        """A second one reaches the workers, too, and ends them at once."""
        self._stopping = True
        self._signals += 1
        for place in self._places:
            if place.process is not None:
                place.process.terminate()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Those that end a process come afterwards; a process that is started meanwhile lets them come when it likes."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing starts it with the first process, and lets the signals in then
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def _work(apps: list[str], url: str | None) -> None:
    """A worker's process."""
    from unimsg.cli.run import serve  # not above: that module imports this one

    if hasattr(os, "setpgrp"):  # Windows has no process groups of this kind
        os.setpgrp()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets one that came while they were held
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        guarded(serve)(apps, url)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


def _end_with_parent() -> None:
    """A parent that was killed stops nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
