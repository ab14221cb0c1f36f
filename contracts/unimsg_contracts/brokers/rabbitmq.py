"""RabbitMQ: in a container, or the one that UNIMSG_TEST_RABBITMQ_URL names."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

import aio_pika
from aio_pika.abc import AbstractChannel, DeliveryMode
from aio_pika.exceptions import DeliveryError
from pamqp.common import FieldValue
from unimsg_rabbitmq import RabbitOptions
from unimsg_rabbitmq.adapter import RabbitAdapter
from unimsg_rabbitmq.delays import delay_queue, delays_of
from unimsg_rabbitmq.history import stream_of
from unimsg_rabbitmq.topology import DEAD_ARGUMENTS

from unimsg.adapter import Address, Kind, Wanted
from unimsg_contracts.containers import Container, engine_missing, image_of
from unimsg_contracts.harness import Foreign, Harness, Network
from unimsg_contracts.proxy import Proxy

VARIABLE = "UNIMSG_TEST_RABBITMQ_URL"
IMAGE = "rabbitmq:4.0-management"
PORT = 5672
STEPS = (0.01, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400)
"""Seconds that cases make messages wait, and the common ones: what waits there is deleted with its channel."""


class RabbitHarness(Harness):
    name = "rabbitmq"
    adapter_type = RabbitAdapter
    patience = 15.0
    recovery = 20.0
    too_large = 16 * 1024 * 1024 + 1
    slow: ClassVar[Mapping[str, str]] = {}

    def __init__(self) -> None:
        self._container: Container | None = None
        self._given = os.environ.get(VARIABLE, "")
        self.leftovers = bool(self._given)

    def missing(self) -> str | None:
        return None if self._given else engine_missing()

    def where(self) -> str:
        return VARIABLE if self._given else f"container {image_of('rabbitmq', IMAGE)}"

    def reason_against(self, ability: str) -> str | None:
        if self._given and ability in ("restart", "permissions", "revoke"):
            return f"the broker of {VARIABLE} is not ours to change"
        return super().reason_against(ability)

    def start(self) -> None:
        if self._given:
            self.url, password = _without_password(self._given)
        else:
            self._container = Container("rabbitmq", image_of("rabbitmq", IMAGE), [PORT])
            self._container.start(_ready)
            self.url, password = f"amqp://guest@127.0.0.1:{self._container.ports[PORT]}/", "guest"
        self.options = {"password": password}

    def stop(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    async def restart(self) -> None:
        assert self._container is not None
        await asyncio.to_thread(self._container.restart, _ready)

    @asynccontextmanager
    async def network(self) -> AsyncIterator[Network]:
        parts = urlsplit(self.url)
        async with Proxy(parts.hostname or "", parts.port or PORT) as proxy:
            proxy.url = self.at("127.0.0.1", proxy.port)
            yield proxy

    def at(self, host: str, port: int, *, tls: bool = False) -> str:
        parts = urlsplit(self.url)
        netloc = f"{parts.username or 'guest'}@{host}:{port}"
        return urlunsplit(parts._replace(scheme="amqps" if tls else "amqp", netloc=netloc))

    def secret(self, password: str) -> Mapping[str, object]:
        return {"password": password}

    def with_password(self, password: str) -> tuple[str, Mapping[str, object]]:
        return self.url, {"password": password}

    def at_vhost(self, vhost: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{vhost}"))

    async def forbid(self, address: Address) -> tuple[str, Mapping[str, object]]:
        user = f"nobody-{address.channel}"
        await self._control("add_user", user, "pass")
        await self._control("set_permissions", user, "^$", "^$", "^$")
        return self._with_user(user), {"password": "pass"}

    async def revoke(self, address: Address) -> tuple[str, Mapping[str, object]]:
        """Whoever may write to the default exchange may write to every queue."""
        user = f"reader-{address.channel}"
        await self._control("add_user", user, "pass")
        await self._control("set_permissions", user, ".*", r"^(?!amq\.default$)", ".*")
        return self._with_user(user), {"password": "pass"}

    async def grant(self, address: Address) -> None:
        await self._control("set_permissions", f"reader-{address.channel}", ".*", ".*", ".*")

    async def _control(self, *command: str) -> None:
        assert self._container is not None
        await asyncio.to_thread(self._container.run, "rabbitmqctl", *command)

    def _with_user(self, user: str) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}"))

    def refusing(self) -> Wanted:
        return Wanted(options=RabbitOptions(max_length=3))

    @asynccontextmanager
    async def full(self, address: Address) -> AsyncIterator[None]:
        """Made anew, since arguments never change, as one that takes a few messages; and those are put into it."""
        async with self._channel() as channel:
            await channel.queue_delete(address.name)
            arguments: dict[str, FieldValue] = {**DEAD_ARGUMENTS, "x-max-length": 3}
            queue = await channel.declare_queue(address.name, durable=True, arguments=arguments)
            with suppress(DeliveryError):  # it says no a moment after it is full
                for _ in range(100):
                    await channel.default_exchange.publish(aio_pika.Message(b"filler"), address.name)
        yield
        async with self._channel() as channel:
            queue = await channel.get_queue(address.name)
            await queue.purge()

    def backstop(self, limit: int) -> Mapping[str, Any]:
        return {"rabbitmq": {"delivery_limit": limit}}

    async def delete(self, address: Address) -> None:
        async with self._channel() as channel:
            queues = [delay_queue(address, step) for step in STEPS]
            if address.kind is Kind.TOPIC and address.subscription is None:
                for name in (address.channel, delays_of(address)):
                    await channel.exchange_delete(name)
                queues += [delays_of(address), stream_of(address)]
            else:
                queues += [*_queues(address), f"{address.name}..dead"]
            for name in queues:
                await channel.queue_delete(name)

    async def put(self, address: Address, message: Foreign) -> None:
        await self._publish(
            address,
            aio_pika.Message(
                message.body,
                headers={**message.attributes},
                content_type=message.content_type,
                delivery_mode=DeliveryMode.PERSISTENT,
            ),
        )

    async def put_odd(self, address: Address) -> None:
        headers: dict[str, FieldValue] = {
            "number": 7,
            "truth": True,
            "bytes": bytearray(b"\xff\xfe"),
            "moment": datetime.now(UTC),
            "decimal": Decimal("1.5"),
            "table": {"nested": {"deep": [1, "two"]}},
            "list": [1, "two", None],
            "nothing": None,
            "": "no name",
            "x-death": [{"count": 3}],
            "cloudEvents:id": 42,
        }
        await self._publish(address, aio_pika.Message(b"odd", headers=headers, expiration=600))

    async def read(self, address: Address, count: int) -> list[Foreign]:
        found: list[Foreign] = []
        async with self._channel() as channel:
            queue = await channel.get_queue(address.name)
            while len(found) < count:
                message = await queue.get(fail=False, timeout=5.0)
                if message is None:
                    await asyncio.sleep(0.01)
                    continue
                attributes = {name: str(value) for name, value in message.headers.items()}
                found.append(Foreign(message.body, attributes, None, message.content_type))
                await message.ack()
        return found

    async def _publish(self, address: Address, message: aio_pika.Message) -> None:
        async with self._channel() as channel:
            topic = address.kind is Kind.TOPIC
            exchange = await channel.get_exchange(address.channel) if topic else channel.default_exchange
            await exchange.publish(message, "" if topic else address.channel)

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[AbstractChannel]:
        """Of the plain client."""
        parts = urlsplit(self.url)
        password = str(self.options["password"])
        url = urlunsplit(parts._replace(netloc=f"{parts.username}:{password}@{parts.hostname}:{parts.port or PORT}"))
        async with await aio_pika.connect(url, timeout=10.0) as connection:
            yield await connection.channel()


def _queues(address: Address) -> list[str]:
    if address.ordered:
        return [f"{address.name}..p{n}" for n in range(address.partitions)]
    return [address.name]


def _ready(container: Container) -> bool:
    return container.succeeds("rabbitmq-diagnostics", "-q", "check_port_connectivity")


def _without_password(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port or PORT}"
    netloc = f"{parts.username or 'guest'}@{host}"
    return urlunsplit(parts._replace(netloc=netloc)), unquote(parts.password or "guest")
