"""`unimsg tail`: watching a topic, or the dead letters of a queue, without taking anything from anybody."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated

import typer

from unimsg import Bus, DeadLetter, Message, Settings, connect
from unimsg._message import read_message
from unimsg._routes import OPEN_TIMEOUT, Route
from unimsg.adapter import (
    Adapter,
    Address,
    ChannelMissing,
    Kind,
    Receiver,
    ReceiverClosed,
    SettlementLost,
    Wanted,
    Wire,
)
from unimsg.cli.channels import existing, split
from unimsg.cli.ending import Stopped, until_done
from unimsg.cli.graves import graveyard, letter_as_dict, letter_in_a_line
from unimsg.cli.options import Json, Name, Url, for_operators
from unimsg.cli.output import as_dict, in_a_line, printable, say, show, show_json
from unimsg.errors import ConfigurationError, TopologyError, UnimsgError

TEMPORARY = Wanted(temporary=True)
HELD = 100
"""Messages that are read ahead."""
LOOK_EVERY = 2.0
"""Seconds between two looks at dead letters, at least; ten times as long as a look takes."""
DELETE_TIMEOUT = 10.0

Emit = Callable[[Message[bytes] | DeadLetter], bool]
"""Shows one; whether more are wanted."""


def command(
    name: Name,
    dead: Annotated[
        bool, typer.Option("--dead", help="The dead letters of a queue, or of a TOPIC/SUBSCRIPTION.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=0.0, help="End after so many seconds.")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Watches a topic through a subscription of its own, which is deleted at the end, also by Ctrl-C and SIGTERM. It
    shows what is published from now on, and takes nothing from others: it never reads from a queue. With --dead it
    shows the dead letters that are there and those that come, and removes none.
    """
    settings = for_operators(url)
    emit = emitter(limit, as_json=as_json)
    try:
        until_done(watch(settings, name, dead=dead, seconds=seconds, emit=emit))
    except Stopped:
        return  # it is how one ends it


async def watch(settings: Settings, name: str, *, dead: bool, seconds: float | None, emit: Emit) -> None:
    """Returns when `emit` wants no more, or after `seconds`.

    Raises:
        ConfigurationError: a queue, or a subscription: what is read from those is taken from others.
        ConnectError, PermissionDenied: as everywhere.
    """
    async with connect(settings=settings) as bus:
        try:
            async with asyncio.timeout(seconds) as limit:
                if dead:
                    await _watch_dead(bus, name, emit)
                else:
                    await _watch_topic(bus, name, emit)
        except TimeoutError:
            if not limit.expired():
                raise


async def _watch_topic(bus: Bus, name: str, emit: Emit) -> None:
    channel, subscription = split(name)
    if subscription is not None:
        raise ConfigurationError(
            f"{name}: what a subscription gets belongs to its service, and whoever reads it takes it away: "
            f"watch all of {channel}, or the dead letters of {name} with --dead"
        )
    try:
        route = bus._routes.get(await existing(bus, channel, Kind.TOPIC))
    except TopologyError as error:
        if not isinstance(error.__cause__, ChannelMissing):
            raise TopologyError(
                f"{error}: whoever reads from a queue takes the message from its service, so tail never does; see its "
                "dead letters with --dead"
            ) from error
        raise
    own = f"tail-{secrets.token_hex(6)}"
    async with _subscription(route, own) as receiver:
        say(f"watching {channel} through its subscription {own}; end it with Ctrl-C")
        wanted = True
        while wanted:
            try:
                deliveries = await receiver.receive()
            except (ChannelMissing, ReceiverClosed) as error:
                raise TopologyError(
                    f"{channel}: the temporary subscription was deleted while it was watched"
                ) from error
            for delivery in deliveries:
                wanted = wanted and emit(_message(route, delivery.wire))
            with suppress(SettlementLost):  # the connection was lost: they come again, and are shown again
                await receiver.ack(deliveries)


@asynccontextmanager
async def _subscription(route: Route, name: str) -> AsyncIterator[Receiver]:
    """One of our own, for as long as the block runs."""
    adapter, address = route.broker.adapter, route.subscription(name)
    try:
        await adapter.ensure(address, TEMPORARY, timeout=OPEN_TIMEOUT)
        receiver = await adapter.receiver(address, prefetch=HELD, timeout=OPEN_TIMEOUT)
        try:
            yield receiver
        finally:
            await receiver.aclose()
    finally:
        await _remove(adapter, address)


async def _remove(adapter: Adapter, address: Address) -> None:
    try:
        await adapter.operations().delete(address, TEMPORARY, timeout=DELETE_TIMEOUT)
    except UnimsgError as error:
        say(f"unimsg: the temporary subscription {address.name} is left, and expires by itself: {error}")


async def _watch_dead(bus: Bus, name: str, emit: Emit) -> None:
    graves = await graveyard(bus, name)
    clock = asyncio.get_running_loop().time
    seen: set[tuple[str, str]] = set()
    said = False
    while True:
        began, found = clock(), set[tuple[str, str]]()
        async with aclosing(graves.all()) as letters:
            async for letter in letters:
                one = (letter.message.id, letter.last_failed.isoformat())
                found.add(one)
                if one not in seen and not emit(letter):
                    return
        seen = found  # what was redriven or dropped meanwhile is forgotten
        if not said:
            say(f"watching the dead letters of {name}; end it with Ctrl-C")
            said = True
        await asyncio.sleep(max(LOOK_EVERY, 10 * (clock() - began)))


def _message(route: Route, wire: Wire) -> Message[bytes]:
    channel = route.channel
    return read_message(wire, wire.body, route.prefix, type=channel.name, kind=channel.kind, raw=None)


def emitter(limit: int | None, *, as_json: bool) -> Emit:
    """Shows what it gets, `limit` at most."""
    left = limit

    def emit(one: Message[bytes] | DeadLetter) -> bool:
        nonlocal left
        if isinstance(one, DeadLetter):
            show_json(letter_as_dict(one)) if as_json else show(letter_in_a_line(one))
        else:
            show_json(as_dict(one)) if as_json else show(_in_a_line(one))
        left = None if left is None else left - 1
        return left != 0

    return emit


def _in_a_line(message: Message[bytes]) -> str:
    of_type = f"{printable(message.type)}  " if message.type else ""
    return f"{message.time:%H:%M:%S}  {printable(message.id)}  {of_type}{in_a_line(message)}"
