"""Where a message waits until its time has come: names and steps, no I/O.

A broker that delays by itself does it in steps, so that it needs few queues. On the others the message waits in a
queue whose receivers hold it back: a room. All messages of one room wait about equally long, so that those at its
head are the next ones due. A message that waits longer than its room does goes to a next one.
"""

import time
from typing import NamedTuple

from unimsg.adapter import Address, Kind, Wire
from unimsg.dead_letters import DUE, UNTIL

MAX_DELAY = 24 * 3600.0
"""Seconds that a message can be made to wait, on every broker."""
STEPS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 6 * 3600.0, MAX_DELAY)
"""Seconds that brokers delay by themselves, but for the steps of a handler's own `Retry`."""
ROOMS = {60.0: "", 300.0: ".5m", 900.0: ".15m", 3600.0: ".1h", 6 * 3600.0: ".6h", MAX_DELAY: ".24h"}
"""How long a message waits in a room, and how the room's name ends. In the first it waits as long as is left."""
FIRST_ROOM = 60.0
TOLERANCE = 1.0
"""Seconds less than a room's length that a message may wait in it: leaving the room before took some milliseconds."""


class Place(NamedTuple):
    """A room, and when a message is to leave it, in seconds since the epoch."""

    suffix: str
    until: float


def step_for(delay: float) -> float:
    """The smallest step that is long enough."""
    return next((step for step in STEPS if step >= delay), MAX_DELAY)


def place_for(due: float, now: float) -> Place:
    """Where a message that is due at `due` waits next. Each room but the first lets all wait equally long."""
    left = due - now
    room = max((length for length in ROOMS if length <= left + TOLERANCE), default=FIRST_ROOM)
    return Place(ROOMS[room], min(due, now + room))


def rooms_of(delay: float) -> list[str]:
    """How the names of all rooms end that a message with this delay waits in, one after the other."""
    suffixes, now = [""], 0.0
    while now < delay:
        place = place_for(delay, now)
        suffixes.append(place.suffix)
        now = place.until
    return suffixes


def retry_room(address: Address, suffix: str = "") -> Address:
    """Where messages for one queue or subscription wait; of an ordered one, what is put back to it alone."""
    return Address(f"{address.name}..retry{suffix}", Kind.QUEUE, partitions=address.partitions)


def delay_room(address: Address, suffix: str = "") -> Address:
    """Where messages wait that are not published yet."""
    return Address(f"{address.channel}..delay{suffix}", Kind.QUEUE)


def waiting(wire: Wire, due: float, until: float) -> Wire:
    """It says itself how long it waits: then nothing is lost with the process that knew."""
    return Wire(wire.id, wire.body, {**wire.headers, DUE: _text(due), UNTIL: _text(until)}, wire.key)


def due_of(wire: Wire) -> float:
    """When it may be handled, in seconds since the epoch; 0: at any time."""
    return _moment(wire.headers.get(DUE))


def until_of(wire: Wire) -> float:
    """When it is to leave its room, in seconds since the epoch; 0: at any time."""
    return _moment(wire.headers.get(UNTIL))


def _text(moment: float) -> str:
    return f"{moment + 0.0005:.3f}"  # rounded up: never too early


def _moment(text: str | None) -> float:
    """What is malformed, or further off than any of ours can be, counts as not said: nobody waits for ever."""
    if text is None:
        return 0.0
    try:
        moment = float(text)
    except ValueError:
        return 0.0
    return moment if 0 < moment < time.time() + MAX_DELAY + 3600 else 0.0
