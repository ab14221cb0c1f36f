"""Asking all subscriptions of a topic, and taking their replies as they come."""

import asyncio
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

Reply = TypeVar("Reply", covariant=True, default=Any)

MAX_REPLIES = 10_000
"""Of one survey; what comes beyond is dropped: a flood must not fill the memory."""


class Survey(Generic[Reply]):
    """Made by `Bus.survey`: iterate over it to get the replies as they come, until its deadline or count. Leaving its
    block stops it."""

    def __init__(self, requests: Requests, route: Route, make: Make, timeout: float, at_most: int | None) -> None:
        self.failures: list[RemoteError] = []
        """What subscriptions failed with that were to reply, and replies that cannot be read."""
        self._requests = requests
        self._route = route
        self._make = make
        self._timeout = timeout
        self._left = at_most
        self._deadline = 0.0
        self._id = ""
        self._inbox: Inbox | None = None
        self._seen: set[str] = set()
        self._waiting: deque[Message[Any]] = deque()
        self._arrived = asyncio.Event()
        self._closed = False

    async def __aenter__(self) -> Self:
        """Asks; see `Bus.survey` for what it raises."""
        self._deadline = asyncio.get_running_loop().time() + self._timeout
        inbox = self._requests.inbox(self._route)
        wire = self._make(inbox.name, self._timeout)
        await self._requests.open(inbox, self._route, self._deadline)
        left = self._deadline - asyncio.get_running_loop().time()
        self._inbox, self._id = inbox, wire.id
        inbox.expect(wire.id, self)
        try:
            outcome = await self._route.publisher.send(wire, left)
            if outcome is not None:
                raise outcome
        except BaseException:
            inbox.forget(wire.id, answered=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inbox is not None:
            self._inbox.forget(self._id, answered=False)
        self._waiting.clear()
        self._left = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message[Reply]:
        """Raises BusClosed: the bus was closed meanwhile."""
        if self._left == 0:
            raise StopAsyncIteration
        while not self._waiting:
            if self._closed:
                raise BusClosed(f"{self._route.channel.name}: the bus was closed before the survey's end")
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(self._deadline):
                    await self._arrived.wait()
            except TimeoutError:
                raise StopAsyncIteration from None
        if self._left is not None:
            self._left -= 1
        return self._waiting.popleft()

    # -- as what the inbox knows of it

    def take(self, reply: Wire) -> bool:
        if reply.id in self._seen or len(self._seen) >= MAX_REPLIES:
            return False
        self._seen.add(reply.id)
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
        self._arrived.set()
        return True

    def close(self) -> None:
        self._closed = True
        self._arrived.set()
