"""The requester's half of a conversation: a question, its deadline, and the reply or what came in its place."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from unimsg._brokers import Broker
from unimsg._inbox import Inbox
from unimsg._message import CONTENT_TYPE
from unimsg._routes import Route
from unimsg.adapter import Wire
from unimsg.errors import (
    BusClosed,
    ConnectError,
    PublishRejected,
    PublishUnconfirmed,
    RemoteError,
    RequestTimeout,
    UnimsgError,
)

MARGIN = 0.1
"""Seconds, or this part of a shorter timeout, before the deadline by which the question must have left: what cannot be
sent is then told as such, and not as a reply that did not come."""

Make = Callable[[str, float], Wire]
"""Makes the question of the return address and the seconds that are left."""


class Requests:
    """Of one `connect` block: an inbox for each broker that something was asked over."""

    def __init__(self) -> None:
        self._inboxes: dict[Broker, Inbox] = {}

    @property
    def inboxes(self) -> Iterable[Inbox]:
        return self._inboxes.values()

    def inbox(self, route: Route) -> Inbox:
        """Where replies over the route's broker arrive, once it is open."""
        inbox = self._inboxes.get(route.broker)
        if inbox is None:
            inbox = self._inboxes[route.broker] = Inbox(route.broker)
        return inbox

    async def open(self, inbox: Inbox, route: Route, question: Wire, deadline: float) -> None:
        """Before the question leaves: else its reply might come before there is an inbox.

        Raises:
            PublishRejected: the broker could not be reached by the deadline; the question was not sent.
            BusClosed, PermissionDenied, …: as `Inbox.open`.
        """
        if inbox.is_open:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await inbox.open()
        except (ConnectError, TimeoutError) as error:
            why = str(error) or "its broker did not answer in time"
            raise PublishRejected(
                f"{route.channel.name}: not sent: the {inbox.label} could not be opened: {why}",
                channel=route.channel.name,
                message_id=question.id,
            ) from error

    async def request(self, route: Route, make: Make, timeout: float) -> Any:
        """See `Bus.request`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        inbox = self.inbox(route)
        wire = make(inbox.name, timeout)
        await self.open(inbox, route, wire, deadline - min(MARGIN, MARGIN * timeout))
        left = deadline - loop.time()
        question = _Question(loop)
        inbox.expect(wire.id, question)
        try:
            route.publisher.post(wire, left - min(MARGIN, MARGIN * left), question)
            async with asyncio.timeout_at(deadline):
                reply = await question.reply
        except TimeoutError as error:
            if isinstance(error, UnimsgError):
                raise
            text = f"{route.channel.name}: no reply to request {wire.id} within {timeout:g} s"
            if not question.confirmed:
                text += ", and the broker did not confirm the request: it may have been handled"
            raise RequestTimeout(text) from question.unconfirmed
        finally:
            inbox.forget(wire.id, answered=question.reply.done() and not question.reply.cancelled())
        result = read_reply(route, reply)
        if isinstance(result, RemoteError):
            raise result
        return result

    async def aclose(self) -> None:
        """Whoever still waits gets BusClosed."""
        await asyncio.gather(*(inbox.aclose() for inbox in self._inboxes.values()))


def read_reply(route: Route, reply: Wire) -> Any:
    """The reply, or a RemoteError in its place. Raises DecodeError: it is none of the declared ones."""
    bodies, headers = route.channel.replies, reply.headers
    assert bodies is not None  # noqa: S101  # else nothing was asked
    return bodies.decode(headers.get(f"{route.prefix}type"), headers.get(CONTENT_TYPE), reply.body)


class _Question:
    """One request: what waits for its reply, and the receipt of its sending."""

    __slots__ = ("confirmed", "reply", "unconfirmed")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reply: asyncio.Future[Wire] = loop.create_future()
        self.confirmed = False
        self.unconfirmed: UnimsgError | None = None
        """The broker did not confirm it. It may be stored: the reply may come all the same."""

    def take(self, reply: Wire) -> bool:
        if self.reply.done():
            return False
        self.reply.set_result(reply)
        return True

    def close(self) -> None:
        if not self.reply.done():
            self.reply.set_exception(BusClosed("the bus was closed before the reply came"))

    def done(self) -> bool:
        return self.reply.done()

    def set_result(self, outcome: UnimsgError | None, /) -> None:
        if outcome is None:
            self.confirmed = True
        elif isinstance(outcome, PublishUnconfirmed):
            self.unconfirmed = outcome
        elif not self.reply.done():
            self.reply.set_exception(outcome)
