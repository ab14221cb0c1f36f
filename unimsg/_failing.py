"""What becomes of a message whose handler failed: it is noted, decided, and copied to where it goes on."""

import logging
from collections.abc import Mapping

from unimsg._copies import Copies, Copy
from unimsg._failures import Failures
from unimsg._handling import Undecodable
from unimsg._message import now, shown
from unimsg.adapter import Delivery
from unimsg.dead_letters import attempt_of, first_failed_of, record, text_of
from unimsg.retry import Again, Dead, Reject, Retry, decide

log = logging.getLogger("unimsg")


class Failing:
    """Of one handler. `origin` and `handler`: what its dead letters say of it."""

    def __init__(self, copies: Copies, retry: Retry, *, origin: str, handler: str, expose_errors: bool) -> None:
        self.failures = Failures(origin)
        self.unsent: dict[Delivery, Copy] = {}
        """Deliveries that were handled, in vain, and whose copy is not confirmed yet."""
        self._copies = copies
        self._retry = retry
        self._origin = origin
        self._handler = handler
        self._expose_errors = expose_errors
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why a copy cannot be made; None if no message waits for one."""
        return self._problem if self.unsent else None

    def number(self, delivery: Delivery, tries: int) -> int:
        """Which attempt the next one is, after `tries` in here."""
        return attempt_of(delivery.wire) + tries

    def is_last(self, number: int) -> bool:
        return number >= self._retry.attempts

    def failed(
        self, delivery: Delivery, error: BaseException, number: int, first_failed: str | None, *, in_place: bool
    ) -> float | None:
        """What follows on the `number`th attempt: None, and there is a copy to send; or the seconds after which it is
        tried again where it is, which `in_place` asks for."""
        decision: Again | Dead
        if isinstance(error, Undecodable):
            decision, error = Dead(error.reason), error.error
        else:
            decision = decide(self._retry, error, number)
        id, first = delivery.wire.id, first_failed or first_failed_of(delivery.wire)
        if isinstance(decision, Dead):
            self.failures.note(id, error, f"is a dead letter: {decision.reason} at attempt {number}")
            letter = self._record(error, decision.reason, number, first)
            self.unsent[delivery] = self._copies.dead(delivery.wire, letter)
            return None
        self.failures.note(id, error, f"is handled again in {decision.delay:g} s")
        if in_place:
            return decision.delay
        self.unsent[delivery] = self._copies.again(delivery.wire, decision.delay, number + 1, first or now())
        return None

    def give_up(self, delivery: Delivery) -> None:
        """Its receivers died too often: it is not handled again."""
        log.error("%s: message %s is a dead letter: its receivers died", self._origin, shown(delivery.wire.id))
        moment = now()
        letter = record(
            reason="delivery-limit",
            error_type="",
            error_text="",
            attempts=0,
            origin=self._origin,
            handler=self._handler,
            first=first_failed_of(delivery.wire) or moment,
            last=moment,
        )
        self.unsent[delivery] = self._copies.dead(delivery.wire, letter)

    def onward(self, delivery: Delivery, due: float) -> None:
        """It left its room before it was due."""
        self.unsent[delivery] = self._copies.onward(delivery.wire, due)

    def stays(self, why: str) -> None:
        """A copy could not be made, and is tried again."""
        self._problem = f"a failed message cannot go on: {why}"

    def went_on(self) -> None:
        self._problem = None

    def forget(self, delivery: Delivery) -> None:
        """It is settled, or given back."""
        self.unsent.pop(delivery, None)

    def _record(self, error: BaseException, reason: str, number: int, first: str | None) -> Mapping[str, str]:
        moment = now()
        said = isinstance(error, Reject) or self._expose_errors
        return record(
            reason=reason,
            error_type=type(error).__name__,
            error_text=text_of(error) if said else "",
            attempts=number,
            origin=self._origin,
            handler=self._handler,
            first=first or moment,
            last=moment,
        )
