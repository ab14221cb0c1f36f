"""The two one-way verbs, written once for whoever has them: bus, context, pipeline."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from time import monotonic
from typing import Any, Protocol, TypeVar, overload

from unimsg._routes import Route
from unimsg.adapter import Wire
from unimsg.channel import Channel, Queue, ReplyQueue, Topic
from unimsg.errors import ConfigurationError

Body = TypeVar("Body")
Reply = TypeVar("Reply")


class Sender(Protocol):
    """What bus, context and pipeline have in common. Code that takes a `Sender` need not know where it runs."""

    @overload
    async def send(
        self,
        channel: Queue[Body, Any],
        body: Body,
        *,
        key: str | None = ...,
        id: str | None = ...,
        headers: Mapping[str, str] = ...,
        delay: float = ...,
        ttl: float | None = ...,
        timeout: float = ...,
    ) -> str: ...
    @overload
    async def send(
        self,
        channel: Queue[Body, Reply],
        body: Body,
        *,
        reply_to: ReplyQueue[Reply],
        key: str | None = ...,
        id: str | None = ...,
        headers: Mapping[str, str] = ...,
        delay: float = ...,
        ttl: float | None = ...,
        timeout: float = ...,
    ) -> str: ...
    async def send(
        self,
        channel: Queue[Any, Any],
        body: Any,
        *,
        key: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] = {},
        delay: float = 0.0,
        ttl: float | None = None,
        timeout: float = 10.0,
        reply_to: ReplyQueue[Any] | None = None,
    ) -> str:
        """Sends to a queue; returns the message's id.

        `key`: messages of one key keep their order (an ordered channel derives it with its `key=`, unless given).
        `id`: the message's id, to repeat a send that may have been stored. `delay`: seconds, 24 hours at most, before
        which nobody receives it; RabbitMQ and memory round them up to 1, 2, 5, 10, 30 s, 1, 5, 15 min, 1, 6 or 24 h.
        `ttl`: seconds after which nobody handles it any more, instead of the channel's. `timeout`: seconds for the
        whole call, reconnection included. `reply_to`: where the reply goes, or the `RemoteError` in its place; it is
        made first, and is on the same broker.

        Raises:
            EncodeError: body, key, id or headers invalid; nothing was sent.
            CapabilityError: a `delay` that is too long, or on an ordered channel.
            PublishRejected: certainly not stored.
            PublishUnconfirmed: may be stored; repeat with `id=error.message_id`.
            BusClosed: the bus was closed.
            ConfigurationError, PermissionDenied: the channel's broker or the channel itself is not as it must be.
        """

    async def publish(
        self,
        channel: Topic[Body, Any],
        body: Body,
        *,
        key: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] = {},
        delay: float = 0.0,
        ttl: float | None = None,
        timeout: float = 10.0,
    ) -> str:
        """Publishes to a topic; else as `send`. Without any subscription it succeeds, and nobody gets the message."""


class OneWay(ABC):
    """A `Sender`: the checks of both verbs, then `_post`."""

    @overload
    async def send(
        self,
        channel: Queue[Body, Any],
        body: Body,
        *,
        key: str | None = ...,
        id: str | None = ...,
        headers: Mapping[str, str] = ...,
        delay: float = ...,
        ttl: float | None = ...,
        timeout: float = ...,
    ) -> str: ...
    @overload
    async def send(
        self,
        channel: Queue[Body, Reply],
        body: Body,
        *,
        reply_to: ReplyQueue[Reply],
        key: str | None = ...,
        id: str | None = ...,
        headers: Mapping[str, str] = ...,
        delay: float = ...,
        ttl: float | None = ...,
        timeout: float = ...,
    ) -> str: ...
    async def send(
        self,
        channel: Queue[Any, Any],
        body: Any,
        *,
        key: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] = {},
        delay: float = 0.0,
        ttl: float | None = None,
        timeout: float = 10.0,
        reply_to: ReplyQueue[Any] | None = None,
    ) -> str:
        """See `Sender.send`."""
        if not isinstance(channel, Queue):
            raise TypeError(f"send() takes a Queue, not {channel!r}: publish() to a Topic")
        _check_times(timeout, delay, channel.ttl if ttl is None else ttl)
        route, wire = self._message(channel, body, key, id, headers, ttl)
        if reply_to is not None:
            began = monotonic()
            wire = await self._answered_to(reply_to, route, wire, timeout)
            timeout -= monotonic() - began
        if delay:
            await self._post_later(route, wire, timeout, delay)
        else:
            await self._post(route, wire, timeout)
        return wire.id

    async def publish(
        self,
        channel: Topic[Body, Any],
        body: Body,
        *,
        key: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] = {},
        delay: float = 0.0,
        ttl: float | None = None,
        timeout: float = 10.0,
    ) -> str:
        """See `Sender.publish`."""
        if not isinstance(channel, Topic):
            raise TypeError(f"publish() takes a Topic, not {channel!r}: send() to a Queue")
        _check_times(timeout, delay, channel.ttl if ttl is None else ttl)
        route, wire = self._message(channel, body, key, id, headers, ttl)
        if delay:
            await self._post_later(route, wire, timeout, delay)
        else:
            await self._post(route, wire, timeout)
        return wire.id

    async def _answered_to(self, reply_to: ReplyQueue[Any], route: Route, wire: Wire, timeout: float) -> Wire:
        """The message with its return address, which exists: who answers makes none."""
        if not isinstance(reply_to, ReplyQueue):
            raise TypeError(f"reply_to takes a ReplyQueue, not {reply_to!r}")
        name, back = route.channel.name, self._route(reply_to)
        if route.channel.replies is None:
            raise ConfigurationError(f"{name} declares no replies: give it replies=, or leave reply_to out")
        if back.broker is not route.broker:
            raise ConfigurationError(
                f"{name} is on broker {route.broker.name}, and the reply queue {reply_to.name} on {back.broker.name}: "
                "replies go over one broker; set broker= of both in their channels' settings"
            )
        await back.made(wire.id, timeout)
        headers = {**wire.headers, f"{route.prefix}replyto": f"{reply_to._namespace}{reply_to.name}"}
        return Wire(wire.id, wire.body, headers, wire.key)

    @abstractmethod
    def _route(self, channel: Channel[Any, Any]) -> Route:
        """Where a channel lives. Raises BusClosed, ConfigurationError."""

    @abstractmethod
    def _message(
        self,
        channel: Channel[Any, Any],
        body: object,
        key: str | None,
        id: str | None,
        headers: Mapping[str, str],
        ttl: float | None,
    ) -> tuple[Route, Wire]:
        """Checks and encodes; no network."""

    @abstractmethod
    async def _post(self, route: Route, wire: Wire, timeout: float) -> None:
        """Sends it, or keeps it to be sent."""

    @abstractmethod
    async def _post_later(self, route: Route, wire: Wire, timeout: float, delay: float) -> None:
        """As `_post`; nobody gets it for `delay` seconds."""


def check_timeout(timeout: float) -> None:
    """Raises ValueError unless it is more than 0."""
    if not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")


def _check_times(timeout: float, delay: float, ttl: float | None) -> None:
    check_timeout(timeout)
    if not delay >= 0:
        raise ValueError(f"delay must be 0 or more seconds, not {delay}")
    if ttl is not None and not ttl > delay:
        raise ValueError(f"ttl must be more than 0 seconds and more than delay, not {ttl}")


async def confirmed(route: Route, wire: Wire, timeout: float) -> None:
    """Sends and waits for the broker's confirmation.

    Raises: as `Sender.send`.
    """
    outcome = await route.publisher.send(wire, timeout)
    if outcome is not None:
        raise outcome


async def confirmed_later(route: Route, wire: Wire, timeout: float, delay: float) -> None:
    """As `confirmed`; nobody gets it for `delay` seconds."""
    outcome = await route.delays.submit(wire, timeout, delay)
    if outcome is not None:
        raise outcome
