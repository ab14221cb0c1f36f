"""How long a topic keeps what was published, and where a subscription begins in it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.pubsub_v1 import types

from unimsg.adapter import Address, Difference, Kind, Wanted

MAX_HISTORY = timedelta(days=31)
SHORTEST = timedelta(minutes=10)
"""Pub/Sub's least retention of a topic."""
START = "unimsg-start"
"""Label of a subscription that began in the past: at which moment, in milliseconds since 1970. Creating and seeking are
two calls. As long as it retains what was acknowledged, the second one was not made, and who finds it so makes it. (A
label alone would do, if the emulator could change one.)"""


def retention_of(address: Address, wanted: Wanted) -> timedelta | None:
    """For how long the topic has to keep what is published; None: no longer than its subscriptions do."""
    if address.kind is not Kind.TOPIC or wanted.history is None:
        return None
    return max(wanted.history, SHORTEST)


def forgets(address: Address, wanted: Wanted, found: types.Topic) -> Difference | None:
    """How a topic that exists keeps too little."""
    least = retention_of(address, wanted)
    real: Any = found.message_retention_duration  # proto-plus makes it a timedelta, and its stubs do not say so
    if least is None or real >= least:
        return None
    return Difference(f"topic {address.channel} retention", f"{least} or more", str(real) if real else "off")


def beginning(wanted: Wanted) -> Mapping[str, str]:
    """Labels of a subscription that begins at `wanted.start`."""
    return {START: str(int(wanted.start.timestamp() * 1000))} if wanted.start is not None else {}


def to_seek(found: types.Subscription) -> datetime | None:
    """Where a subscription has still to be sought to."""
    text = found.labels.get(START, "")
    return datetime.fromtimestamp(int(text) / 1000, UTC) if found.retain_acked_messages and text.isdecimal() else None


def unfinished(address: Address, found: types.Subscription) -> Sequence[Difference]:
    start = to_seek(found)
    return [] if start is None else [Difference(f"subscription {address.name}", f"sought to {start}", "not yet sought")]
