"""Messages of strangers that not every broker could carry on: which these are, and what is left of them."""

from unimsg._message import CONTENT_TYPE, MAX_HEADERS_BYTES, MAX_KEY, check_id, derived_id
from unimsg.adapter import Wire
from unimsg.dead_letters import OURS
from unimsg.errors import EncodeError

KEPT = ("type", "source", "time", "messagekind", "correlationid", "causationid")
"""CloudEvents attributes that a dead letter keeps, if they are not too long."""
MAX_ATTRIBUTE = 1024


def is_beyond_limits(wire: Wire) -> bool:
    """Whether no sender of ours could have made it."""
    own = {name: value for name, value in wire.headers.items() if not name.startswith(OURS)}
    try:
        check_id(wire.id)
    except EncodeError:
        return True
    size = sum(len(name) + len(value.encode(errors="replace")) for name, value in own.items())
    too_long = any(len(value) > MAX_ATTRIBUTE for value in own.values())
    key = 0 if wire.key is None else len(wire.key.encode(errors="replace"))
    return len(own) > 80 or size > MAX_HEADERS_BYTES or too_long or key > MAX_KEY


def bare(wire: Wire, prefix: str) -> Wire:
    """Its body, with the headers that are ours and those that say what it is."""
    kept = {CONTENT_TYPE, *(f"{prefix}{name}" for name in KEPT)}
    headers = {
        name: value
        for name, value in wire.headers.items()
        if name.startswith(OURS) or (name in kept and len(value) <= MAX_ATTRIBUTE)
    }
    try:
        check_id(wire.id)
        id = wire.id
    except EncodeError:
        id = derived_id(wire.id, "dead", 0)
    key = wire.key if wire.key is not None and len(wire.key.encode(errors="replace")) <= MAX_KEY else None
    return Wire(id, wire.body, headers, key)
