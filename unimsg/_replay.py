"""Handling again what was handled before: copies from a topic's history to one subscription."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from unimsg._publisher import Publisher
from unimsg._routes import Route
from unimsg._targets import anew, publisher_to, source_of
from unimsg.adapter import ChannelMissing, Wire
from unimsg.dead_letters import OURS, REPLAYED
from unimsg.errors import CapabilityError, TopologyError

TIMEOUT = 30.0
SLACK = timedelta(minutes=1)
"""Of clocks, and of callers that count back from their own now."""


async def replay(route: Route, subscription: str, since: datetime) -> int:
    """See `Bus.replay`."""
    source = source_of(route, subscription)
    if since.tzinfo is None:
        raise ValueError("since must have a time zone: datetime.now(UTC) - timedelta(hours=1)")
    kept = route.wanted.history
    if kept is None:
        raise CapabilityError(f"{route.channel.name} keeps no history: declare it with history=timedelta(...)")
    if since < datetime.now(UTC) - kept - SLACK:
        raise CapabilityError(
            f"{route.channel.name} keeps a history of {kept}, and since is older: declare a longer one"
        )
    await route.broker.connect()
    target = publisher_to(route, source)
    count = 0
    try:
        operations = route.broker.adapter.operations()
        async with aclosing(operations.history(route.address, since, timeout=TIMEOUT)) as history:
            async for batch in history:
                count += await _copy(target, [anew(route, wire) for wire in batch])
    except ChannelMissing as error:
        raise TopologyError(f"{error}: it is made with the topic, by whoever uses that first") from error
    finally:
        await target.aclose()
    return count


async def _copy(target: Publisher, wires: Sequence[Wire]) -> int:
    """Raises the first error, after all have their outcome."""
    for error in await asyncio.gather(*(target.submit(_marked(wire), TIMEOUT) for wire in wires)):
        if error is not None:
            raise error
    return len(wires)


def _marked(wire: Wire) -> Wire:
    """Its own attempts do not count, and a handler's store does not know it."""
    kept = {name: value for name, value in wire.headers.items() if not name.startswith(OURS)}
    return replace(wire, headers={**kept, REPLAYED: "1"})
