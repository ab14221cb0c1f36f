"""Publishes to one exchange, over a channel of its own: what closes the channel concerns messages of this exchange."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import aiormq
import pamqp.frame
from aiormq.abc import AbstractChannel
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from unimsg.adapter import Address, Wire
from unimsg.backoff import Backoff
from unimsg.errors import MessageTooLarge, PublishError, Refused
from unimsg_rabbitmq import errors, topology
from unimsg_rabbitmq.connection import Connection, Link, answered
from unimsg_rabbitmq.transport import OVERHEAD, ChannelEvents
from unimsg_rabbitmq.wire import properties_of

WRITE_SIZE = 256 * 1024
"""Bytes that are written before looking whether there is room for more."""
LOOK_AGAIN = 1.0
"""Seconds that an exchange is believed to exist. Publishing to a missing one closes the channel with all that is on
its way, and the connection if more follows."""
MANY_ROUTES = 1000

Slot = tuple[str, str]
"""Message id and routing key: what RabbitMQ tells of a returned message."""


class Call:
    """The messages of one `send`, each with its routing key, and what became of them."""

    def __init__(self, address: Address, messages: Sequence[tuple[str, Wire]], *, mandatory: bool) -> None:
        self.address = address
        self.messages = messages
        self.mandatory = mandatory
        self.written = 0
        """Messages are written in order: those before this one have left, or never will."""
        self.repeated = -1
        """The message that waits, or waited, for an earlier one of its id: that one may be stored."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outcomes: list[PublishError | None] = [None] * len(messages)
        self._open = set(range(len(messages)))

    def settle(self, index: int, outcome: PublishError | None) -> None:
        self._outcomes[index] = outcome
        self._open.discard(index)
        if not self._open and not self.done.done():
            self.done.set_result(None)

    def refuse_rest(self, why: Callable[[Address, str, str], PublishError], text: str) -> None:
        """Settles what was not written."""
        for index in range(self.written, len(self.messages)):
            self.settle(index, why(self.address, self.messages[index][1].id, text))

    def result(self, unsent: str, unanswered: str) -> list[PublishError | None]:
        """The outcomes; what is open counts as unsent or unanswered, with these reasons."""
        for index in self._open:
            id = self.messages[index][1].id
            if index < self.written or index == self.repeated:
                self._outcomes[index] = errors.unconfirmed(self.address, id, unanswered)
            else:
                self._outcomes[index] = errors.not_sent(self.address, id, unsent)
        self._open = set()
        return self._outcomes


class Publisher:
    def __init__(self, connection: Connection, exchange: str, max_message_size: int) -> None:
        self._connection = connection
        self._exchange = exchange
        self._max_message_size = max_message_size
        self._gate = asyncio.Lock()  # fair: calls write in the order in which they came
        self._channel: PublishChannel | None = None
        self._looked = float("-inf")
        self._clock = asyncio.get_running_loop().time

    async def send(self, call: Call, deadline: float) -> Sequence[PublishError | None]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                async with self._gate:
                    await self._write(call)
                await call.done
        return call.result(self._hindrance(), "no answer within the deadline")

    async def aclose(self) -> None:
        """Waits until everything written was answered. The caller bounds it."""
        if self._channel is not None:
            await self._channel.settled()

    def _hindrance(self) -> str:
        link = self._connection.live
        if link is None:
            return self._connection.problem or "no connection"
        if link.reader.blocked is not None:
            return f"RabbitMQ blocks publishing: {link.reader.blocked}"
        return "the deadline passed before its turn"

    async def _write(self, call: Call) -> None:
        while call.written < len(call.messages):
            try:
                channel = await self._ready()
            except aiormq.ChannelNotFoundEntity as error:
                call.refuse_rest(errors.unroutable, str(error))
                return
            except (errors.Ended, ValueError) as error:  # closed; or no name for an exchange
                call.refuse_rest(errors.not_sent, str(error))
                return
            if not channel.write(call, self._max_message_size):
                # The same message is on its way already. A returned one is known by id and route only, so that two at
                # once could get each other's outcome.
                call.repeated = call.written
                route, wire = call.messages[call.written]
                await channel.answer_to((wire.id, route))

    async def _ready(self) -> "PublishChannel":
        """A channel that can be written to. Waits for ever."""
        backoff = Backoff()
        while True:
            channel = self._channel
            try:
                link = await self._connection.get() if channel is None or channel.closed else channel.link
                await link.reader.unblocked.wait()  # it reads nothing until then, look-ups included
                if channel is None or channel.closed:
                    channel = self._channel = await self._begin(link)
                elif self._exchange and self._clock() - self._looked > LOOK_AGAIN:
                    await self._look(link)
                await link.transport.drain()
                if not channel.closed and link.reader.unblocked.is_set():
                    return channel
            except (aiormq.ChannelNotFoundEntity, errors.Ended):
                raise
            except errors.BROKEN:
                await asyncio.sleep(backoff.next())

    async def _begin(self, link: Link) -> "PublishChannel":
        if self._exchange:
            await self._look(link)
        events = PublishChannel(link, self._exchange)
        channel = await link.channel(events)
        await answered(channel.confirm_delivery())
        events.opened(channel)
        return events

    async def _look(self, link: Link) -> None:
        async with link.scratch() as scratch:
            await answered(topology.look_exchange(self._exchange)(scratch))
        self._looked = self._clock()


