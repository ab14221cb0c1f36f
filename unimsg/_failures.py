"""What is remembered of messages that failed, for the log and for `health`."""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic

from unimsg._message import shown

log = logging.getLogger("unimsg")

REMEMBERED = 1000


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

    def note(self, id: str, error: BaseException, next: str) -> None:
        """A message failed; `next` says what becomes of it."""
        kind = type(error).__name__
        known = self._known.pop(id, None)
        failure = self._known[id] = Failure(known.count + 1 if known else 1, kind, monotonic())
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        if known is None:
            log.error("%s: message %s failed, and %s", self._name, shown(id), next, exc_info=error)
        else:  # its traceback once is enough
            log.error("%s: message %s failed %d times, %s; it %s", self._name, shown(id), failure.count, kind, next)

    def forget(self, id: str) -> None:
        """It was handled, or is a dead letter."""
        if self._known:
            self._known.pop(id, None)

    def since(self, moment: float) -> list[tuple[str, Failure]]:
        """Those whose newest failure is not older than `moment` (`time.monotonic()`)."""
        return [(id, failure) for id, failure in self._known.items() if failure.when >= moment]
