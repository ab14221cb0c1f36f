"""Dead letters: what is recorded about a message that could not be handled, and how it travels."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from unimsg._message import Message, read_message, timestamp
from unimsg.adapter import Address, Kind, Wire

__all__ = ["DeadLetter", "dead_address"]

PREFIX = "unimsg-dead-"
ATTEMPT = "unimsg-attempt"
DUE = "unimsg-due"
UNTIL = "unimsg-until"
REPLAYED = "unimsg-replayed"
FIRST_FAILED = "unimsg-first-failed"
OURS = "unimsg-"
MAX_TEXT = 1000
"""Bytes of an error's text: header values are limited to 1,024."""


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """A message in a dead-letter queue, and why it is there."""

    message: Message[bytes]
    """As it was sent: the body's bytes, headers and id unchanged."""
    reason: str
    """failed (after the last attempt, or a final error), rejected, undecodable, unknown-type, delivery-limit (the
    broker gave up: its receivers died or went away each time), or another's word."""
    error_type: str
    """The class of the last error; empty where the broker gave up."""
    error_text: str
    """What a `Reject` said; of other errors only with the service's `expose_errors=True`."""
    attempts: int
    """How often it was handled; 0: unknown."""
    origin: str
    """The queue, or topic/subscription, that it came from, by the names in code; empty: unknown."""
    handler: str
    """The service and its function; empty: unknown."""
    first_failed: datetime
    last_failed: datetime


def dead_address(address: Address) -> Address:
    """The dead-letter queue of a queue or a subscription."""
    return Address(f"{address.name}..dead", Kind.QUEUE)


def attempt_of(wire: Wire) -> int:
    """Which attempt its next one is, from 1, as far as earlier receivers said it."""
    text = wire.headers.get(ATTEMPT)
    said = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else 1
    return max(said, 1)  # a stranger may have written it


def first_failed_of(wire: Wire) -> str | None:
    """When it failed for the first time, as a CloudEvents time; None: it did not."""
    return wire.headers.get(FIRST_FAILED)


def record(
    *, reason: str, error_type: str, error_text: str, attempts: int, origin: str, handler: str, first: str, last: str
) -> Mapping[str, str]:
    """The headers of a dead letter, beside those that the message has."""
    return {
        f"{PREFIX}reason": reason,
        f"{PREFIX}error-type": error_type,
        f"{PREFIX}error-text": _bounded(error_text),
        f"{PREFIX}attempts": str(attempts),
        f"{PREFIX}origin": origin,
        f"{PREFIX}handler": handler,
        f"{PREFIX}first-failed": first,
        f"{PREFIX}last-failed": last,
    }


def read(wire: Wire, prefix: str, channel: str) -> DeadLetter:
    """The dead letter that travelled as `wire`. What is missing or malformed counts as not said."""
    headers = wire.headers
    message = read_message(wire, wire.body, prefix, type=channel, kind="document", raw=None)
    attempts = headers.get(f"{PREFIX}attempts", "")
    last = timestamp(headers.get(f"{PREFIX}last-failed")) or datetime.now(UTC)
    return DeadLetter(
        message=message,
        reason=headers.get(f"{PREFIX}reason", "unknown"),
        error_type=headers.get(f"{PREFIX}error-type", ""),
        error_text=headers.get(f"{PREFIX}error-text", ""),
        attempts=int(attempts) if attempts.isascii() and attempts.isdigit() and len(attempts) < 10 else 0,
        origin=headers.get(f"{PREFIX}origin", ""),
        handler=headers.get(f"{PREFIX}handler", ""),
        first_failed=timestamp(headers.get(f"{PREFIX}first-failed")) or last,
        last_failed=last,
    )


def without_record(wire: Wire) -> Wire:
    """The message as it was before it failed: attempts start again."""
    kept = {
        name: value for name, value in wire.headers.items() if not name.startswith(OURS) or name == REPLAYED
    }  # what a store let in because of that, it is to let in again
    return Wire(wire.id, wire.body, kept, wire.key)


def text_of(error: BaseException) -> str:
    """What it says, if it can."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # of others, and no reason to lose the record
        return ""


def _bounded(text: str) -> str:
    """Any error's text as a header value."""
    return text.encode(errors="replace")[:MAX_TEXT].decode(errors="ignore")
