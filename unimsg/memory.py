"""The broker in this process: the executable specification of the port, and the default without configuration.

It behaves as the real brokers do, restarts of the process excepted: what it holds is gone with the event loop that
it lives on. All adapters of one loop share one broker.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import ClassVar, Self
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakKeyDictionary

from pydantic import Field

from unimsg.adapter import (
    Adapter,
    AdapterHealth,
    Address,
    BrokerOptions,
    Capabilities,
    ChannelMissing,
    ChannelOptions,
    Delivery,
    Difference,
    Epoch,
    Kind,
    Operations,
    Receiver,
    ReceiverHealth,
    SettlementLost,
    Wanted,
    Wire,
)
from unimsg.errors import (
    CapabilityError,
    ConfigurationError,
    MessageTooLarge,
    PublishError,
    Refused,
    TopologyError,
    Unroutable,
)
from unimsg.mailbox import Mailbox

__all__ = ["MemoryAdapter", "MemoryBroker", "MemoryOptions"]


class MemoryOptions(ChannelOptions):
    """Options of a channel of the broker in memory."""

    broker: ClassVar[str] = "memory"

    partitions: int = Field(default=8, ge=1)
    """Only has to be equal for all users of an ordered channel: keys keep their order without partitions here."""
    max_length: int | None = Field(default=None, ge=1)
    """Messages that a queue or subscription holds at most; what is sent beyond is refused."""


class _Entry:
    """A message in a line."""

    __slots__ = ("deliveries", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.deliveries = 0


class _Lane:
    """The waiting messages that must keep their order; while one of them is out, only its receiver gets more."""

    __slots__ = ("out", "owner", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Entry] = deque()
        self.owner: MemoryReceiver | None = None
        self.out = 0


class _Line:
    """What one queue or subscription holds: a lane for each key if it is ordered, else one lane without owner."""

    def __init__(self, address: Address, max_length: int | None) -> None:
        self.address = address
        self.max_length = max_length
        self.receivers: list[MemoryReceiver] = []
        self._lanes: dict[str | None, _Lane] = {}
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
        self._lane(wire).waiting.append(_Entry(wire))

    def done(self, receiver: "MemoryReceiver", entry: _Entry) -> None:
        self.length -= 1
        self._settled(receiver, entry)

    def back(self, receiver: "MemoryReceiver", entries: Sequence[_Entry]) -> None:
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

    def _lane(self, wire: Wire) -> _Lane:
        key = wire.key if self.address.ordered else None
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        return lane

    def _next(self, lane: _Lane) -> "MemoryReceiver | None":
        if lane.owner is not None:
            return lane.owner if lane.owner.has_room else None
        for _ in range(len(self.receivers)):
            self.receivers.append(self.receivers.pop(0))
            if self.receivers[-1].has_room:
                return self.receivers[-1]
        return None

    def _settled(self, receiver: "MemoryReceiver", entry: _Entry) -> None:
        lane = self._lane(entry.wire)
        if self.address.ordered and lane.owner is receiver:
            lane.out -= 1
            if not lane.out:
                lane.owner = None


class _History:
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
        self.queues: dict[str, _Line] = {}
        self.topics: dict[str, dict[str, _Line]] = {}
        self.histories: dict[str, _History] = {}

    @classmethod
    def current(cls) -> "MemoryBroker":
        """The broker of the running event loop."""
        return cls._of_loop.setdefault(asyncio.get_running_loop(), cls())

    def lines(self, address: Address) -> list[_Line]:
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
        for line in lines:
            for receiver in line.receivers:
                receiver.lose_channel()


class MemoryAdapter(Adapter):
    broker = "memory"
    capabilities = Capabilities(
        max_delay=24 * 3600.0,
        max_body=64 * 1024 * 1024,
        max_history=timedelta(days=1),
        counts_redeliveries=True,
        notices_missing_inbox=True,
    )
    options_type = MemoryOptions

    def __init__(self) -> None:
        self._receivers: list[MemoryReceiver] = []
        self._connected = False

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        parts = urlsplit(url)
        if parts.netloc or parts.path.strip("/"):
            raise ConfigurationError(f"{url}: the broker in memory takes no host and no path: write memory://")
        BrokerOptions.read("memory://", {**dict(parse_qsl(parts.query)), **options})
        return cls()

    async def connect(self, *, timeout: float) -> None:
        self._connected = True

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        broker = MemoryBroker.current()
        if address.kind is Kind.INBOX:
            return
        _refuse_two_kinds(broker, address)
        self._refuse_history(address, wanted)
        if address.kind is Kind.TOPIC and wanted.history is not None:
            history = broker.histories.setdefault(address.channel, _History())
            history.length = max(history.length, wanted.history)
        subscriptions = broker.topics.setdefault(address.channel, {}) if address.kind is Kind.TOPIC else None
        if subscriptions is not None and address.subscription is None:
            return
        lines = broker.queues if subscriptions is None else subscriptions
        line = lines.get(address.subscription or address.channel)
        if line is None:
            line = lines[address.subscription or address.channel] = _new_line(address, wanted)
            if wanted.start is not None and address.channel in broker.histories:
                for wire in broker.histories[address.channel].since(wanted.start):
                    line.put(wire)
        if line.address != address:
            raise TopologyError(
                f"memory: {address.name} exists with {line.address.partitions} partitions, not {address.partitions}: "
                "declare it with the same order and partitions everywhere"
            )

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if delay > self.capabilities.max_delay:
            raise ValueError(f"memory: a delay of {delay} s is more than {self.capabilities.max_delay} s")
        broker = MemoryBroker.current()
        try:
            lines = broker.lines(address)
        except KeyError:
            return [
                Unroutable(f"memory: {address.name} does not exist", channel=address.name, message_id=wire.id)
                for wire in messages
            ]
        outcomes = [self._store(address, lines, wire, delay) for wire in messages]
        for line in lines:
            line.pump()
        return outcomes

    async def receiver(
        self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0
    ) -> "MemoryReceiver":
        broker = MemoryBroker.current()
        if address.kind is Kind.INBOX:
            broker.queues[address.channel] = _new_line(address, Wanted())
        try:
            lines = broker.lines(address)
        except KeyError:
            raise ChannelMissing(f"memory: {address.name} does not exist") from None
        receiver = MemoryReceiver(broker, lines[0], prefetch)
        self._receivers.append(receiver)
        return receiver

    def health(self) -> AdapterHealth:
        return AdapterHealth(self._connected, receivers=[r.health() for r in self._receivers if not r.closed])

    def operations(self) -> "MemoryOperations":
        return MemoryOperations()

    async def aclose(self, *, timeout: float) -> None:
        self._connected = False
        for receiver in self._receivers:
            await receiver.aclose()

    def _store(self, address: Address, lines: list[_Line], wire: Wire, delay: float) -> PublishError | None:
        if len(wire.body) > self.capabilities.max_body:
            return MessageTooLarge(
                f"memory: {len(wire.body)} bytes, at most {self.capabilities.max_body}",
                channel=address.name,
                message_id=wire.id,
            )
        if any(line.full for line in lines):
            return Refused(f"memory: {address.name} is full", channel=address.name, message_id=wire.id)
        if address.kind is Kind.TOPIC and address.subscription is None:
            self._keep(address, wire, delay)
        for line in lines:
            if delay:
                asyncio.get_running_loop().call_later(delay, _put_late, line, wire)
            else:
                line.put(wire)
        return None

    def _keep(self, address: Address, wire: Wire, delay: float) -> None:
        history = MemoryBroker.current().histories.get(address.channel)
        if history is not None and delay:
            asyncio.get_running_loop().call_later(delay, history.put, wire)
        elif history is not None:
            history.put(wire)

    def _refuse_history(self, address: Address, wanted: Wanted) -> None:
        most = self.capabilities.max_history
        if wanted.history is not None and (most is None or wanted.history > most):
            raise CapabilityError(f"memory: {address.name}: a history of {wanted.history}, at most {most} is kept")


class MemoryReceiver(Receiver):
    def __init__(self, broker: MemoryBroker, line: _Line, prefetch: int) -> None:
        self._broker = broker
        self._line = line
        self._prefetch = prefetch
        self._mailbox = Mailbox(prefetch)
        self._epoch = Epoch()
        self._open: dict[Delivery, _Entry] = {}  # given to this receiver and unsettled, oldest first
        self._stopped = False
        self._deleted = False
        self.closed = False
        self._since = monotonic()
        self._last_delivery: float | None = None
        line.receivers.append(self)
        line.pump()

    @property
    def has_room(self) -> bool:
        return not self._stopped and len(self._open) < self._prefetch

    def give(self, entry: _Entry) -> None:
        """From the line."""
        delivery = Delivery(entry.wire, self._epoch, entry, raw=entry.wire, redelivered=entry.deliveries)
        entry.deliveries += 1
        self._open[delivery] = entry
        self._last_delivery = monotonic()
        self._mailbox.put([delivery])

    async def receive(self) -> Sequence[Delivery]:
        return await self._mailbox.get()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        lost = 0
        for delivery in self._mailbox.settle(deliveries):
            entry = self._open.pop(delivery, None)
            if entry is None:
                lost += 1
            else:
                self._line.done(self, entry)
        self._line.pump()
        if lost:
            raise SettlementLost(f"memory: {lost} messages of {self._line.address.name} come again")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        self._give_back(self._mailbox.settle(deliveries))
        self._line.pump()

    async def stop(self) -> None:
        if not self._stopped:
            self._since = monotonic()
        self._stopped = True
        waited = self._mailbox.close()
        if not self._line.address.ordered:  # of an ordered line, a key may still run here: `aclose` gives it back
            self._give_back(waited)
            self._line.pump()

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self.stop()
        self._give_back(list(self._open))
        self._epoch.end()
        if self in self._line.receivers:
            self._line.receivers.remove(self)
        self._line.pump()
        if self._line.address.kind is Kind.INBOX:
            self._broker.queues.pop(self._line.address.channel, None)

    def lose_connection(self) -> None:
        """Everything unsettled goes back; the next deliveries are of a new epoch."""
        self._give_back(list(self._open))
        self._epoch.end()
        self._epoch = Epoch()

    def lose_channel(self) -> None:
        self._stopped = self._deleted = True
        self._since = monotonic()
        self._open.clear()
        self._epoch.end()
        self._mailbox.close(ChannelMissing(f"memory: {self._line.address.name} was deleted"))

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(
            self._line.address,
            consuming=not self._stopped,
            since=self._since,
            last_delivery=self._last_delivery,
            unsettled=self._mailbox.unsettled,
            problem="its channel was deleted" if self._deleted else None,
        )

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        wanted = set(deliveries)
        back = [delivery for delivery in self._open if delivery in wanted]
        self._line.back(self, [self._open.pop(delivery) for delivery in back])


class MemoryOperations(Operations):
    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        broker = MemoryBroker.current()
        what = f"{address.kind.value} {address.name}"
        if address.kind is Kind.TOPIC and address.subscription is None:
            return [] if address.channel in broker.topics else [Difference(what, "exists", None)]
        try:
            line = broker.lines(address)[0]
        except KeyError:
            return [Difference(what, "exists", None)]
        if line.address.partitions != address.partitions:
            return [Difference(f"{what} partitions", str(address.partitions), str(line.address.partitions))]
        return []

    async def backlog(self, address: Address, *, timeout: float) -> int | None:
        try:
            return sum(line.waiting for line in MemoryBroker.current().lines(address))
        except KeyError:
            raise ChannelMissing(f"memory: {address.name} does not exist") from None

    async def browse(self, address: Address, *, limit: int, timeout: float) -> Sequence[Wire]:
        try:
            line = MemoryBroker.current().lines(address)[0]
        except KeyError:
            raise ChannelMissing(f"memory: {address.name} does not exist") from None
        return line.waiting_wires()[:limit]

    async def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncIterator[Sequence[Wire]]:
        broker = MemoryBroker.current()
        if topic.channel not in broker.histories:
            raise ChannelMissing(f"memory: {topic.name} keeps no history")
        yield broker.histories[topic.channel].since(since)


def _new_line(address: Address, wanted: Wanted) -> _Line:
    options = wanted.options if isinstance(wanted.options, MemoryOptions) else MemoryOptions()
    derived = address.kind is Kind.QUEUE and ".." in address.channel  # its limits are not those of what it is made for
    return _Line(address, None if derived else options.max_length)


def _put_late(line: _Line, wire: Wire) -> None:
    line.put(wire)
    line.pump()


def _refuse_two_kinds(broker: MemoryBroker, address: Address) -> None:
    others = broker.topics if address.kind is Kind.QUEUE else broker.queues
    if address.channel in others:
        raise TopologyError(
            f"memory: {address.channel} exists as a {'topic' if others is broker.topics else 'queue'}: "
            "a queue and a topic never share a name"
        )
