"""`unimsg send`: one message, with its body from standard input."""

import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from unimsg import Bus, Queue, Settings, Topic, connect
from unimsg.adapter import Kind
from unimsg.channel import Channel
from unimsg.cli.channels import declared, existing
from unimsg.cli.ending import until_done
from unimsg.cli.options import App, Json, Url, for_operators
from unimsg.cli.output import body_as_dict, body_as_text, say, show, show_json
from unimsg.errors import ConfigurationError, DecodeError, EncodeError

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Order:
    """What to send, and how."""

    channel: str
    body: bytes
    is_topic: bool = False
    apps: Sequence[str] = ()
    type: str | None = None
    content_type: str = JSON
    key: str | None = None
    id: str | None = None
    headers: Mapping[str, str] | None = None
    timeout: float = 10.0


def command(
    channel: Annotated[str, typer.Argument(show_default=False, help="A queue, or with --topic a topic.")],
    key: Annotated[str | None, typer.Option(help="The key that keeps the order of an ordered channel.")] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Can be given several times.")] = None,
    id: Annotated[str | None, typer.Option(help="The message's id, to repeat a send without a second effect.")] = None,
    app: App = None,
    type: Annotated[str | None, typer.Option(help="The message type; by default the channel's name.")] = None,
    content_type: Annotated[str, typer.Option(help="Of the body, where no --app knows it.")] = JSON,
    topic: Annotated[bool, typer.Option("--topic", help="The channel is a topic: every subscription gets it.")] = False,
    request: Annotated[bool, typer.Option("--request", help="Wait for the reply, and show it.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait, for confirmation or reply.")] = 10.0,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Sends one message. Its body comes from standard input: with --app it is checked against the declaration of the
    channel, without it must be JSON unless --content-type says otherwise. Shows the message's id, or with --request the
    reply.
    """
    settings, headers = for_operators(url), _headers(header)
    if sys.stdin.isatty():
        say("the body, from standard input; it ends with Ctrl-D")
    order = Order(channel, sys.stdin.buffer.read(), topic, app or (), type, content_type, key, id, headers, timeout)
    if request:
        reply = until_done(ask(settings, order))
        show_json({"channel": channel, **body_as_dict(*reply)}) if as_json else show(body_as_text(reply[0]))
        return
    sent = until_done(send(settings, order))
    show_json({"id": sent, "channel": channel}) if as_json else show(sent)


async def send(settings: Settings, order: Order) -> str:
    """The id of the message, which the broker has confirmed.

    Raises:
        EncodeError, ConfigurationError: the body or the channel is not what it should be; nothing was sent.
        PublishError, ConnectError: as `Bus.send`.
    """
    async with _prepared(settings, order) as (bus, channel, body):
        how: dict[str, Any] = {  # of the two verbs, which take the same
            "key": order.key,
            "id": order.id,
            "headers": order.headers or {},
            "timeout": order.timeout,
        }
        if isinstance(channel, Queue):
            return await bus.send(channel, body, **how)
        if isinstance(channel, Topic):
            return await bus.publish(channel, body, **how)
        raise ConfigurationError(f"{channel.name} is neither a queue nor a topic")


async def ask(settings: Settings, order: Order) -> tuple[bytes, str]:
    """The reply, and its content type.

    Raises:
        EncodeError, ConfigurationError: the body or the channel is not what it should be; nothing was sent.
        RemoteError, RequestTimeout, PublishError, ConnectError: as `Bus.request`.
    """
    if order.id is not None:
        raise ConfigurationError("--id: a request has an id of its own")
    async with _prepared(settings, order) as (bus, channel, body):
        if not isinstance(channel, Queue):
            raise ConfigurationError(f"{channel.name} is a topic: --request is for a queue")
        reply = await bus.request(channel, body, timeout=order.timeout, key=order.key, headers=order.headers or {})
        assert channel.replies is not None  # noqa: S101  # else `request` would have refused
        _, content_type, data = channel.replies.encode(reply)
        return data, content_type if order.apps else JSON  # of bytes nobody knows what they are


@asynccontextmanager
async def _prepared(settings: Settings, order: Order) -> AsyncIterator[tuple[Bus, Channel[Any, Any], Any]]:
    """The bus, the channel and the body, checked before there is a connection."""
    declaration = declared(order.channel, order.apps) if order.apps else None
    body = order.body if declaration is None else _decoded(declaration, order)
    if declaration is None:
        _check(order)
    async with connect(settings=settings) as bus:
        kind = Kind.TOPIC if order.is_topic else Kind.QUEUE
        found = declaration or await existing(
            bus, order.channel, kind, content_type=order.content_type, type=order.type
        )
        yield bus, found, body


def _decoded(channel: Channel[Any, Any], order: Order) -> Any:
    """The body as the application sees it: in the first format that it writes."""
    if order.is_topic and not isinstance(channel, Topic):
        raise ConfigurationError(f"{channel.name} is a queue: leave out --topic")
    try:
        return channel.decode(order.type, None, order.body)
    except DecodeError as error:
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise EncodeError(f"standard input: {error}{cause}") from error


def _check(order: Order) -> None:
    """Raises EncodeError: it is said to be JSON, and is none."""
    if order.content_type.partition(";")[0].strip().lower() != JSON:
        return
    try:
        json.loads(order.body)
    except (ValueError, RecursionError) as error:
        what = "it is empty" if not order.body.strip() else str(error)
        raise EncodeError(
            f"standard input is not JSON ({what}): for text give --content-type text/plain, for anything else its own"
        ) from None


def _headers(given: Sequence[str] | None) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for each in given or ():
        name, divider, value = each.partition("=")
        if not divider:
            raise ConfigurationError(f"--header {each}: write NAME=VALUE")
        headers[name] = value
    return headers
