"""Receives from the queues of one address, over a channel of its own that is opened again whenever it is lost."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import cast
from uuid import uuid4

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from unimsg.adapter import (
    Address,
    ChannelMissing,
    Delivery,
    Epoch,
    Kind,
    Receiver,
    ReceiverHealth,
    SettlementLost,
)
from unimsg.backoff import Backoff
from unimsg.mailbox import Mailbox
from unimsg_rabbitmq import errors
from unimsg_rabbitmq.connection import CLOSE_TIMEOUT, Connection, Link, answered, close_channel
from unimsg_rabbitmq.topology import INBOX_ARGUMENTS, queues_of
from unimsg_rabbitmq.transport import ChannelEvents, ack_frame, requeue_frame
from unimsg_rabbitmq.wire import deliveries_before, wire_of

log = logging.getLogger(__name__)
OPEN_TIMEOUT = 30.0
MOST_PREFETCH = 65_535
"""AMQP has 16 bits for it; the mailbox keeps the limit that was asked for."""
MISSING_FOR = 3.0
"""Seconds that a queue must stay away to count as deleted: one that is made anew at once is received from again."""


class RabbitReceiver(Receiver):
    """Of an ordered address it consumes all partitions; each goes to the receiver of the highest priority for it."""

    def __init__(
        self, connection: Connection, address: Address, prefetch: int, on_end: Callable[["RabbitReceiver"], None]
    ) -> None:
        self.address = address
        self._connection = connection
        self._queues = queues_of(address)
        self._per_queue = max(1, prefetch // len(self._queues))
        self._on_end = on_end
        self._id = uuid4().hex
        self._mailbox = Mailbox(prefetch)
        self._surplus: list[Delivery] = []  # came after `stop`
        self._session: _Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._closed = False
        self._consuming = False
        self._since = monotonic()
        self._last_delivery: float | None = None
        self._problem: str | None = None

    async def open(self, timeout: float) -> None:
        """Begins. Raises aiormq's errors and TimeoutError."""
        async with asyncio.timeout(timeout):
            session = await self._begin()
        self._task = asyncio.create_task(self._run(session), name=f"unimsg-rabbitmq-{self.address.name}")

    async def receive(self) -> Sequence[Delivery]:
        return await self._mailbox.get()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        settled = self._mailbox.settle(deliveries)
        counted = await self._settle(ack_frame, settled)
        if counted < len(settled):
            lost = len(settled) - counted
            raise SettlementLost(
                f"RabbitMQ: the channel of {lost} messages of {self.address.name} is gone: they come again"
            )

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        settled = self._mailbox.settle(deliveries)
        if not self.address.ordered:
            await self._settle(requeue_frame, settled)
        elif not self._stopped and any(not delivery.epoch.over for delivery in settled) and self._session is not None:
            # Never requeue one by one on a single active consumer: with a take-over pending, RabbitMQ 4.0 then gives
            # the queue's messages to nobody. Closing the channel puts all back in front, in order.
            self._session.end("messages were given back")

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._surplus += self._mailbox.close()
        if self._session is not None:
            await self._give_back_surplus(self._session)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = self._stopped = True
        self._mailbox.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.aclose(delete=self._queues if self.address.kind is Kind.INBOX else ())
        self._on_end(self)

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(
            self.address,
            consuming=self._consuming and not self._stopped,
            since=self._since,
            last_delivery=self._last_delivery,
            unsettled=self._mailbox.unsettled,
            problem=self._problem,
        )

    def arrived(self, delivery: Delivery) -> None:
        """From the session."""
        self._last_delivery = monotonic()
        if self._mailbox.closed:
            self._surplus.append(delivery)
        else:
            self._mailbox.put((delivery,))

    async def _give_back_surplus(self, session: "_Session") -> None:
        # Of an ordered address nothing goes back before the channel closes: after basic.cancel, the next receiver
        # would be given later messages of a key that still runs here.
        if not self.address.ordered:
            await session.cancel()
            surplus, self._surplus = self._surplus, []
            await self._settle(requeue_frame, surplus)

    async def _settle(self, frame: Callable[[int, int], bytes], deliveries: Iterable[Delivery]) -> int:
        """Writes all settlements at once; returns how many count."""
        session = self._session
        if session is None or session.epoch.over:
            return 0
        # The token is the delivery tag, an int: this module put it there.
        tags = [cast("int", delivery.token) for delivery in deliveries if delivery.epoch is session.epoch]
        return len(tags) if not tags or await session.settle(frame, tags) else 0

    async def _run(self, session: "_Session | None") -> None:
        """Keeps a session open until the receiver is stopped."""
        backoff, missing_since = Backoff(), None
        while True:
            if session is not None:
                backoff.reset()
                missing_since = None
                if self._stopped:
                    await self._give_back_surplus(session)
                reason = await session.over
                self._consumes(False, f"RabbitMQ: receiving from {self.address.name} was interrupted: {reason}")
                await session.aclose()
            if self._stopped:
                return
            await asyncio.sleep(backoff.next())
            try:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    session = await self._begin()
            except errors.Ended:
                return
            except errors.BROKEN as error:
                session = None
                self._problem = str(errors.operation_failure(error, "receiving from", self.address))
                missing_since = (missing_since or monotonic()) if errors.is_absent(error) else None
                if missing_since is not None and monotonic() - missing_since > MISSING_FOR:
                    self._mailbox.close(ChannelMissing(f"RabbitMQ: {self.address.name} was deleted"))
                    return
            except Exception as error:  # whatever it is: a receiver never dies silently
                session = None
                self._problem = f"RabbitMQ: receiving from {self.address.name} failed: {error!r}"
                log.exception("RabbitMQ: receiving from %s failed", self.address.name)

    def _consumes(self, consuming: bool, problem: str | None) -> None:
        self._consuming, self._problem, self._since = consuming, problem, monotonic()

    async def _begin(self) -> "_Session":
        link = await self._connection.get()
        # Known before it is open: what it delivers at once may be settled at once.
        session = self._session = _Session(link, self.arrived)
        try:
            await session.open(self._queues, self._per_queue, self._priority, inbox=self.address.kind is Kind.INBOX)
        except BaseException:
            await session.aclose()
            raise
        self._consumes(True, None)
        return session

    def _priority(self, queue: str) -> int | None:
        """By rendezvous: each receiver draws a number for each partition, and the highest gets it. So partitions spread
        over the receivers, and few move when one comes or goes."""
        if not self.address.ordered:
            return None
        digest = hashlib.blake2b(f"{queue} {self._id}".encode(), digest_size=2).digest()
        return int.from_bytes(digest, "big")


