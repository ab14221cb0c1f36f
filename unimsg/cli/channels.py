"""Channels that are named on the command line: as an application declares them, or as they are on the broker."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from unimsg import Bus, Queue, ReplyQueue, Topic
from unimsg._routes import DEFAULT_PARTITIONS
from unimsg._suggestion import suggestion
from unimsg.adapter import Address, ChannelMissing, Kind
from unimsg.channel import Channel, check_name, message
from unimsg.cli.apps import load
from unimsg.codecs import Codec
from unimsg.errors import ConfigurationError, TopologyError

LOOK_TIMEOUT = 10.0
"""Seconds for a look at the broker, connected already."""


class AsItIs(Codec[bytes]):
    """Bytes that are sent as they were given."""

    def __init__(self, content_type: str = "application/octet-stream") -> None:
        self.content_type = content_type

    def encode(self, body: bytes) -> bytes:
        return body

    def decode(self, data: bytes) -> bytes:
        return data


def split(name: str) -> tuple[str, str | None]:
    """`channel` or `topic/subscription`."""
    channel, _, subscription = name.partition("/")
    return channel, subscription or None


def declared(name: str, specs: Iterable[str]) -> Channel[Any, Any]:
    """The channel as one of the applications declares it.

    Raises:
        ConfigurationError: none does.
    """
    found = {channel.name: channel for spec in specs for channel in channels_of(spec)}
    if name not in found:
        hint = suggestion(name, found) or f": {', '.join(sorted(found)) or 'they know no channel'}"
        raise ConfigurationError(f"{name} is no channel of {', '.join(specs)}{hint}")
    return found[name]


async def existing(
    bus: Bus, name: str, kind: Kind, *, content_type: str | None = None, type: str | None = None
) -> Channel[bytes, Any]:
    """The channel as the broker has it, for bodies as they are.

    Raises:
        TopologyError: it does not exist, or is of the other kind.
        ConnectError, PermissionDenied: as everywhere.
    """
    check_name(name)
    broker, there = bus._routes.locate(name)
    await broker.connect()
    try:
        found = await broker.adapter.operations().find(Address(there, kind), timeout=LOOK_TIMEOUT)
    except ChannelMissing as error:
        raise TopologyError(
            f"{error}: a {kind.value} is made by the service that handles it, or by whoever sends to it first; is the "
            "name right, and the broker?"
        ) from error
    options = []
    if found.partitions not in (0, DEFAULT_PARTITIONS):  # else no need to say it, nor an option for it on each broker
        options.append(broker.adapter.options_type.model_validate({"partitions": found.partitions}))
    body = bytes if type is None else message(type)(_Body)
    make: Any = Queue if kind is Kind.QUEUE else Topic  # both take the same; neither is a type that the other has
    codec = AsItIs(content_type) if content_type else AsItIs()
    channel: Channel[bytes, Any] = make(name, body, ordered=found.ordered, codec=codec, replies=bytes, options=options)
    return channel


async def reply_queue(bus: Bus, name: str) -> ReplyQueue[bytes] | None:
    """The reply queue of this name, if there is one; by its name on the broker it is known to nobody but who asked."""
    queue = ReplyQueue(name, bytes, codec=AsItIs())
    route = bus._routes.get(queue)
    await route.broker.connect()
    try:
        await route.broker.adapter.operations().find(route.address, timeout=LOOK_TIMEOUT)
    except ChannelMissing:
        return None
    return queue


class _Body(bytes):
    """One that is given a message type."""


def channels_of(spec: str) -> Iterator[Channel[Any, Any]]:
    """What its services handle and send to, and what its module knows beside them."""
    for service in load(spec):
        yield from (handler.channel for handler in service.handlers)
        yield from service.sends
    module = sys.modules[spec.partition(":")[0]]
    yield from (value for value in vars(module).values() if isinstance(value, Channel))
