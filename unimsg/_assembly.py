"""From a declared handler to what runs it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from unimsg._answers import Answers
from unimsg._batches import BatchAttempt, BatchConsumer
from unimsg._consumer import Consumer, Limits
from unimsg._handling import Attempt
from unimsg._routes import Route
from unimsg.retry import Retry
from unimsg.service import Handler, Service

if TYPE_CHECKING:
    from unimsg.bus import Bus
    from unimsg.config import HandlerSettings


def consumer_of(
    service: Service[Any], handler: Handler, route: Route, configured: "HandlerSettings", bus: "Bus", state: object
) -> Consumer:
    """What is configured wins over what the handler says, and that over its service."""
    concurrency = configured.concurrency or handler.concurrency
    batching = handler.batching
    held = 2 * concurrency * (batching.size if batching else 1)
    start = datetime.now(UTC) - handler.replay if handler.replay is not None else None
    parts = (handler.source, route.broker, route.subscription(handler.subscription), replace(route.wanted, start=start))
    answers = Answers(
        route, handler.identity, service.name, expose_errors=service.expose_errors, propagate=service.propagate
    )
    how: dict[str, Any] = {
        "limits": Limits(
            concurrency=concurrency,
            prefetch=configured.prefetch or max(held, 20),
            timeout=configured.timeout or handler.timeout,
            grace=service.grace,
        ),
        "retry": _retry(configured, handler.retry or service.retry),
        "answers": answers,
        "expose_errors": service.expose_errors,
    }
    attempt = BatchAttempt if batching else Attempt
    handling = attempt(handler, route, bus, state, service.around, answers, concurrency=concurrency)
    if batching is None:
        return Consumer(*parts, handling, **how)
    return BatchConsumer(*parts, handling, size=batching.size, within=batching.within, **how)


def _retry(configured: "HandlerSettings", declared: Retry) -> Retry:
    """The delays may be configured; which errors are final is known by the code alone."""
    return declared if configured.retry is None else Retry(*configured.retry, final=declared.final)