class _Session(ChannelEvents):
    """One channel's life, which is one epoch."""

    def __init__(self, link: Link, arrived: Callable[[Delivery], None]) -> None:
        self.epoch = Epoch()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._link = link
        self._arrived = arrived
        self._channel: AbstractChannel | None = None
        self._tags: list[str] = []

    async def open(
        self, queues: Sequence[str], prefetch: int, priority: Callable[[str], int | None], *, inbox: bool
    ) -> None:
        channel = self._channel = await self._link.channel(self)
        if inbox:
            for queue in queues:
                await answered(channel.queue_declare(queue, durable=True, arguments={**INBOX_ARGUMENTS}))
        await answered(channel.basic_qos(prefetch_count=min(prefetch, MOST_PREFETCH)))  # of each consumer
        for queue in queues:
            rank = priority(queue)
            arguments: FieldTable | None = None if rank is None else {"x-priority": rank}
            consumer = await answered(channel.basic_consume(queue, _unused, arguments=arguments))
            self._tags.append(consumer.consumer_tag or "")
        if self.epoch.over:
            raise aiormq.AMQPConnectionError(self.over.result())

    async def settle(self, frame: Callable[[int, int], bytes], tags: Sequence[int]) -> bool:
        """True: written to a live channel."""
        if self._channel is None or self.epoch.over:
            return False
        number = self._channel.number
        self._link.transport.write(b"".join([frame(number, tag) for tag in tags]))
        try:
            await self._link.transport.drain()
        except OSError:
            return False
        return True

    async def cancel(self) -> None:
        """Ends the consumers: nothing arrives after it returns. What arrived stays unsettled."""
        with contextlib.suppress(*errors.BROKEN):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                for tag in self._tags:
                    if self._channel is not None and not self.epoch.over:
                        await answered(self._channel.basic_cancel(tag))

    async def aclose(self, *, delete: Sequence[str] = ()) -> None:
        """Everything unsettled goes back. Bounded; never raises for a dead broker."""
        was_over = self.epoch.over
        if delete:
            await self.cancel()
        self.end("the receiver was closed")
        channel = self._channel
        if channel is None:
            return
        if delete and not was_over:
            with contextlib.suppress(*errors.BROKEN):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    for queue in delete:
                        await answered(channel.queue_delete(queue))
        await close_channel(channel)

    def end(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)
            self.epoch.end()

    def on_delivery(self, method: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        if self._channel is None:
            return
        properties = header.properties
        self._arrived(
            Delivery(
                wire_of(properties, body),
                self.epoch,
                method.delivery_tag,
                DeliveredMessage(method, header, body, self._channel),
                deliveries_before(properties.headers, bool(method.redelivered)),
            )
        )

    def on_cancel(self) -> None:
        self.end("the broker ended a consumer: its queue was deleted, or moved")

    def on_close(self, code: int, text: str) -> None:
        self.end(text)


async def _unused(_: DeliveredMessage) -> None:
    """aiormq wants a callback; the transport takes the deliveries."""
