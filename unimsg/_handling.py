"""One attempt: body, context, the `around` functions, the handler, and what it sent."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from unimsg._answers import Answers
from unimsg._bodies import UnknownType
from unimsg._message import CONTENT_TYPE, shown, timestamp
from unimsg._routes import Route
from unimsg.adapter import Delivery
from unimsg.context import Context
from unimsg.dead_letters import REPLAYED
from unimsg.errors import DecodeError
from unimsg.service import Around, Handler
from unimsg.store import Said

if TYPE_CHECKING:
    from unimsg.bus import Bus

log = logging.getLogger("unimsg")


class StillRunning(BaseException):
    """No error, and no business of an `around` that catches Exception: a `def` handler was told to stop, and its thread
    cannot be. It runs on until `thread` is done, its key held; what it returns is ignored."""

    def __init__(self, thread: "asyncio.Future[object]") -> None:
        self.thread = thread


class Undecodable(Exception):  # not told to users: it carries the error that is
    """The body never reached the handler: no repetition can cure it."""

    def __init__(self, error: DecodeError) -> None:
        self.error = error
        self.reason = "unknown-type" if isinstance(error, UnknownType) else "undecodable"


class Attempt:
    """Runs a handler once for a delivery. It raises what the handler raised, or what kept it from starting."""

    def __init__(
        self,
        handler: Handler,
        route: Route,
        bus: "Bus",
        state: object,
        around: Sequence[Around],
        answers: Answers,
        *,
        concurrency: int,
    ) -> None:
        self._handler = handler
        self._concurrency = concurrency
        self._route = route
        self._bus = bus
        self._state = state
        self._around = tuple(around)
        self._answers = answers
        self._identity = handler.identity
        self.name = f"{handler.service}:{getattr(handler.function, '__qualname__', '')}"
        """For people who look at a dead letter."""
        self._type = f"{route.prefix}type"
        self._expiry = f"{route.prefix}expirytime"
        self._needs_context = handler.takes_context or bool(around)
        self._threads: ThreadPoolExecutor | None = None

    async def run(self, delivery: Delivery, number: int, *, last: bool) -> None:
        """`number`: which attempt it is, from 1; `last`: none follows.

        Raises:
        Undecodable: the body does not fit.
        StillRunning: cancelled, and the handler's thread goes on.
        Exception: whatever the handler or an `around` raised; a PublishError if what it sent was not confirmed.
        """
        body = self._decoded(delivery)
        store = self._handler.store
        if store is None or REPLAYED in delivery.wire.headers:
            reply = await self._handle(delivery, body, self._argument(body), number, last)
            if reply is not None:
                await self._answers.send(delivery.wire, reply)
            return
        async with store.begin(delivery.wire.id, self._identity) as handling:
            if handling.is_duplicate:
                log.info("%s: message %s was handled before", self._handler.source, shown(delivery.wire.id))
                if (reply := handling.reply) is not None:
                    await self._answers.send_again(delivery.wire, reply)
                return
            reply = await self._handle(delivery, body, self._argument(body), number, last)
            if reply is not None:
                await self._answers.send(delivery.wire, reply)
            await handling.complete(reply)

    def _decoded(self, delivery: Delivery) -> object:
        """Raises Undecodable."""
        headers = delivery.wire.headers
        try:
            return self._route.channel.decode(headers.get(self._type), headers.get(CONTENT_TYPE), delivery.wire.body)
        except DecodeError as error:
            raise Undecodable(error) from None

    def _argument(self, body: object) -> object:
        """What the handler gets for one message."""
        return body

    async def _handle(
        self,
        delivery: Delivery,
        body: object,
        argument: object,
        number: int,
        last: bool,
        others: Sequence[tuple[Delivery, object]] = (),
    ) -> Said | None:
        """With its context, if it or an `around` wants one; sends what the handler sent, and returns what is to be
        replied. `others`: what is handled together with it."""
        if not self._needs_context:
            return self._answers.reply(delivery.wire, await self._call(argument, None))
        context = Context[Any](
            self._bus,
            self._route,
            self._identity,
            self._handler.subscription,
            delivery,
            body,
            self._state,
            attempt=number,
            last_attempt=last,
            others=others,
            propagate=self._handler.propagate,
        )
        result: object = None

        async def call() -> None:  # an `around` sees no result
            nonlocal result
            result = await self._call(argument, context)

        try:
            await self._wrapped(context, call)()
        finally:
            context._ended = True
        reply = self._answers.reply(delivery.wire, result)  # one that is not declared is a failure: nothing is sent
        if context._held:
            await context._send_held()
        return reply

    def is_too_late(self, delivery: Delivery) -> bool:
        """Whether nobody wants it handled any more."""
        text = delivery.wire.headers.get(self._expiry)
        return text is not None and (expiry := timestamp(text)) is not None and expiry <= datetime.now(UTC)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def _wrapped(
        self, context: Context[Any], handle: Callable[[], Coroutine[Any, Any, None]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        for around in reversed(self._around):
            handle = _bound(around, context, handle)
        return handle

    async def _call(self, argument: object, context: Context[Any] | None) -> object:
        handler = self._handler
        if not handler.is_async:
            return await self._call_in_thread(argument)
        if handler.takes_context:
            return await handler.function(argument, context)
        return await handler.function(argument)

    async def _call_in_thread(self, body: object) -> object:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._concurrency, f"unimsg-{self._handler.source}")
        call = contextvars.copy_context().run
        thread = asyncio.get_running_loop().run_in_executor(self._threads, call, _plain, self._handler.function, body)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            if thread.done():
                raise
            raise StillRunning(thread) from None


def _plain(function: Callable[..., Any], body: object) -> object:
    """Calls a `def` handler, in its thread."""
    try:
        result = function(body)
    except StopIteration as error:  # a future refuses to carry it, and would never end
        raise RuntimeError("the handler raised StopIteration") from error
    if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
        # A decorator made a plain function of an `async def`: acknowledging it now would lose the message.
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            f"the handler is no async def, but returned a {type(result).__name__}, which nobody runs: make it, "
            "and what decorates it, async def"
        )
    return result


def _bound(
    around: Around, context: Context[Any], handle: Callable[[], Coroutine[Any, Any, None]]
) -> Callable[[], Coroutine[Any, Any, None]]:
    return lambda: around(context, handle)
