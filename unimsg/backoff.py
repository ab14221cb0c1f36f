"""How long to wait before the next try of something that failed."""

import random


class Backoff:
    """Doubles from `first` to `most` seconds, with jitter: processes that lost a broker together do not come back
    together. The jitter shortens a wait by up to a half."""

    def __init__(self, first: float = 0.1, most: float = 1.0) -> None:
        self._first = first
        self._most = most
        self._wait = first

    def next(self) -> float:
        """Seconds to wait now."""
        wait, self._wait = self._wait, min(self._wait * 2, self._most)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311  # no secret depends on it

    def reset(self) -> None:
        """After a success: the next wait is the first again."""
        self._wait = self._first
