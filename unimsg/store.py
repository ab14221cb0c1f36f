"""Stores: what a handler remembers of messages that it has handled, so that a repeated one has no second effect."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Protocol

from typing_extensions import TypeVar

from unimsg.errors import ConfigurationError

__all__ = ["Handling", "MemoryStore", "Said", "Store"]

Session = TypeVar("Session", covariant=True)


@dataclass(frozen=True, slots=True)
class Said:
    """What a handler replied, as it travels."""

    type: str
    content_type: str
    body: bytes
    to: str = ""
    """The return address that it went to."""


class Handling(Protocol[Session]):
    """One attempt at a message."""

    @property
    def session(self) -> Session:
        """What the handler works with, of a store that has transactions."""

    @property
    def is_duplicate(self) -> bool:
        """Whether the message was handled: it is not handled again."""

    @property
    def reply(self) -> Said | None:
        """Of a duplicate: what was replied to the message. It is sent again, if the duplicate names the same return
        address: senders choose ids, and must not get with one what others were told."""

    async def complete(self, reply: Said | None) -> None:
        """The handler ended well, and what it sent is confirmed: the message is handled from now on. `reply`: what was
        replied, if anybody wanted a reply."""


class Store(Protocol[Session]):
    """What `Service.handler(store=)` takes."""

    def begin(self, message_id: str, handler: str) -> AbstractAsyncContextManager[Handling[Session]]:
        """Entered before the handler, left after it; `complete` was called unless the attempt failed. Of two attempts
        at one message at once the second waits for the end of the first."""


class MemoryStore:
    """Remembers in this process alone: for tests, and for repeats that one process sees. `keep`: how long.

    Raises:
        ConfigurationError: `keep` is not more than 0.
    """

    def __init__(self, *, keep: timedelta = timedelta(days=7)) -> None:
        if not (isinstance(keep, timedelta) and keep > timedelta()):
            raise ConfigurationError(f"MemoryStore: keep must be a timedelta of more than 0, not {keep!r}")
        self._keep = keep.total_seconds()
        self._handled: OrderedDict[tuple[str, str], tuple[float, Said | None]] = OrderedDict()
        """When each was, and what was replied."""
        self._running: dict[tuple[str, str], asyncio.Event] = {}

    @asynccontextmanager
    async def begin(self, message_id: str, handler: str) -> AsyncIterator[Handling[None]]:
        """See `Store.begin`."""
        key = (handler, message_id)
        while (other := self._running.get(key)) is not None:
            await other.wait()
        ended = self._running[key] = asyncio.Event()
        self._forget_old()
        try:
            yield _Handling(self, key)
        finally:
            del self._running[key]
            ended.set()

    def _forget_old(self) -> None:
        oldest = monotonic() - self._keep
        while self._handled and next(iter(self._handled.values()))[0] < oldest:
            self._handled.popitem(last=False)


class _Handling:
    session = None

    def __init__(self, store: MemoryStore, key: tuple[str, str]) -> None:
        self._handled = store._handled
        self._key = key

    @property
    def is_duplicate(self) -> bool:
        return self._key in self._handled

    @property
    def reply(self) -> Said | None:
        return self._handled[self._key][1]

    async def complete(self, reply: Said | None) -> None:
        self._handled[self._key] = (monotonic(), reply)
