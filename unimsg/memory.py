"""The broker in this process: the executable specification of the port, and the default without configuration.

It behaves as the real brokers do, restarts of the process excepted: what it holds is gone with the event loop that
it lives on. All adapters of one loop share one broker.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from unimsg._memory_broker import History, Line, MemoryBroker
from unimsg._memory_receiver import MemoryReceiver
from unimsg.adapter import (
    About,
    Adapter,
    AdapterHealth,
    Address,
    BrokerOptions,
    Capabilities,
    ChannelMissing,
    ChannelOptions,
    Difference,
    Kind,
    Missing,
    Operations,
    Right,
    Wanted,
    Wire,
)
from unimsg.errors import (
    ConfigurationError,
    MessageTooLarge,
    PublishError,
    Refused,
    TopologyError,
    Unroutable,
)
from unimsg.mailbox import pages

__all__ = ["MemoryAdapter", "MemoryBroker", "MemoryOperations", "MemoryOptions", "MemoryReceiver"]


class MemoryOptions(ChannelOptions):
    """Options of a channel of the broker in memory."""

    broker: ClassVar[str] = "memory"

    partitions: int = Field(default=8, ge=1)
    """Only has to be equal for all users of an ordered channel: keys keep their order without partitions here."""
    max_length: int | None = Field(default=None, ge=1)
    """Messages that a queue or subscription holds at most; what is sent beyond is refused."""


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
        if wanted.temporary and address.channel not in broker.topics:
            raise ChannelMissing(f"memory: topic {address.channel} does not exist")
        if address.kind is Kind.TOPIC and wanted.history is not None:
            history = broker.histories.setdefault(address.channel, History())
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
                Unroutable(
                    f'memory: {address.name} does not exist: create it, or set topology = "create"',
                    channel=address.name,
                    message_id=wire.id,
                )
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

    def _store(self, address: Address, lines: list[Line], wire: Wire, delay: float) -> PublishError | None:
        if len(wire.body) > self.capabilities.max_body:
            return MessageTooLarge(
                f"memory: {len(wire.body)} bytes, at most {self.capabilities.max_body}",
                channel=address.name,
                message_id=wire.id,
            )
        if any(line.full for line in lines):
            text = f"memory: {address.name} is full: make room, or raise its max_length"
            return Refused(text, channel=address.name, message_id=wire.id)
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


class MemoryOperations(Operations):
    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        if address.kind is Kind.INBOX:  # its receiver makes it
            return []
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

    async def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        try:
            line = MemoryBroker.current().lines(address)[0]
        except KeyError:
            raise ChannelMissing(f"memory: {address.name} does not exist") from None
        for page in pages(line.waiting_wires()[:limit]):
            yield page

    async def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        broker = MemoryBroker.current()
        if topic.channel not in broker.histories:
            raise ChannelMissing(f"memory: {topic.name} keeps no history")
        yield broker.histories[topic.channel].since(since)

    async def find(self, address: Address, *, timeout: float) -> Address:
        broker = MemoryBroker.current()
        _refuse_two_kinds(broker, address)
        if address.kind is Kind.TOPIC and address.subscription is None and address.channel in broker.topics:
            # Whoever subscribes has the topic's own count: any of them tells it.
            lines = list(broker.topics[address.channel].values())
            return replace(address, partitions=lines[0].address.partitions if lines else 0)
        try:
            return broker.lines(address)[0].address
        except KeyError:
            raise ChannelMissing(f"memory: {address.name} does not exist") from None

    async def delete(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        if address.kind is Kind.TOPIC and address.subscription is None:
            raise ValueError(f"memory: {address.name} is a topic: only queues and subscriptions are deleted")
        broker = MemoryBroker.current()
        if address.subscription is not None:
            broker.unsubscribe(address.channel, address.subscription)
        else:
            broker.delete(address.channel)
        broker.delete(f"{address.name}..dead")

    async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
        return []

    async def about(self, *, timeout: float) -> About:
        return About("in memory, in this process", "none", datetime.now(UTC))


def _new_line(address: Address, wanted: Wanted) -> Line:
    options = wanted.options if isinstance(wanted.options, MemoryOptions) else MemoryOptions()
    derived = address.kind is Kind.QUEUE and ".." in address.channel  # its limits are not those of what it is made for
    return Line(address, None if derived else options.max_length)


def _put_late(line: Line, wire: Wire) -> None:
    line.put(wire)
    line.pump()


def _refuse_two_kinds(broker: MemoryBroker, address: Address) -> None:
    others = broker.topics if address.kind is Kind.QUEUE else broker.queues
    if address.channel in others:
        raise TopologyError(
            f"memory: {address.channel} exists as a {'topic' if others is broker.topics else 'queue'}: "
            "a queue and a topic never share a name"
        )
