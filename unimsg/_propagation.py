"""Which headers go on from what is handled to what is sent because of it."""

from collections.abc import Mapping, Sequence

from unimsg._message import MAX_HEADER_VALUE, check_headers
from unimsg.adapter import Wire
from unimsg.errors import ConfigurationError, EncodeError

MOST = 14
"""Names: the longest, with values of the largest size, fit into the headers of one message."""


def propagated(names: Sequence[str], *wires: Wire) -> Mapping[str, str]:
    """The headers of these names. One that a message lacks is left out, as one in which the messages differ, and one
    that another program wrote and not every broker could carry on: it must not keep the message from being handled.
    """
    first, *others = (wire.headers for wire in wires)
    return {
        name: value
        for name in names
        if (value := first.get(name)) is not None
        and _may_travel(value)
        and all(headers.get(name) == value for headers in others)
    }


def check_propagated(service: str, names: object) -> tuple[str, ...]:
    """Raises ConfigurationError: they could be the names of no user's headers."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigurationError(f'service {service}: propagate must be names of headers, not {names!r}: ("tenant",)')
    if len(names) > MOST:
        raise ConfigurationError(f"service {service}: propagate has {len(names)} names, at most {MOST}")
    for name in names:
        try:
            check_headers(f"service {service}: propagate", {name: ""})
        except EncodeError as error:
            raise ConfigurationError(str(error)) from None
    return tuple(names)


def _may_travel(value: str) -> bool:
    try:
        return len(value.encode()) <= MAX_HEADER_VALUE
    except UnicodeEncodeError:
        return False
