"""What is remembered of messages that failed, for the log and for `health`."""

import logging
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from math import inf
from time import monotonic

from unimsg._message import shown

log = logging.getLogger("unimsg")

REMEMBERED = 1000
TRACEBACK_EVERY = 1.0
"""Seconds. A traceback takes many times as long as handling a message: where many fail for one reason, the first shows
it, and the others say that they failed too."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest failure of a message."""

    count: int
    error: str
    when: float
    """`time.monotonic()`"""


class Failures:
    """Of one handler, by message id, the newest last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: OrderedDict[str, Failure] = OrderedDict()
        self._shown: dict[Hashable, float] = {}
        """Where errors came from, and when the newest traceback of each was logged."""

    def note(self, id: str, error: BaseException, next: str) -> None:
        """A message failed; `next` says what becomes of it."""
        kind = type(error).__name__
        known = self._known.pop(id, None)
        failure = self._known[id] = Failure(known.count + 1 if known else 1, kind, monotonic())
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        if known is None and self._is_news(error, failure.when):
            log.error("%s: message %s failed, and %s", self._name, shown(id), next, exc_info=error)
        elif known is None:
            log.error("%s: message %s failed as others do, %s; it %s", self._name, shown(id), kind, next)
        else:  # its traceback once is enough
            log.error("%s: message %s failed %d times, %s; it %s", self._name, shown(id), failure.count, kind, next)

    def forget(self, id: str) -> None:
        """It was handled, or is a dead letter."""
        if self._known:
            self._known.pop(id, None)

    def since(self, moment: float) -> list[tuple[str, Failure]]:
        """Those whose newest failure is not older than `moment` (`time.monotonic()`)."""
        return [(id, failure) for id, failure in self._known.items() if failure.when >= moment]

    def _is_news(self, error: BaseException, moment: float) -> bool:
        """Whether no traceback from the same place was logged just now."""
        trace, place = error.__traceback__, None
        while trace is not None:
            place, trace = (trace.tb_frame.f_code, trace.tb_lineno), trace.tb_next
        origin = (type(error), place)
        if moment - self._shown.get(origin, -inf) < TRACEBACK_EVERY:
            return False
        if len(self._shown) >= REMEMBERED:
            self._shown.clear()
        self._shown[origin] = moment
        return True
