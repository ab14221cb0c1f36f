"""One connection to RabbitMQ, made again for ever after the first one succeeded."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import aiormq
from aiormq.abc import AbstractChannel

from unimsg.backoff import Backoff
from unimsg.errors import AuthenticationError, ConnectError
from unimsg.network import speaks_tls
from unimsg.surprises import Surprises
from unimsg_rabbitmq.errors import BROKEN, Ended, connect_failure
from unimsg_rabbitmq.options import Server
from unimsg_rabbitmq.transport import ChannelEvents, Transport

log = logging.getLogger(__name__)
T = TypeVar("T")
CLOSE_TIMEOUT = 3.0


async def answered(call: Awaitable[T]) -> T:
    """aiormq ends a call on a lost connection with a CancelledError though nobody cancelled: this makes it an error."""
    try:
        return await call
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise aiormq.AMQPConnectionError("the connection was lost") from error


class Link:
    """One live connection: aiormq's for what is asked and answered, its transport for messages."""

    def __init__(self, client: aiormq.Connection, transport: Transport) -> None:
        self._client = client
        self.transport = transport
        self.reader = transport.reader

    @property
    def alive(self) -> bool:
        return not self.reader.lost.done()

    @property
    def broker(self) -> str:
        """What the broker says of itself: "RabbitMQ 4.0.5"."""
        said = self._client.server_properties
        return " ".join(str(said.get(name, "")) for name in ("product", "version")).strip() or "RabbitMQ"

    @property
    def frame_max(self) -> int:
        return self._client.connection_tune.frame_max or 131072

    async def channel(self, events: ChannelEvents) -> AbstractChannel:
        """A channel whose traffic goes to `events`."""
        channel = await answered(self._client.channel(publisher_confirms=False))
        self.reader.claim(channel.number, events)
        return channel

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator[AbstractChannel]:
        """A channel for a question whose negative answer closes it."""
        channel = await answered(self._client.channel(publisher_confirms=False))
        try:
            yield channel
        finally:
            await close_channel(channel)

    async def aclose(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Bounded; never raises."""
        try:
            async with asyncio.timeout(timeout):
                await answered(self._client.close())
        except BROKEN as error:
            log.debug("closing a connection: %r", error)
        finally:
            self.transport.abort()
            await asyncio.wait([self._client.closing], timeout=0.5)  # its tasks end with the transport


async def close_channel(channel: AbstractChannel) -> None:
    """Returns when the broker has closed it, all that was written on it before included. Bounded; never raises."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await answered(channel.close())
    except BROKEN as error:
        log.debug("closing a channel: %r", error)


class Connection:
    """Gives the live link. `problem` says in words why there is none."""

    def __init__(self, server: Server, purpose: str) -> None:
        self._server = server
        self._purpose = purpose
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self.problem: str | None = None
        self._surprises = Surprises(log)

    async def open(self, timeout: float) -> None:
        """The first connection.

        Raises:
            ConnectError: each host was tried once.
        """
        link = await self._connect(timeout)
        self._set(link)
        self._keeper = asyncio.create_task(self._keep(link), name=f"unimsg-rabbitmq-{self._purpose}")

    @property
    def live(self) -> Link | None:
        return self._link if self._link is not None and self._link.alive else None

    async def get(self) -> Link:
        """Waits for a live link, for ever.

        Raises:
            Ended: after `aclose`.
        """
        while not self._closed:
            if (link := self.live) is not None:
                return link
            self._up.clear()
            await self._up.wait()
        raise Ended("the adapter is closed")

    async def aclose(self, timeout: float) -> None:
        """Idempotent; never raises for a dead broker."""
        self._closed = True
        self._up.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        link, self._link = self._link, None
        if link is not None:
            await link.aclose(timeout)

    def _set(self, link: Link) -> None:
        self._link, self.problem = link, None
        self._up.set()

    async def _keep(self, link: Link) -> None:
        """Watches the link, and makes a new one when it is lost."""
        backoff = Backoff()
        while True:
            try:
                await self._watch(link)
                backoff.reset()
                self.problem = f"RabbitMQ: {self._purpose}: {link.reader.lost.result()}; connecting again"
                log.warning("%s", self.problem)
                await link.aclose()
            except Exception as error:  # noqa: BLE001  # if this task died of it, nothing would be connected again
                self._failed(error)
                link.transport.abort()
            link = await self._again(backoff)
            self._set(link)

    async def _watch(self, link: Link) -> None:
        """Returns when the link is lost. A silent one is closed after two heartbeats: the broker gives the messages of
        this process to others after not quite three, and aiormq alone would notice later than that."""
        heartbeat = self._server.options.heartbeat
        clock = asyncio.get_running_loop().time
        while link.alive:
            await asyncio.wait([link.reader.lost], timeout=heartbeat / 4)
            if link.alive and clock() - link.reader.last_read > 2 * heartbeat:
                log.warning("RabbitMQ: %s: nothing read for %d s: closing it", self._purpose, 2 * heartbeat)
                link.transport.abort()
                await asyncio.wait([link.reader.lost])

    async def _again(self, backoff: Backoff) -> Link:
        while True:
            await asyncio.sleep(backoff.next())
            try:
                return await self._connect(self._server.options.connect_timeout)
            except ConnectError as error:
                self.problem = str(error)
            except Exception as error:  # noqa: BLE001  # whatever it is: a connection is never given up
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Nobody foresaw it: a bug of aiormq's or ours."""
        self.problem = self._surprises.tell(f"RabbitMQ: {self._purpose}: connecting failed", error)

    async def _connect(self, timeout: float) -> Link:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        hosts, failures = self._server.hosts, []
        for tried, (host, port) in enumerate(hosts):
            try:
                return await self._dial(host, port, max(0.0, deadline - clock()) / (len(hosts) - tried))
            except AuthenticationError:
                raise
            except ConnectError as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        raise ConnectError("; ".join(map(str, failures)), reason=failures[-1].reason) from failures[-1]

    async def _dial(self, host: str, port: int, timeout: float) -> Link:
        transport = Transport(self._server.tls)
        client = aiormq.Connection(
            self._server.url(host, port),
            transport_factory=transport,
            client_properties={"connection_name": f"unimsg {self._purpose}"},
        )
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await answered(client.connect())
        except asyncio.CancelledError:
            transport.abort()
            raise
        except (*BROKEN, EOFError) as error:
            transport.abort()
            reader = transport.reader
            hangs_up = self._server.tls is None and not reader.head and isinstance(error, aiormq.AMQPError)
            raise connect_failure(
                error,
                f"{host}:{port}",
                head=reader.head,
                closed=reader.close,
                server_speaks_tls=hangs_up and await speaks_tls(host, port, within=max(1.0, deadline - clock())),
            ) from error
        return Link(client, transport)
