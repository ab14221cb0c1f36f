"""Dead letters on the command line: whose they are, which are meant, and how they look."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from unimsg import Bus, DeadLetter
from unimsg._graveyard import Graveyard
from unimsg._suggestion import suggestion
from unimsg.adapter import Kind
from unimsg.channel import Channel
from unimsg.cli.channels import existing, reply_queue, split
from unimsg.cli.output import as_dict, in_a_line, printable
from unimsg.errors import ConfigurationError, TopologyError

FIELDS: Mapping[str, Callable[[DeadLetter], str]] = {
    "reason": lambda letter: letter.reason,
    "error_type": lambda letter: letter.error_type,
    "error_text": lambda letter: letter.error_text,
    "handler": lambda letter: letter.handler,
    "origin": lambda letter: letter.origin,
    "attempts": lambda letter: str(letter.attempts),
    "id": lambda letter: letter.message.id,
    "type": lambda letter: letter.message.type,
    "source": lambda letter: letter.message.source,
    "key": lambda letter: letter.message.key or "",
}
"""What `--where` can compare."""

Filter = Callable[[DeadLetter], bool]


async def graveyard(bus: Bus, name: str) -> Graveyard:
    """The dead letters of a queue, or of a TOPIC/SUBSCRIPTION.

    Raises:
        ConfigurationError: a topic without subscription.
        TopologyError: it does not exist.
    """
    channel, subscription = split(name)
    found: Channel[Any, Any]
    try:
        found = await existing(bus, channel, Kind.QUEUE if subscription is None else Kind.TOPIC)
    except TopologyError:
        replies = await reply_queue(bus, channel) if subscription is None else None
        if replies is None:
            raise
        found = replies
    return bus._graveyard(found, subscription)


def fitting(conditions: Sequence[str] | None) -> Filter:
    """All of `field=value` must hold; `*` in a value stands for any text.

    Raises:
        ConfigurationError: no condition, or an unknown field.
    """
    wanted: list[tuple[Callable[[DeadLetter], str], str]] = []
    for condition in conditions or ():
        field, divider, value = condition.partition("=")
        if not divider:
            raise ConfigurationError(f"--where {condition}: write FIELD=VALUE, as in error_type=TimeoutError")
        if field not in FIELDS:
            hint = suggestion(field, FIELDS) or f": {', '.join(FIELDS)}"
            raise ConfigurationError(f"--where {condition}: no field is called {field}{hint}")
        wanted.append((FIELDS[field], value))
    return lambda letter: all(fnmatchcase(read(letter), value) for read, value in wanted)


def letter_as_dict(letter: DeadLetter) -> dict[str, Any]:
    """For JSON: the message, and why it is dead."""
    return {
        **as_dict(letter.message),
        "dead": {
            "reason": letter.reason,
            "error_type": letter.error_type,
            "error_text": letter.error_text,
            "attempts": letter.attempts,
            "origin": letter.origin,
            "handler": letter.handler,
            "first_failed": letter.first_failed.isoformat(),
            "last_failed": letter.last_failed.isoformat(),
        },
    }


def letter_in_a_line(letter: DeadLetter) -> str:
    """For people."""
    moment = f"{letter.last_failed:%Y-%m-%d %H:%M:%S}"
    return f"{moment}  {printable(letter.message.id)}  {why(letter)}  {in_a_line(letter.message, 80)}"


def why(letter: DeadLetter) -> str:
    """Why it is dead, in a few words."""
    error = ": ".join(part for part in (letter.error_type, letter.error_text) if part)
    times = f" after {letter.attempts} attempts" if letter.attempts > 1 else ""
    return printable(f"{letter.reason}{times}{f' ({error})' if error else ''}")
