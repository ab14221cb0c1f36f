"""One channel that consumes one queue, from its opening to its end: one epoch."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from unimsg.adapter import Delivery, Epoch
from unimsg_rabbitmq import errors
from unimsg_rabbitmq.connection import CLOSE_TIMEOUT, Link, answered, close_channel
from unimsg_rabbitmq.topology import INBOX_ARGUMENTS
from unimsg_rabbitmq.transport import ChannelEvents
from unimsg_rabbitmq.wire import deliveries_before, wire_of

MOST_PREFETCH = 65_535
"""AMQP has 16 bits for it; the mailbox keeps the limit that was asked for."""


class Session(ChannelEvents):
    def __init__(self, link: Link, queue: str, arrived: Callable[[Delivery], None]) -> None:
        self.link = link
        self.queue = queue
        self.number = 0
        self.epoch = Epoch()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.unsettled = 0
        """How many messages RabbitMQ has delivered and not seen settled."""
        self.newest = monotonic()
        """When the newest came."""
        self._arrived = arrived
        self._channel: AbstractChannel | None = None
        self._tag: str | None = None

    async def open(self, prefetch: int, priority: int | None, *, inbox: bool) -> None:
        channel = self._channel = await self.link.channel(self)
        self.number = channel.number or 0
        if inbox:
            await answered(channel.queue_declare(self.queue, durable=True, arguments={**INBOX_ARGUMENTS}))
        await answered(channel.basic_qos(prefetch_count=min(prefetch, MOST_PREFETCH)))
        arguments: FieldTable | None = None if priority is None else {"x-priority": priority}
        self._tag = (await answered(channel.basic_consume(self.queue, _unused, arguments=arguments))).consumer_tag
        if self.epoch.over:
            raise aiormq.AMQPConnectionError(self.over.result())

    async def cancel(self) -> None:
        """Ends the consumer: nothing arrives after it returns. What arrived stays unsettled."""
        if self._channel is not None and self._tag is not None and not self.epoch.over:
            await _bounded(self._channel.basic_cancel(self._tag))

    async def aclose(self, *, delete: bool = False) -> None:
        """Everything unsettled goes back. `delete`: the queue too. Bounded; never raises for a dead broker."""
        delete = delete and not self.epoch.over
        if delete:
            await self.cancel()
        self.end("the receiver was closed")
        if self._channel is None:
            return
        if delete:
            await _bounded(self._channel.queue_delete(self.queue))
        await close_channel(self._channel)

    def end(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)
            self.epoch.end()

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        if self._channel is None:
            return
        self.unsettled += 1
        self.newest = monotonic()
        properties = header.properties
        self._arrived(
            Delivery(
                wire_of(properties, body),
                self.epoch,
                (self, method.delivery_tag),
                DeliveredMessage(method, header, body, self._channel),
                deliveries_before(properties.headers, bool(method.redelivered)),
            )
        )

    def on_cancel(self) -> None:
        self.end("the broker ended a consumer: its queue was deleted, or moved")

    def on_close(self, code: int, text: str) -> None:
        self.end(text)


async def _bounded(call: Awaitable[object]) -> None:
    with contextlib.suppress(*errors.BROKEN):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await answered(call)


async def _unused(_: DeliveredMessage) -> None:
    """aiormq wants a callback; the transport takes the deliveries."""
