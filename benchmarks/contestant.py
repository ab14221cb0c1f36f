"""What a library must show to be measured: its documented use, at the durability that unimsg has by default."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from benchmarks.arrivals import Arrivals
from benchmarks.rows import windows


class Sender(ABC):
    """A connected sender to one channel."""

    @abstractmethod
    async def send(self, body: bytes) -> None:
        """Returns when the broker has stored the message. With the two headers of every message."""

    async def pipeline(self, bodies: Sequence[bytes]) -> None:
        """Sends all without waiting for each, IN_FLIGHT at most unconfirmed; returns when all are stored."""
        for window in windows(bodies):
            await asyncio.gather(*[self.send(body) for body in window])


class Contestant(ABC):
    """One library on one channel of one broker."""

    arrivals: ClassVar[type[Arrivals]] = Arrivals

    def __init__(self, url: str, channel: str) -> None:
        self.url = url
        self.channel = channel

    @abstractmethod
    def sender(self) -> AbstractAsyncContextManager[Sender]:
        """Makes the channel if it must, and connects."""

    @abstractmethod
    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        """Handles what is in the channel with a handler that only notes the body, until `arrivals` is complete; returns
        when all is acknowledged and closed. Makes the channel if it must. A message whose noting raises HandlerFailed
        is to be handled again after RETRY_DELAY, and the others meanwhile."""


Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a request with the two headers of every message, and returns its reply."""


class Asking(ABC):
    """One library's requests and replies over one channel of one broker: who asks and who answers, each with a
    connection of its own, in this process."""

    def __init__(self, url: str, channel: str) -> None:
        self.url = url
        self.channel = channel

    @abstractmethod
    def asking(self) -> AbstractAsyncContextManager[Ask]:
        """Makes what it needs, and starts who answers each request with its own body, then acknowledges it. Many ask at
        once."""
