"""What the broker in memory holds: lines of messages, and who they are out to."""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

from unimsg.adapter import Address, Kind, Wire


class Receiving(Protocol):
    """A receiver, as a line sees it."""

    @property
    def has_room(self) -> bool: ...

    def give(self, entry: "Entry") -> None:
        """Hands it over."""

    def lose_connection(self) -> None:
        """Everything unsettled goes back; the next deliveries are of a new epoch."""

    def lose_channel(self) -> None:
        """It was deleted."""


class Entry:
    """A message in a line."""

    __slots__ = ("deliveries", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.deliveries = 0


class Lane:
    """The waiting messages that must keep their order; while one of them is out, only its receiver gets more."""

    __slots__ = ("out", "owner", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.owner: Receiving | None = None
        self.out = 0


class Line:
    """What one queue or subscription holds: a lane for each key if it is ordered, else one lane without owner."""

    def __init__(self, address: Address, max_length: int | None) -> None:
        self.address = address
        self.max_length = max_length
        self.receivers: list[Receiving] = []
        self._lanes: dict[str | None, Lane] = {}
        self.length = 0

    @property
    def full(self) -> bool:
        return self.max_length is not None and self.length >= self.max_length

    @property
    def waiting(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def waiting_wires(self) -> list[Wire]:
        return [entry.wire for lane in self._lanes.values() for entry in lane.waiting]

    def put(self, wire: Wire) -> None:
        self.length += 1
        self._lane(wire).waiting.append(Entry(wire))

    def done(self, receiver: "Receiving", entry: Entry) -> None:
        self.length -= 1
        self._settled(receiver, entry)

    def back(self, receiver: "Receiving", entries: Sequence[Entry]) -> None:
        """To the front, in their order."""
        for entry in reversed(entries):
            self._lane(entry.wire).waiting.appendleft(entry)
            self._settled(receiver, entry)

    def pump(self) -> None:
        """Hands waiting messages to receivers that have room, in turn."""
        for key, lane in list(self._lanes.items()):
            while lane.waiting and (receiver := self._next(lane)) is not None:
                entry = lane.waiting.popleft()
                if self.address.ordered:
                    lane.owner = receiver
                    lane.out += 1
                receiver.give(entry)
            if not lane.waiting and not lane.out:
                del self._lanes[key]

    def _lane(self, wire: Wire) -> Lane:
        key = wire.key if self.address.ordered else None
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane()
        return lane

    def _next(self, lane: Lane) -> "Receiving | None":
        if lane.owner is not None:
            return lane.owner if lane.owner.has_room else None
        for _ in range(len(self.receivers)):
            self.receivers.append(self.receivers.pop(0))
            if self.receivers[-1].has_room:
                return self.receivers[-1]
        return None

    def _settled(self, receiver: "Receiving", entry: Entry) -> None:
        lane = self._lane(entry.wire)
        if self.address.ordered and lane.owner is receiver:
            lane.out -= 1
            if not lane.out:
                lane.owner = None


class History:
    """What a topic keeps."""

    def __init__(self) -> None:
        self.length = timedelta()
        self._kept: deque[tuple[datetime, Wire]] = deque()

    def put(self, wire: Wire) -> None:
        now = datetime.now(UTC)
        self._kept.append((now, wire))
        while self._kept[0][0] < now - self.length:
            self._kept.popleft()

    def since(self, moment: datetime) -> list[Wire]:
        return [wire for sent, wire in self._kept if sent >= moment]


class MemoryBroker:
    """What the adapters of one event loop share. Its methods that no adapter calls make faults, for tests."""

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "MemoryBroker"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.queues: dict[str, Line] = {}
        self.topics: dict[str, dict[str, Line]] = {}
        self.histories: dict[str, History] = {}

    @classmethod
    def current(cls) -> "MemoryBroker":
        """The broker of the running event loop."""
        return cls._of_loop.setdefault(asyncio.get_running_loop(), cls())

    def lines(self, address: Address) -> list[Line]:
        """Where a message to `address` is stored.

        Raises:
            KeyError: nowhere; the channel does not exist.
        """
        if address.kind is not Kind.TOPIC:
            return [self.queues[address.channel]]
        subscriptions = self.topics[address.channel]
        return [subscriptions[address.subscription]] if address.subscription else list(subscriptions.values())

    def cut(self) -> None:
        """All connections are lost: what was unsettled is delivered again, in a new epoch."""
        lines = [*self.queues.values(), *(line for topic in self.topics.values() for line in topic.values())]
        for line in lines:
            for receiver in line.receivers:
                receiver.lose_connection()
        for line in lines:
            line.pump()

    def delete(self, channel: str) -> None:
        """The queue or topic is deleted, with what it holds."""
        lines = [*self.topics.pop(channel, {}).values()]
        if channel in self.queues:
            lines.append(self.queues.pop(channel))
        _end(lines)

    def unsubscribe(self, topic: str, subscription: str) -> None:
        """The subscription is deleted, with what it holds."""
        line = self.topics.get(topic, {}).pop(subscription, None)
        _end([] if line is None else [line])


def _end(lines: Sequence[Line]) -> None:
    for line in lines:
        for receiver in line.receivers:
            receiver.lose_channel()
