"""Whether a bus works, and if not, what is wrong."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from unimsg._brokers import Broker
from unimsg._message import shown

if TYPE_CHECKING:
    from unimsg._consumer import Consumer
    from unimsg._inbox import Inbox
    from unimsg._routes import Route

__all__ = ["Health"]

SILENT_AFTER = 10.0
"""Seconds that a receiver may be without its broker before it is a problem: less is a reconnection or a rebalance."""
DROPPED = ("expired", "late_replies", "duplicate_replies", "unknown_replies")
FAILURE_SHOWN_FOR = 60.0
"""Seconds after its newest failure that a message is shown: it may be handled elsewhere by then."""


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: the process does its work, or can again by itself; if not, restart it. `ready`: messages flow now.
    `problems`: what is wrong, for people; without secrets and without message contents."""

    live: bool
    ready: bool
    problems: Sequence[str]
    counts: Mapping[str, int] = field(default_factory=dict, compare=False)
    """What was dropped since the start: messages, as `expired`, and replies. See `DROPPED`."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"live": self.live, "ready": self.ready, "problems": list(self.problems), "counts": dict(self.counts)}


def examine(
    brokers: Iterable[Broker],
    routes: "Iterable[Route]",
    consumers: "Sequence[Consumer]",
    inboxes: "Iterable[Inbox]",
    *,
    durable: bool,
    draining: bool,
) -> Health:
    """The health of a bus, from what this process knows: no I/O."""
    blocking: list[str] = []  # nothing or not everything flows
    failing: list[str] = []  # everything flows, and some messages fail
    if not durable:
        blocking.append("not durable: no broker is configured, so messages live in this process only; set UNIMSG_URL")
    if draining:
        blocking.append("shutting down")
    for broker in brokers:
        if broker.connected:
            blocking += _of_broker(broker)
    for route in routes:
        if route.delays.problem is not None:
            blocking.append(f"{route.channel.name}: {route.delays.problem}")
    for consumer in consumers:
        if not consumer.live and not draining:
            blocking.append(f"{consumer.name}: its consumer has ended")
        if consumer.problem is not None:
            blocking.append(f"{consumer.name}: {consumer.problem}")
        if consumer.settlements.problem is not None:
            blocking.append(f"{consumer.name}: {consumer.settlements.problem}")
        if consumer.copy_problem is not None:
            blocking.append(f"{consumer.name}: {consumer.copy_problem}")
        if consumer.choked:
            blocking.append(f"{consumer.name}: failing messages and those behind them are all that prefetch allows")
        if (overdue := consumer.overdue) > 0:
            full = blocking if overdue >= consumer.concurrency else failing
            full.append(f"{consumer.name}: {overdue} of {consumer.concurrency} handlers do not end at their timeout")
        failing += _of_messages(consumer)
    counts = Counter(dict.fromkeys(DROPPED, 0))
    counts["expired"] = sum(consumer.expired for consumer in consumers)
    for inbox in inboxes:
        counts.update({f"{why}_replies": count for why, count in inbox.dropped.items()})
        if inbox.problem is not None and not draining:
            blocking.append(f"{inbox.label}: {inbox.problem}")
    live = draining or all(consumer.live for consumer in consumers)
    return Health(live, not blocking, [*blocking, *failing], dict(counts))


def _of_broker(broker: Broker) -> list[str]:
    health = broker.adapter.health()
    name = f"{broker.name} ({broker.adapter.broker})"
    problems = [f"{name}: {problem}" for problem in health.problems]
    if not health.connected:
        problems.append(f"{name}: not connected")
    now = monotonic()
    for receiver in health.receivers:
        away = now - receiver.since
        if receiver.problem is not None:
            problems.append(f"{name}: {receiver.address.name}: {receiver.problem}")
        elif not receiver.consuming and away > SILENT_AFTER:
            problems.append(f"{name}: {receiver.address.name}: receives nothing since {away:.0f} s")
    return problems


def _of_messages(consumer: "Consumer") -> list[str]:
    now = monotonic()
    return [
        f"{consumer.name}: message {shown(id)} failed {failure.count} times, "
        f"{failure.error} {now - failure.when:.0f} s ago"
        for id, failure in consumer.failures.since(now - FAILURE_SHOWN_FOR)[-20:]
    ]
