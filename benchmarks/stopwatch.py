"""Wall and CPU time of a stretch of work, and its profile if wanted."""

import cProfile
import gc
import io
import pstats
import time

SHOWN = 45
"""Functions of a profile."""


class Stopwatch:
    """Measures once, between `start` and `stop`. CPU time is that of all threads of this process."""

    def __init__(self, *, profiled: bool = False) -> None:
        self.seconds = 0.0
        self.cpu = 0.0
        self._profile = cProfile.Profile() if profiled else None

    def start(self) -> None:
        gc.collect()
        self._cpu_start, self._start = time.process_time(), time.perf_counter()
        if self._profile is not None:
            self._profile.enable()

    def stop(self) -> None:
        if self._profile is not None:
            self._profile.disable()
        self.seconds = time.perf_counter() - self._start
        self.cpu = time.process_time() - self._cpu_start

    def __enter__(self) -> "Stopwatch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def profile(self) -> str:
        """The functions that cost most by themselves, then those that cost most with what they call; empty if not
        wanted. The profiler's own cost is in the times: they show shares, not rates."""
        if self._profile is None:
            return ""
        text = io.StringIO()
        stats = pstats.Stats(self._profile, stream=text)
        stats.sort_stats("tottime").print_stats(SHOWN)
        stats.sort_stats("cumulative").print_stats(SHOWN)
        return text.getvalue()
