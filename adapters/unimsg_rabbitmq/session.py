"""One channel that consumes one queue, from its opening to its end: one epoch."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
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
from unimsg_rabbitmq.transport import ChannelEvents, ack_frame, requeue_frame
from unimsg_rabbitmq.wire import deliveries_before, wire_of

SETTLED_WITHIN = 0.5
"""Seconds in which a queue has worked on all settlements, also on a busy machine."""
MANY = 16
"""Settlements in a row from which on RabbitMQ's channels may keep some: its limit is 32 that are not answered yet."""
MOST_PREFETCH = 65_535
"""AMQP has 16 bits for it; the mailbox keeps the limit that was asked for."""


class Session(ChannelEvents):
    def __init__(self, link: Link, queue: str, arrived: Callable[[Delivery], None]) -> None:
        self.link = link
        self.queue = queue
        self.number = 0
        self.epoch = Epoch()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.newest = monotonic()
        """When the newest came."""
        self._open: dict[int, None] = {}
        """Tags of what RabbitMQ has delivered and not seen settled, the oldest first."""
        self._burst, self._settled_at = 0, 0.0
        """How many settlements were written without a pause, and when the last one was."""
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

    @property
    def unsettled(self) -> int:
        """How many messages RabbitMQ has delivered and not seen settled."""
        return len(self._open)

    def acks(self, tags: Sequence[int]) -> list[bytes]:
        """Acknowledges these; all below the oldest open one with one frame: RabbitMQ works on one after the other."""
        for tag in tags:
            self._open.pop(tag, None)
        oldest = next(iter(self._open), None)
        below = [tag for tag in tags if oldest is None or tag < oldest]
        frames = [ack_frame(self.number, max(below), multiple=len(below) > 1)] if below else []
        if oldest is not None:
            frames += [ack_frame(self.number, tag) for tag in tags if tag > oldest]
        self._note(len(frames))
        return frames

    def requeues(self, tags: Sequence[int]) -> list[bytes]:
        """Gives these back."""
        for tag in tags:
            self._open.pop(tag, None)
        self._note(len(tags))
        return [requeue_frame(self.number, tag) for tag in tags]

    def _note(self, frames: int) -> None:
        now = monotonic()
        self._burst = frames if now - self._settled_at > SETTLED_WITHIN else self._burst + frames
        self._settled_at = now

    async def _settled(self) -> None:
        """A channel that has sent its queue many settlements keeps further ones until the queue has answered, and loses
        them if it is closed before: what was acknowledged would come again (seen on 4.0; nothing tells when)."""
        wait = self._settled_at + SETTLED_WITHIN - monotonic()
        if self._burst >= MANY and wait > 0 and self._channel is not None and not self._channel.is_closed:
            await asyncio.sleep(wait)

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
        else:
            await self._settled()
        await close_channel(self._channel)

    def end(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)
            self.epoch.end()

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        if self._channel is None:
            return
        self._open[method.delivery_tag or 0] = None
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
