"""Sending without waiting for each confirmation, in a bounded window."""

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from unimsg._publisher import Outcome, Publisher
from unimsg._routes import Route
from unimsg._sending import OneWay
from unimsg.adapter import Wire
from unimsg.channel import Channel
from unimsg.errors import BusClosed, PublishError, UnimsgError

log = logging.getLogger("unimsg")


STRIDE = 250
"""Messages after which a caller that never has to wait gives way."""


class Pipeline(OneWay):
    """Made by `Bus.pipeline`. Its verbs return when the message is accepted into the window of `in_flight`
    unconfirmed ones; leaving the block waits for all."""

    def __init__(self, bus: OneWay, in_flight: int) -> None:
        self._bus = bus
        self._in_flight = in_flight
        self._unconfirmed = 0
        self._accepted = 0
        self._stride = max(1, min(STRIDE, in_flight // 4))
        self._room: asyncio.Future[None] | None = None
        self._errors: list[PublishError] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raises ExceptionGroup[PublishError] unless all messages were confirmed; the block's own error goes first."""
        while self._unconfirmed:
            await self._wait()
        if self._errors and error is None:
            raise ExceptionGroup(f"{len(self._errors)} messages were not confirmed", self._errors)
        if self._errors:
            log.error("%d messages of a pipeline were not confirmed, the first: %s", len(self._errors), self._errors[0])

    def _route(self, channel: Channel[Any, Any]) -> Route:
        return self._bus._route(channel)

    def _message(
        self,
        channel: Channel[Any, Any],
        body: object,
        key: str | None,
        id: str | None,
        headers: Mapping[str, str],
        ttl: float | None,
    ) -> tuple[Route, Wire]:
        return self._bus._message(channel, body, key, id, headers, ttl)

    async def _post(self, route: Route, wire: Wire, timeout: float) -> None:
        while self._unconfirmed >= self._in_flight:
            await self._wait()
        self._unconfirmed += 1
        if route.publisher.is_open:
            try:
                route.publisher.post(wire, timeout, self)
            except BusClosed:
                self._leave()
                raise
        else:
            await self._opened(route.publisher, route.publisher.submit(wire, timeout))
        self._accepted += 1
        if self._accepted % self._stride == 0:
            await asyncio.sleep(0)  # lets go out what was accepted, while the caller makes more; and others run

    async def _post_later(self, route: Route, wire: Wire, timeout: float, delay: float) -> None:
        while self._unconfirmed >= self._in_flight:
            await self._wait()
        outcome, publisher = route.delays.submit_and_tell(wire, timeout, delay)
        self._unconfirmed += 1
        if outcome.done() or not publisher.is_open:
            await self._opened(publisher, outcome)
        else:
            outcome.add_done_callback(self._done)

    async def _opened(self, publisher: Publisher, outcome: Outcome) -> None:
        """The caller hears at once that the channel cannot be made, or that the bus was closed."""
        try:
            await publisher.made(outcome)
        except asyncio.CancelledError:
            outcome.add_done_callback(self._done)
            raise
        error = outcome.result() if outcome.done() else None
        if error is not None and not (publisher.is_open and isinstance(error, PublishError)):
            self._leave()
            raise error
        outcome.add_done_callback(self._done)

    def _done(self, outcome: Outcome) -> None:
        self.set_result(None if outcome.cancelled() else outcome.result())

    # -- as the receipt of all its messages: a future for each would cost more than the rest of this

    def done(self) -> bool:
        return False

    def set_result(self, outcome: UnimsgError | None, /) -> None:
        if isinstance(outcome, PublishError):
            self._errors.append(outcome)  # any other is told to those who wait for the channel to be made
        self._leave()

    def _leave(self) -> None:
        """One message less in the window: whoever waits for room looks again."""
        self._unconfirmed -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _wait(self) -> None:
        """Until another message has its outcome. Several senders may wait at once."""
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)
