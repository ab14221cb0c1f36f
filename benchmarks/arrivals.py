"""What a contestant's handler does with each message: it counts it, and so knows what went wrong in the end."""

import asyncio
import threading
from time import monotonic

from benchmarks.rows import LANES, RETRY_DELAY, fails_once, number_of
from benchmarks.stopwatch import Stopwatch


class Arrivals:
    """The clock runs from the first boundary at which `warm` messages are handled to the one at which all are; a
    boundary is the end of a message, or of a batch where a library fetches, decodes or commits batches, so that the
    measured stretch holds as many of these as of handlers."""

    def __init__(self, count: int, *, warm: int, watch: Stopwatch) -> None:
        self.count = count
        self.complete = asyncio.Event()
        self.distinct = 0
        self.measured = 0
        """Messages handled while the clock ran."""
        self._warm = warm
        self._ended = False
        self._watch = watch
        self._seen = bytearray(count)
        self._loop = asyncio.get_running_loop()

    def note(self, body: bytes) -> None:
        """A message that is a boundary by itself."""
        self._note(number_of(body))
        self.boundary()

    def note_in_batch(self, body: bytes) -> None:
        self._note(number_of(body))

    def boundary(self) -> None:
        if self._warm and self.distinct >= self._warm:
            self._warm = 0
            self.measured = self.count - self.distinct
            self._watch.start()
        if self.distinct == self.count and not self._ended:
            self._ended = True
            self._watch.stop()
            self._loop.call_soon_threadsafe(self.complete.set)

    @property
    def problem(self) -> str:
        """What was lost or came twice; empty if neither."""
        lost, twice = self._seen.count(0), sum(times > 1 for times in self._seen)
        return f"{lost} lost, {twice} twice, of {self.count}" if lost or twice else ""

    def _note(self, number: int) -> None:
        self._seen[number] += 1
        if self._seen[number] == 1:
            self.distinct += 1


class InOrder(Arrivals):
    """Each key's messages must come in the order sent."""

    def __init__(self, count: int, *, warm: int, watch: Stopwatch) -> None:
        super().__init__(count, warm=warm, watch=watch)
        self._newest = [-1] * LANES
        self._overtaken = 0

    @property
    def problem(self) -> str:
        overtaken = f"{self._overtaken} after a later one of their key" if self._overtaken else ""
        return ", ".join(filter(None, [super().problem, overtaken]))

    def _note(self, number: int) -> None:
        lane = number % LANES
        if number < self._newest[lane]:
            self._overtaken += 1
        self._newest[lane] = number
        super()._note(number)


class HandlerFailed(Exception):
    """What the handler of a retry-heavy row raises."""


class FailingOnce(Arrivals):
    """Some fail the first time. Only what did not fail counts, so that nothing lost and nothing twice means that each
    of these was tried exactly twice, and each of the others once."""

    def __init__(self, count: int, *, warm: int, watch: Stopwatch) -> None:
        super().__init__(count, warm=warm, watch=watch)
        self._failed: dict[int, float] = {}
        self._early = 0

    @property
    def problem(self) -> str:
        early = f"{self._early} tried again before {RETRY_DELAY:g} s" if self._early else ""
        return ", ".join(filter(None, [super().problem, early]))

    def _note(self, number: int) -> None:
        """Raises HandlerFailed."""
        if fails_once(number):
            failed = self._failed.get(number)
            if failed is None:
                self._failed[number] = monotonic()
                raise HandlerFailed(f"message {number} fails once")
            if monotonic() - failed < RETRY_DELAY:
                self._early += 1
        super()._note(number)


class InThreads(Arrivals):
    """For a client that calls its handlers in several threads; the first base of what it is combined with."""

    def __init__(self, count: int, *, warm: int, watch: Stopwatch) -> None:
        super().__init__(count, warm=warm, watch=watch)
        self._lock = threading.Lock()

    def note(self, body: bytes) -> None:
        with self._lock:
            super().note(body)


class InOrderInThreads(InThreads, InOrder):
    pass


class FailingOnceInThreads(InThreads, FailingOnce):
    pass
