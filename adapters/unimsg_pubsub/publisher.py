"""Sending: messages into requests, requests into outcomes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from google.api_core.exceptions import GoogleAPICallError
from google.pubsub_v1 import types

from unimsg.adapter import Address, Kind, Wire
from unimsg.errors import PublishError, Refused
from unimsg_pubsub import errors, wire
from unimsg_pubsub.link import Link
from unimsg_pubsub.requests import parts

PublishRequest: Any = types.PublishRequest.pb()  # built at run time, as in wire.py

IN_FLIGHT = 32
"""Requests at a time."""


@dataclass(slots=True)
class _Item:
    """A message on its way, and what became of it. Confirmed is only what was seen to be."""

    message_id: str
    message: Any = None  # protobuf
    failure: PublishError | None = None
    confirmed: bool = False

    def outcome(self, address: Address) -> PublishError | None:
        if self.confirmed or self.failure is not None:
            return self.failure
        return errors.publish_error(errors.Interrupted("no answer"), address.name, self.message_id)


class Publisher:
    """Sends to the topics of one project."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._sends: set[asyncio.Future[None]] = set()

    async def send(
        self, topic: str, address: Address, messages: Sequence[Wire], *, timeout: float
    ) -> Sequence[PublishError | None]:
        """As `Adapter.send`."""
        items = [_item(address, message) for message in messages]
        done = asyncio.get_running_loop().create_future()
        self._sends.add(done)
        try:
            await self._send([item for item in items if item.failure is None], topic, address, monotonic() + timeout)
        finally:
            self._sends.discard(done)
            done.set_result(None)
        return [item.outcome(address) for item in items]

    async def flush(self) -> None:
        """Waits for the sends that are under way; each has its own deadline."""
        if self._sends:
            await asyncio.wait(self._sends)

    async def _send(self, items: list[_Item], topic: str, address: Address, until: float) -> None:
        by_key: dict[str, list[_Item]] = {}  # all messages of one request have the same
        for item in items:
            by_key.setdefault(item.message.ordering_key, []).append(item)
        # Always tasks: they begin in the order they were made in, and so do calls that overlap.
        async with asyncio.TaskGroup() as group:
            for key, of_key in by_key.items():
                if key:
                    group.create_task(self._send_in_order(topic, address, of_key, until))
                    continue
                for part in parts(of_key, _size, wire.MOST_BYTES):
                    group.create_task(self._send_request(topic, address, part, until))

    async def _send_in_order(self, topic: str, address: Address, items: Sequence[_Item], until: float) -> None:
        """One request of a key at a time: two in flight may overtake each other."""
        lock = self._locks.setdefault((topic, items[0].message.ordering_key), asyncio.Lock())
        try:
            async with _acquired(lock, until, "an earlier message of the same key still waits"):
                for part in parts(items, _size, wire.MOST_BYTES):
                    await self._send_request(topic, address, part, until)
        except errors.NotReached as error:
            _fail(items, address, error)

    async def _send_request(self, topic: str, address: Address, items: Sequence[_Item], until: float) -> None:
        request = types.PublishRequest.wrap(PublishRequest(topic=topic, messages=[item.message for item in items]))
        try:
            async with _acquired(self._room, until, "earlier requests were still in flight"):
                await self._link.call(
                    self._link.publisher.publish, request, until=until, again=errors.certainly_not_stored
                )
        except GoogleAPICallError as error:
            if not errors.bad_request(error) or len(items) == 1:
                _fail(items, address, error)
                return
        else:
            for item in items:
                item.confirmed = True
            return
        # One message that Pub/Sub does not take has failed the whole request: find it by halving.
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            await self._send_request(topic, address, half, until)


@asynccontextmanager
async def _acquired(lock: asyncio.Lock | asyncio.Semaphore, until: float, otherwise: str) -> AsyncIterator[None]:
    """
    Raises:
        NotReached: not in time. `otherwise`: why.
    """
    try:
        async with asyncio.timeout(until - monotonic()):
            await lock.acquire()
    except TimeoutError as error:
        raise errors.NotReached(otherwise) from error
    try:
        yield
    finally:
        lock.release()


def _item(address: Address, message: Wire) -> _Item:
    """`message` made ready, or refused for what Pub/Sub cannot carry."""
    inbox = address.channel if address.kind is Kind.INBOX else None
    try:
        proto = wire.encode(message, ordered=address.ordered, inbox=inbox)
    except ValueError as error:  # text that is not Unicode
        text = f"pubsub: {address.name}: the message cannot be written as UTF-8 ({type(error).__name__})"
        return _Item(message.id, failure=Refused(text, channel=address.name, message_id=message.id))
    return _Item(message.id, proto, wire.refusal(proto, address.name, message.id))


def _size(item: _Item) -> int:
    size: int = item.message.ByteSize() + 8  # and what stands around it
    return size


def _fail(items: Sequence[_Item], address: Address, error: GoogleAPICallError) -> None:
    for item in items:
        item.failure = errors.publish_error(error, address.name, item.message_id)
        item.failure.__cause__ = error
