"""The bus: what sends, and knows how all goes."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from unimsg._pipeline import Pipeline
from unimsg._routes import Route, Routes
from unimsg._sending import OneWay, Sender, confirmed
from unimsg.adapter import Wire
from unimsg.channel import Channel
from unimsg.errors import BusClosed
from unimsg.health import Health

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

    async def health(self) -> Health:
        """How connections, receivers and handlers do. Fast: it asks no broker."""
        return self._examine()

    def _route(self, channel: Channel[Any, Any]) -> Route:
        if self._closed():
            raise BusClosed(f"{channel.name}: the bus was closed: use it inside its `async with` block")
        return self._routes.get(channel)

    def _message(
        self, channel: Channel[Any, Any], body: object, key: str | None, id: str | None, headers: Mapping[str, str]
    ) -> tuple[Route, Wire]:
        route = self._route(channel)
        return route, route.wire(body, source=self._source, key=key, id=id, headers=headers)

    async def _post(self, route: Route, wire: Wire, timeout: float) -> None:
        await confirmed(route, wire, timeout)
