"""Retry: what users declare and raise, and the one decision about a handler that failed."""

from dataclasses import dataclass

from unimsg._waiting import MAX_DELAY
from unimsg.errors import ConfigurationError

__all__ = ["Again", "Dead", "Reject", "Retry", "RetryAfter", "alone", "decide"]


class Retry:
    """How often a failed message is handled again, and after how long.

    `Retry(1, 10, 60)`: four attempts, with 1, 10 and 60 seconds between them. `Retry()`: one attempt. `final`:
    exceptions that no repetition can cure. After the last attempt, or a final error, the message is a dead letter.

    On an ordered channel the message waits in its place, and what has its key waits behind it. On others it waits
    aside, and nothing waits for it. A message is never handled before its delay; how late it can be is in the page of
    each broker.

    Raises:
        ConfigurationError: a delay is no number of 0 to 86400 seconds (24 hours); `final` holds anything but classes of
            exceptions.
    """

    __slots__ = ("delays", "final")

    def __init__(self, *delays: float, final: tuple[type[Exception], ...] = ()) -> None:
        for delay in delays:
            number = isinstance(delay, int | float) and not isinstance(delay, bool)
            if not (number and 0 <= delay <= MAX_DELAY):
                raise ConfigurationError(
                    f"Retry: a delay must be a number of 0 to {MAX_DELAY:g} seconds, not {delay!r}"
                )
        if not isinstance(final, tuple) or not all(isinstance(c, type) and issubclass(c, Exception) for c in final):
            raise ConfigurationError("Retry: final must be a tuple of exception classes")
        self.delays = tuple(float(delay) for delay in delays)
        self.final = final

    @property
    def attempts(self) -> int:
        """How often a message is handled at most."""
        return len(self.delays) + 1

    def __repr__(self) -> str:
        final = f", final={tuple(c.__name__ for c in self.final)}" if self.final else ""
        return f"Retry({', '.join(f'{delay:g}' for delay in self.delays)}{final})"


class RetryAfter(Exception):  # raised to say what is to happen: no error of its own
    """Raised by a handler: this attempt failed, and the next one is to wait `seconds`, instead of what the handler's
    `retry` says. It counts as an attempt."""

    def __init__(self, seconds: float, text: str = "") -> None:
        if not 0 <= seconds <= MAX_DELAY:
            raise ValueError(f"RetryAfter: a number of 0 to {MAX_DELAY:g} seconds is wanted, not {seconds!r}")
        super().__init__(text or f"again in {seconds:g} s")
        self.seconds = float(seconds)


class Reject(Exception):  # raised to say what is to happen: no error of its own
    """Raised by a handler: the message can never be handled. It is a dead letter at once, with `text` and `code`,
    which whoever asked is told too: let them hold nothing that is not for others' eyes."""

    text = ""  # of a subclass that does not call `__init__`
    code = "rejected"

    def __init__(self, text: str, *, code: str = "rejected") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


@dataclass(frozen=True, slots=True)
class Again:
    """Handle it again, `delay` seconds from now at the earliest."""

    delay: float


@dataclass(frozen=True, slots=True)
class Dead:
    """Never again; `reason` is the dead letter's."""

    reason: str


def alone(error: BaseException) -> BaseException:
    """The one error of a TaskGroup in which one task failed; any other as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def decide(policy: Retry, error: BaseException, attempt: int) -> Again | Dead:
    """What becomes of a message whose `attempt`th attempt, counted from 1, ended with `error`."""
    error = alone(error)
    if isinstance(error, Reject):
        return Dead("rejected")
    if attempt >= policy.attempts:
        return Dead("failed")
    if isinstance(error, RetryAfter):  # asked for, and so not final, be it an Exception as all others
        return Again(error.seconds)
    if isinstance(error, policy.final):
        return Dead("failed")
    return Again(policy.delays[attempt - 1])
