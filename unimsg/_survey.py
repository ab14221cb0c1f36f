"""Asking all subscriptions of a topic, and taking their replies as they come."""

import asyncio
import logging
from collections import deque
from types import TracebackType
from typing import Any, Generic, Self

from typing_extensions import TypeVar

from unimsg._inbox import Inbox
from unimsg._message import Message, read_message
from unimsg._requests import Make, Requests, read_reply
from unimsg._routes import Route
from unimsg.adapter import Wire
from unimsg.errors import BusClosed, DecodeError, RemoteError

log = logging.getLogger("unimsg")

Reply = TypeVar("Reply", covariant=True, default=Any)

MAX_REPLIES = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of one survey, the second of bodies that nobody has read yet; what comes beyond is dropped: a flood must not fill
the memory."""


class Survey(Generic[Reply]):
    """Made by `Bus.survey`: iterate over it to get the replies as they come, until its deadline or count. Leaving its
    block stops it. What came in time may be read later."""

    def __init__(self, requests: Requests, route: Route, make: Make, timeout: float, at_most: int | None) -> None:
        self.failures: list[RemoteError] = []
        """What subscriptions failed with that were to reply, and replies that cannot be read."""
        self._requests = requests
        self._route = route
        self._make = make
        self._timeout = timeout
        self._left = at_most
        self._id = ""
        self._inbox: Inbox | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen: set[str] = set()
        self._waiting: deque[Message[Any]] = deque()
        self._sizes: deque[int] = deque()
        """Bytes of the bodies of those that wait."""
        self._bytes = 0
        """Of all of them."""
        self._arrived = asyncio.Event()
        self._closed = False

    async def __aenter__(self) -> Self:
        """Asks; see `Bus.survey` for what it raises."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        inbox = self._requests.inbox(self._route)
        wire = self._make(inbox.name, self._timeout)
        await self._requests.open(inbox, self._route, wire, deadline)
        inbox.expect(wire.id, self)
        self._inbox, self._id = inbox, wire.id
        try:
            outcome = await self._route.publisher.send(wire, deadline - loop.time())
            if outcome is not None:
                raise outcome
        except BaseException:
            self._stop()
            raise
        if self._inbox is not None:
            self._timer = loop.call_at(deadline, self._stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        self._waiting.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message[Reply]:
        """Raises BusClosed: the bus was closed meanwhile."""
        while not self._waiting:
            if self._closed:
                raise BusClosed(f"{self._route.channel.name}: the bus was closed before the survey's end")
            if self._inbox is None:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        self._bytes -= self._sizes.popleft()
        return self._waiting.popleft()

    def _stop(self) -> None:
        """Takes nothing more in; what came may still be read."""
        if self._inbox is not None:
            self._inbox.forget(self._id, answered=False)
            self._inbox = None
        if self._timer is not None:
            self._timer.cancel()
        self._arrived.set()

    # -- as what the inbox knows of it

    def take(self, reply: Wire) -> bool:
        if reply.id in self._seen:
            return False
        self._seen.add(reply.id)
        if self._bytes + len(reply.body) > MAX_WAITING_BYTES:
            log.warning(
                "%s: a survey holds %d unread replies, and takes no more", self._route.channel.name, len(self._waiting)
            )
            self._stop()
            return True
        if len(self._seen) >= MAX_REPLIES:
            log.warning("%s: a survey got %d replies, and takes no more", self._route.channel.name, MAX_REPLIES)
            self._stop()
        try:
            body = read_reply(self._route, reply)
        except DecodeError as error:
            body = RemoteError("undecodable", str(error))
        if isinstance(body, RemoteError):
            self.failures.append(body)
            return True
        route = self._route
        type_ = f"{route.channel.name}.reply"
        self._waiting.append(read_message(reply, body, route.prefix, type=type_, kind="document", raw=None))
        self._sizes.append(len(reply.body))
        self._bytes += len(reply.body)
        self._arrived.set()
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._stop()
        return True

    def close(self) -> None:
        self._closed = True
        self._arrived.set()
