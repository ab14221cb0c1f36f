"""The bus: what sends, and knows how all goes."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from unimsg._message import secret_id
from unimsg._pipeline import Pipeline
from unimsg._requests import Make, Requests
from unimsg._routes import Route, Routes
from unimsg._sending import OneWay, Sender, check_timeout, confirmed, confirmed_later
from unimsg._survey import Survey
from unimsg.adapter import Wire
from unimsg.channel import Channel, Queue, Topic
from unimsg.dead_letters import DeadLetter
from unimsg.errors import BusClosed, ConfigurationError
from unimsg.health import Health

if TYPE_CHECKING:
    from unimsg._graveyard import Graveyard

__all__ = ["Bus"]

Body = TypeVar("Body")
Reply = TypeVar("Reply")


class Bus(OneWay):
    """Made by `connect`. `send` and `publish` return when the broker has confirmed the message: see `Sender`."""

    def __init__(
        self,
        routes: Routes,
        requests: Requests,
        source: str,
        examine: Callable[[], Health],
        closed: Callable[[], bool],
    ) -> None:
        self._routes = routes
        self._requests = requests
        self._source = source
        self._examine = examine
        self._closed = closed

    async def request(
        self,
        channel: Queue[Body, Reply],
        body: Body,
        *,
        timeout: float = 5.0,
        key: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> Reply:
        """Sends to a queue and waits for the reply. The request expires with its timeout: nobody handles it for a
        caller who left. A failed one is retried as far as the timeout allows, and is no dead letter.

        `timeout`: seconds for the whole call, reconnection included. `key`, `headers`: as of `Sender.send`.

        Raises:
            RemoteError: the other side failed; a `Reject` of its handler says why, other errors are "internal".
            RequestTimeout: no reply in time. It may have been handled.
            DecodeError: the reply is none of those that the channel declares.
            PublishRejected: certainly not sent, the broker not reached in time included; nobody handles it.
            EncodeError: body, key or headers invalid; nothing was sent.
            BusClosed: the bus was closed, now or while it waited.
            ConfigurationError, PermissionDenied: the channel declares no `replies=`; its broker or the channel itself
                is not as it must be.
        """
        return await self._request(channel, body, timeout, key, headers, {})  # type: ignore[no-any-return]  # decoded as a Reply

    def survey(
        self,
        channel: Topic[Body, Reply],
        body: Body,
        *,
        timeout: float,
        at_most: int | None = None,
        key: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> AbstractAsyncContextManager[Survey[Reply]]:
        """Publishes to a topic, and gives the replies of its subscriptions as they come:

            async with bus.survey(price, body, timeout=2) as survey:
                async for reply in survey: ...

        It ends `timeout` seconds after its block was entered, or after `at_most` replies; leaving the block earlier
        ends it, too. `survey.failures`: what subscriptions failed with. What is published expires with the timeout. A
        handler that returns None does not reply.

        Raises, when the block is entered:
            PublishError: not published in time, or not known to be.
            EncodeError, BusClosed, ConfigurationError, PermissionDenied: as `request`.

        Raises, from its iteration:
            BusClosed: the bus was closed meanwhile.
        """
        if not isinstance(channel, Topic):
            raise TypeError(f"survey() takes a Topic, not {channel!r}: request() of a Queue")
        if at_most is not None and at_most < 1:
            raise ValueError(f"at_most must be 1 or more, not {at_most}")
        check_timeout(timeout)
        route, make = self._question(channel, body, key, headers, {})
        return Survey(self._requests, route, make, timeout, at_most)

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
        order. It removes none. At most 10,000, and 32 MiB of their bodies, are read into memory and shown: where there
        are more, a warning is logged.

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

        `where`: only those; it is asked at least once for each letter that is there. `limit`: so many at most. `rate`:
        so many a second at most. Each is confirmed where it came from before it is removed: interrupted, none is lost,
        and some may be in both. All are looked at, however many they are, with some 20 MiB of them in memory. To get
        past more than 1,000, or 8 MiB, that are not wanted it moves those to the end of the dead letters, in the same
        way: interrupted, some may be there twice.

        Raises:
            PublishError: a message was not confirmed; it is still a dead letter.
            ConfigurationError, TopologyError, ConnectError, PermissionDenied: as `dead_letters`.
        """
        return await self._graveyard(channel, subscription).redrive(where, limit, rate)

    async def drop_dead_letters(
        self,
        channel: Channel[Any, Any],
        subscription: str | None = None,
        *,
        where: Callable[[DeadLetter], bool] = lambda _: True,
        limit: int | None = None,
    ) -> int:
        """Removes dead letters for good. Returns how many.

        `where`: only those. `limit`: so many at most. It looks at all of them; what is sent to the dead-letter queue
        meanwhile stays.

        Raises:
            ConfigurationError, TopologyError, ConnectError, PermissionDenied: as `dead_letters`.
        """
        return await self._graveyard(channel, subscription).drop(where, limit)

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

    async def _request(
        self,
        channel: Channel[Any, Any],
        body: object,
        timeout: float,
        key: str | None,
        headers: Mapping[str, str],
        extensions: Mapping[str, str],
    ) -> Any:
        """`extensions`: CloudEvents attributes, without prefix, that it has beside those of any request."""
        if not isinstance(channel, Queue):
            raise TypeError(f"request() takes a Queue, not {channel!r}: survey() of a Topic")
        check_timeout(timeout)
        route, make = self._question(channel, body, key, headers, extensions)
        return await self._requests.request(route, make, timeout)

    def _question(
        self,
        channel: Channel[Any, Any],
        body: object,
        key: str | None,
        headers: Mapping[str, str],
        extensions: Mapping[str, str],
    ) -> tuple[Route, Make]:
        """Where a request or a survey goes, and what makes it."""
        if channel.replies is None:
            raise ConfigurationError(f"{channel.name} declares no replies: give it replies=, or send to it")
        route, ttl = self._route(channel), channel.ttl

        def make(return_address: str, left: float) -> Wire:
            return route.wire(
                body,
                source=self._source,
                key=key,
                id=secret_id(),
                headers=headers,
                extensions={**extensions, "replyto": return_address},
                ttl=left if ttl is None else min(left, ttl),
            )

        return route, make

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
