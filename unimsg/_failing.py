"""What becomes of a message whose handler failed: it is noted, decided, and copied to where it goes on."""

import logging
import time
from collections.abc import Mapping

from unimsg._answers import Answers
from unimsg._copies import Copies, Copy
from unimsg._failures import Failures
from unimsg._handling import Undecodable
from unimsg._message import now, shown
from unimsg.adapter import Delivery, Kind
from unimsg.dead_letters import attempt_of, first_failed_of, record, text_of
from unimsg.retry import Again, Dead, Reject, Retry, alone, decide

log = logging.getLogger("unimsg")


class Failing:
    """Of one handler. `origin` and `handler`: what its dead letters say of it."""

    def __init__(
        self, copies: Copies, retry: Retry, answers: Answers, *, origin: str, handler: str, expose_errors: bool
    ) -> None:
        self.failures = Failures(origin)
        self.unsent: dict[Delivery, Copy] = {}
        """Deliveries that were handled, in vain, and whose copy is not confirmed yet."""
        self._copies = copies
        self._retry = retry
        self._answers = answers
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
            error = alone(error)  # what a TaskGroup of the handler put around it is nothing to others
            decision = decide(self._retry, error, number)
            if isinstance(decision, Again):
                wait = decision.delay if in_place else self._copies.wait(decision.delay)
                if self._is_awaited_no_longer(delivery, wait):
                    decision = Dead("failed")
        id, first = delivery.wire.id, first_failed or first_failed_of(delivery.wire)
        if isinstance(decision, Dead):
            self._end(delivery, error, decision.reason, number, first)
            return None
        self.failures.note(id, error, f"is handled again in {decision.delay:g} s")
        if in_place:
            return decision.delay
        self.unsent[delivery] = self._copies.again(delivery.wire, decision.delay, number + 1, first or now())
        return None

    def _is_awaited_no_longer(self, delivery: Delivery, delay: float) -> bool:
        """Whether the deadline of a request ends before its next attempt: who waits is told now."""
        address = self._answers.address(delivery.wire)
        if address is None or address.kind is not Kind.INBOX:
            return False
        expires = self._answers.expires(delivery.wire)
        return expires is not None and expires <= time.time() + delay

    def _end(self, delivery: Delivery, error: BaseException, reason: str, number: int, first: str | None) -> None:
        """It is not handled again. Of a request its requester is told; of anything else operators are, by the
        dead letter, and then whoever it names as to be answered."""
        told = self._answers.failure(delivery.wire, error, reason)
        if told is not None and told.is_request:
            if isinstance(error, Reject):  # an answer, and no trouble
                log.info("%s: message %s is rejected", self._origin, shown(delivery.wire.id))
            else:
                self.failures.note(delivery.wire.id, error, f"is answered so: {reason} at attempt {number}")
            self.unsent[delivery] = told
            return
        self.failures.note(delivery.wire.id, error, f"is a dead letter: {reason} at attempt {number}")
        letter = self._copies.dead(delivery.wire, self._record(error, reason, number, first))
        letter.then = told
        self.unsent[delivery] = letter

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
        copy = self.unsent[delivery] = self._copies.dead(delivery.wire, letter)
        copy.then = self._answers.failure(delivery.wire, RuntimeError("its receivers died"), "delivery-limit")

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