class PublishChannel(ChannelEvents):
    """Writes messages, and hears of each what became of it."""

    def __init__(self, link: Link, exchange: str) -> None:
        self.link = link
        self.closed = False
        self._exchange = exchange
        self._channel: AbstractChannel | None = None
        self._number = 0
        self._tag = 0
        self._waiting: dict[int, tuple[Call, int, Slot]] = {}  # by delivery tag, oldest first
        self._tags: dict[Slot, int] = {}
        self._returned: dict[int, str] = {}
        self._watched: dict[Slot, asyncio.Future[None]] = {}
        self._routes: dict[tuple[str, bool], bytes] = {}

    def opened(self, channel: AbstractChannel) -> None:
        self._channel, self._number = channel, channel.number

    def write(self, call: Call, max_size: int) -> bool:
        """Writes the next messages of the call, some or all. False: the next one is on its way already."""
        frames: list[bytes] = []
        size, count = 0, len(call.messages)
        while call.written < count and size < WRITE_SIZE:
            index = call.written
            route, wire = call.messages[index]
            slot = (wire.id, route)
            if slot in self._tags:
                break
            call.written += 1
            if (error := self._encode(call, route, wire, max_size, frames)) is not None:
                call.settle(index, error)
                continue
            self._tag += 1
            self._waiting[self._tag] = (call, index, slot)
            self._tags[slot] = self._tag
            size += len(wire.body) + OVERHEAD
        self.link.transport.write(b"".join(frames))
        return call.written == count or size >= WRITE_SIZE

    async def answer_to(self, slot: Slot) -> None:
        """Returns when what is on its way with this id and route was answered."""
        if slot in self._tags:
            watched = self._watched.setdefault(slot, asyncio.get_running_loop().create_future())
            await asyncio.wait([watched])  # `wait`: one who is cancelled does not cancel the others'

    async def settled(self) -> None:
        while self._waiting:
            await self.answer_to(next(reversed(self._tags)))

    def on_return(self, method: Basic.Return, header: ContentHeader) -> None:
        """Comes before the confirm of the same message."""
        slot = (header.properties.message_id or "", method.routing_key or "")
        if (tag := self._tags.get(slot)) is not None:
            self._returned[tag] = method.reply_text or "returned"

    def on_confirm(self, tag: int, multiple: bool, stored: bool) -> None:
        if not multiple:
            self._settle(tag, stored)
            return
        tags = []
        for waiting in self._waiting:
            if waiting > tag:
                break
            tags.append(waiting)
        for each in tags:
            self._settle(each, stored)

    def on_close(self, code: int, text: str) -> None:
        self.closed = True
        waiting, self._waiting = self._waiting, {}
        for call, index, (id, _) in waiting.values():
            if code == errors.ACCESS_REFUSED:  # all of them go to the same exchange
                outcome: PublishError = errors.forbidden(call.address, id, text)
            elif code == errors.NOT_FOUND and len(waiting) == 1:
                outcome = errors.unroutable(call.address, id, text)
            else:
                outcome = errors.unconfirmed(call.address, id, text)
            call.settle(index, outcome)
        self._tags.clear()
        for watched in self._watched.values():
            watched.set_result(None)
        self._watched.clear()

    def _settle(self, tag: int, stored: bool) -> None:
        found = self._waiting.pop(tag, None)
        if found is None:
            return
        call, index, slot = found
        del self._tags[slot]
        returned = self._returned.pop(tag, None) if self._returned else None
        if returned is not None:
            call.settle(index, errors.unroutable(call.address, slot[0], returned))
        else:
            call.settle(index, None if stored else errors.nacked(call.address, slot[0]))
        if self._watched and (watched := self._watched.pop(slot, None)) is not None:
            watched.set_result(None)

    def _encode(self, call: Call, route: str, wire: Wire, max_size: int, frames: list[bytes]) -> PublishError | None:
        """Adds the message's frames, or says why it cannot travel."""
        address, size = call.address, len(wire.body)
        if size > max_size:
            text = f"RabbitMQ: {size} bytes to {address.name}, at most {max_size}"
            return MessageTooLarge(text, channel=address.name, message_id=wire.id)
        try:
            publish = self._publish_frame(route, call.mandatory)
            header = ContentHeader(body_size=size, properties=properties_of(wire))
            head = pamqp.frame.marshal(header, self._number)
        except (ValueError, TypeError) as error:
            text = f"RabbitMQ: AMQP cannot carry the message to {address.name}: {error}"
            return Refused(text, channel=address.name, message_id=wire.id)
        if len(head) > self.link.frame_max:
            text = f"RabbitMQ: {len(head)} bytes of headers to {address.name}, at most {self.link.frame_max}"
            return MessageTooLarge(text, channel=address.name, message_id=wire.id)
        frames += (publish, head)
        most = self.link.frame_max - OVERHEAD
        for start in range(0, size, most):
            frames.append(pamqp.frame.marshal(ContentBody(wire.body[start : start + most]), self._number))
        return None

    def _publish_frame(self, route: str, mandatory: bool) -> bytes:
        frame = self._routes.get((route, mandatory))
        if frame is None:
            if len(self._routes) >= MANY_ROUTES:  # inboxes: each is used for a while only
                self._routes.clear()
            method = Basic.Publish(exchange=self._exchange, routing_key=route, mandatory=mandatory)
            frame = self._routes[route, mandatory] = pamqp.frame.marshal(method, self._number)
        return frame
