"""What a library must show to be measured: its documented use, at the durability that unimsg has by default."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from benchmarks.rows import number_of, windows
from benchmarks.stopwatch import Stopwatch


class Sender(ABC):
    """A connected sender to one channel."""

    @abstractmethod
    async def send(self, body: bytes) -> None:
        """Returns when the broker has stored the message. With the two headers of every message."""

    async def pipeline(self, bodies: Sequence[bytes]) -> None:
        """Sends all without waiting for each, IN_FLIGHT at most unconfirmed; returns when all are stored."""
        for window in windows(bodies):
            await asyncio.gather(*[self.send(body) for body in window])


class Arrivals:
    """What a handler does with a message: it counts it. The clock runs from the first boundary at which `warm` messages
    are handled to the one at which all are; a boundary is the end of a message, or of a batch where a library fetches,
    decodes or commits batches, so that the measured stretch holds as many of these as of handlers."""

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
        self.note_in_batch(body)
        self.boundary()

    def note_in_batch(self, body: bytes) -> None:
        number = number_of(body)
        self._seen[number] += 1
        if self._seen[number] == 1:
            self.distinct += 1

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


class ArrivalsInThreads(Arrivals):
    """For a client that calls its handlers in several threads."""

    def __init__(self, count: int, *, warm: int, watch: Stopwatch) -> None:
        super().__init__(count, warm=warm, watch=watch)
        self._lock = threading.Lock()

    def note(self, body: bytes) -> None:
        with self._lock:
            super().note(body)


class Contestant(ABC):
    """One library on one channel of one broker."""

    arrivals: ClassVar[type[Arrivals]] = Arrivals

    def __init__(self, url: str, channel: str) -> None:
        self.url = url
        self.channel = channel

    @abstractmethod
    def sender(self) -> AbstractAsyncContextManager[Sender]:
        """Makes the channel if it must, and connects."""

    @abstractmethod
    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        """Handles what is in the channel with a handler that only notes the body, until `arrivals` is complete; returns
        when all is acknowledged and closed. Makes the channel if it must."""
