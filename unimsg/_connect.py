"""From declarations and settings to a running bus, and back."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from unimsg._brokers import Brokers
from unimsg._requests import Requests
from unimsg._routes import Routes
from unimsg._suggestion import suggestion
from unimsg.bus import Bus
from unimsg.health import Health, examine
from unimsg.service import Handler, Service, refuse_second

if TYPE_CHECKING:
    from unimsg._consumer import Consumer
    from unimsg.config import Settings

log = logging.getLogger("unimsg")

CLOSE_TIMEOUT = 10.0
"""Seconds for the last confirmations and for closing connections."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
CLIENT = "client"
"""The source of messages that no service sends."""


def connect(
    *services: Service[Any], url: str | None = None, settings: "Settings | None" = None
) -> AbstractAsyncContextManager[Bus]:
    """Connects, starts the services' handlers, and drains them when the block is left.

    `url`: the default broker, instead of the configured one: amqp://, kafka://, pubsub:// or memory://. `settings`:
    instead of file and environment. Nothing configured: the broker in memory, with a warning, and `health` says so.

    Raises, when the block is entered:
        ConfigurationError: declarations, settings, URL or channels are wrong; nothing was started.
        ConnectError, AuthenticationError: a broker cannot be reached or refuses; `reason` tells the cause.
        PermissionDenied: the user may not make or read a channel.
    """
    return _running(services, url, settings)


def run(*services: Service[Any], url: str | None = None, settings: "Settings | None" = None) -> None:
    """`connect` until SIGTERM or SIGINT, then drains and returns: the main of a service's process."""
    asyncio.run(_run(services, url, settings))


async def _run(services: Sequence[Service[Any]], url: str | None, settings: "Settings | None") -> None:
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    stop = asyncio.Event()
    started = False

    def on_signal() -> None:
        stop.set()
        for number in SIGNALS:  # a second one ends the process at once
            loop.remove_signal_handler(number)
        if not started and main is not None:
            main.cancel()

    for number in SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends asyncio.run by itself
            loop.add_signal_handler(number, on_signal)
    try:
        async with connect(*services, url=url, settings=settings):
            started = True
            log.info("running: %s", ", ".join(h.source for service in services for h in service.handlers))
            await stop.wait()
            log.info("draining; a second signal ends the process at once")
    except asyncio.CancelledError:
        if started or not stop.is_set():
            raise


@asynccontextmanager
async def _running(
    services: Sequence[Service[Any]], url: str | None, settings: "Settings | None"
) -> AsyncIterator[Bus]:
    settings, durable = _settle(settings, url)
    runtime = _Runtime(services, settings, durable)
    try:
        async with AsyncExitStack() as stack:
            await runtime.connect()
            try:
                await runtime.start(stack)
                yield runtime.bus(services[0].name if len(services) == 1 else CLIENT)
            finally:
                await runtime.drain()
    finally:
        await runtime.aclose()


def _settle(settings: "Settings | None", url: str | None) -> "tuple[Settings, bool]":
    """The settings in force, and whether anybody chose a broker."""
    if settings is None:
        from unimsg.config import Settings  # not above: it needs pydantic, which takes long to import

        settings = Settings.load()
    if url is not None:
        return settings.with_url(url), True
    if settings.brokers:
        return settings, True
    log.warning(
        "no broker is configured: messages live in this process only (memory://); set UNIMSG_URL, or url in unimsg.toml"
    )
    return settings.with_url("memory://"), False


class _Runtime:
    """What runs inside one `connect` block."""

    def __init__(self, services: Sequence[Service[Any]], settings: "Settings", durable: bool) -> None:
        self._services = services
        self._settings = settings
        self._durable = durable
        self._brokers = Brokers(settings)
        self._routes = Routes(settings, self._brokers)
        self._requests = Requests()
        self._consumers: list[Consumer] = []
        self._draining = False
        self._closed = False
        self._handlers = [(service, handler) for service in services for handler in service.handlers]
        seen: list[Handler] = []
        for _, handler in self._handlers:
            refuse_second(seen, handler)
            seen.append(handler)
            self._routes.get(handler.channel)
        _check_handler_names(settings, seen)
        if not seen:  # a client that only sends: mistakes show now, not at the first send
            for name in ["default"] if "default" in settings.brokers else settings.brokers:
                self._brokers.get(name)

    def bus(self, source: str) -> Bus:
        return Bus(self._routes, self._requests, source, self._examine, lambda: self._closed)

    async def connect(self) -> None:
        await _all(broker.connect() for broker in self._brokers)

    async def start(self, stack: AsyncExitStack) -> None:
        """Enters the lifespans, then starts to receive."""
        states: dict[int, object] = {}
        for service in self._services:
            if service.lifespan is not None:
                states[id(service)] = await stack.enter_async_context(service.lifespan(self.bus(service.name)))
        if self._handlers:
            from unimsg._assembly import consumer_of  # not above: who only sends needs none of it

            self._consumers = [
                consumer_of(
                    service,
                    handler,
                    self._routes.get(handler.channel),
                    self._settings.handler(handler.source),
                    self.bus(service.name),
                    states.get(id(service)),
                )
                for service, handler in self._handlers
            ]
        await _all(consumer.start() for consumer in self._consumers)
        for _, handler in self._handlers:
            self._routes.get(handler.channel).delays.forward()

    async def drain(self) -> None:
        self._draining = True
        await _all(route.delays.stop() for route in self._routes)
        await _all(consumer.stop() for consumer in self._consumers)

    async def aclose(self) -> None:
        """After the lifespans: what they send at their end still goes out."""
        self._closed = True
        with contextlib.suppress(TimeoutError):  # each message that waits has a deadline of its own, and its error
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._requests.aclose()
                await _all(route.delays.aclose() for route in self._routes)
                await _all(route.publisher.aclose() for route in self._routes)
        await self._brokers.aclose(CLOSE_TIMEOUT)

    def _examine(self) -> Health:
        return examine(
            self._brokers,
            self._routes,
            self._consumers,
            self._requests.inboxes,
            durable=self._durable,
            draining=self._draining,
        )


async def _all(coroutines: Any) -> None:  # an iterable of coroutines of any result
    """Runs all, to the end of each; then raises the first error, if any."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _check_handler_names(settings: "Settings", handlers: Sequence[Handler]) -> None:
    """A warning, no error: a shared file may configure handlers of other programs, with names much like ours."""
    names = [handler.source for handler in handlers]
    for name in settings.handlers:
        if name not in names and "did you mean" in (hint := suggestion(name, names)):
            log.warning("handlers.%s of the configuration is no handler of these services%s", name, hint)
