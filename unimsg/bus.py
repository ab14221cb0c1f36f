"""The bus: what sends, and knows how all goes."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from unimsg._pipeline import Pipeline
from unimsg._routes import Route, Routes
from unimsg._sending import OneWay, Sender, confirmed, confirmed_later
from unimsg.adapter import Wire
from unimsg.channel import Channel, Topic
from unimsg.dead_letters import DeadLetter
from unimsg.errors import BusClosed
from unimsg.health import Health

if TYPE_CHECKING:
    from unimsg._graveyard import Graveyard

__all__ = ["Bus"]


class Bus(OneWay):
    """Made by `connect`. `send` and `publish` return when the broker has confirmed the message: see `Sender`."""

    def __init__(self, routes: Routes, source: str, examine: Callable[[], Health], closed: Callable[[], bool]) -> None:
        self._routes = routes
        self._source = source
        self._examine = examine
        self._closed = closed

    def pipeline(self, *, in_flight: int = 1000) -> AbstractAsyncContextManager[Sender]:
        """A sender whose verbs return as soon as the message is accepted into a window of `in_flight` unconfirmed ones;
        leaving its block waits for all.

        Raises, from the block's end:
            ExceptionGroup[PublishError]: those that were not confirmed.
        """
        if in_flight < 1:
            raise ValueError("in_flight must be 1 or more")
        return Pipeline(self, in_flight)

    async def dead_letters(
        self, channel: Channel[Any, Any], subscription: str | None = None
    ) -> AsyncIterator[DeadLetter]:
        """The dead letters of a queue, or of a topic's `subscription`, the oldest first as far as the broker has an
        order, 10,000 at most. It removes none.

        Raises:
            ConfigurationError: a topic without subscription, or the reverse.
            TopologyError: nobody ever handled it: it has no dead-letter queue.
            ConnectError, PermissionDenied: as everywhere.
        """
        for letter in await self._graveyard(channel, subscription).letters():
            yield letter

    async def redrive(
        self,
        channel: Channel[Any, Any],
        subscription: str | None = None,
        *,
        where: Callable[[DeadLetter], bool] = lambda _: True,
        limit: int | None = None,
        rate: float | None = None,
    ) -> int:
        """Puts dead letters back to where they came from, as if they were sent anew: with the same id, key and headers,
        attempts from 1. Returns how many.

        `where`: only those. `limit`: so many at most; a call looks at 10,000. `rate`: so many a second at most. Each
        is confirmed where it came from before it is removed: interrupted, none is lost, and some may be in both.

        Raises:
            PublishError: a message was not confirmed; it is still a dead letter.
            ConfigurationError, TopologyError, ConnectError, PermissionDenied: as `dead_letters`.
        """
        return await self._graveyard(channel, subscription).redrive(where, limit, rate)

    async def replay(self, topic: Topic[Any, Any], subscription: str, *, since: datetime) -> int:
        """Has one subscription handle again what was published since then; returns how many messages. They come beside
        what it handles anyway, of one key in the order sent, and a handler's `store` does not keep them out.

        Raises:
            CapabilityError: the topic keeps no such history.
            TopologyError: the topic does not exist, or was made without history.
            PublishError: a message was not confirmed: some have come, some have not.
            ConnectError, PermissionDenied: as everywhere.
        """
        from unimsg._replay import replay  # not above: operators need it, few programs do

        return await replay(self._route(topic), subscription, since)

    async def health(self) -> Health:
        """How connections, receivers and handlers do. Fast: it asks no broker."""
        return self._examine()

    def _graveyard(self, channel: Channel[Any, Any], subscription: str | None) -> "Graveyard":
        from unimsg._graveyard import Graveyard  # as `replay` above

        return Graveyard(self._route(channel), subscription)

    def _route(self, channel: Channel[Any, Any]) -> Route:
        if self._closed():
            raise BusClosed(f"{channel.name}: the bus was closed: use it inside its `async with` block")
        return self._routes.get(channel)

    def _message(
        self,
        channel: Channel[Any, Any],
        body: object,
        key: str | None,
        id: str | None,
        headers: Mapping[str, str],
        ttl: float | None,
    ) -> tuple[Route, Wire]:
        route = self._route(channel)
        return route, route.wire(body, source=self._source, key=key, id=id, headers=headers, ttl=ttl)

    async def _post(self, route: Route, wire: Wire, timeout: float) -> None:
        await confirmed(route, wire, timeout)

    async def _post_later(self, route: Route, wire: Wire, timeout: float, delay: float) -> None:
        await confirmed_later(route, wire, timeout, delay)
