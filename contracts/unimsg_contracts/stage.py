"""What a case plays on: one broker, unique names, and everything closed at the end."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar, overload

import pytest
from typing_extensions import TypeForm

import unimsg
from unimsg import Bus, Queue, ReplyQueue, Service, Settings, Topic, UnimsgError, registry
from unimsg.adapter import Adapter, Address, ChannelMissing, Delivery, Kind, Receiver, SettlementLost, Wanted, Wire
from unimsg.config import Topology as TopologySetting
from unimsg.errors import PublishError
from unimsg.keys import partition_of
from unimsg_contracts.child import Child
from unimsg_contracts.harness import Harness, Network
from unimsg_contracts.reading import TICK, Reader, difference, eventually, ids
from unimsg_contracts.worker import History, Worker

T = TypeVar("T")
Body = TypeVar("Body")
Reply = TypeVar("Reply")

RUN = secrets.token_hex(4)
"""Part of every name, so that runs on one broker never meet."""
_numbers = itertools.count(1)


class Stage:
    """The one fixture of all cases. `async with` closes, in order: readers, receivers, adapters, networks."""

    def __init__(
        self,
        harness: Harness,
        *,
        adapter_type: type[Adapter] | None = None,
        patience: float | None = None,
        recovery: float | None = None,
    ) -> None:
        self.harness = harness
        self.adapter_type = adapter_type or harness.adapter_type
        self.patience = patience or harness.patience
        self.recovery = recovery or patience or harness.recovery
        self.limit = max(30.0, 4 * self.recovery)
        """Seconds that the whole case may take."""
        self.records: list[str] = []
        """What a case saw without judging it, for the end of the run."""
        self._readers: list[Reader] = []
        self._workers: list[Worker] = []
        self._receivers: list[Receiver] = []
        self._adapters: list[Adapter] = []
        self._made: list[Address] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._air: dict[Adapter, tuple[Address, Receiver]] = {}
        self._rest = AsyncExitStack()

    # ---- names and messages

    def name(self) -> str:
        """A channel's name that nobody else uses."""
        return f"contracts.{RUN}.{next(_numbers)}"

    def queue_address(self, *, partitions: int = 0) -> Address:
        """Of a queue that does not exist yet."""
        return Address(self.name(), Kind.QUEUE, partitions=partitions)

    def topic_address(self, *, partitions: int = 0) -> Address:
        return Address(self.name(), Kind.TOPIC, partitions=partitions)

    def inbox_address(self) -> Address:
        return Address(f"unimsg.inbox.{secrets.token_hex(16)}", Kind.INBOX)

    def wire(
        self, body: bytes = b"{}", *, key: str | None = None, headers: Mapping[str, str] | None = None, id: str = ""
    ) -> Wire:
        """A message with the CloudEvents attributes that the core would give it."""
        prefix = self.adapter_type.attribute_prefix
        return Wire(
            id or f"{RUN}-{next(_numbers)}",
            body,
            {
                f"{prefix}specversion": "1.0",
                f"{prefix}source": "contracts",
                f"{prefix}type": "contract",
                "content-type": "application/json",
                **(headers or {}),
            },
            key,
        )

    def wires(self, count: int, *, keys: Sequence[str] = ()) -> list[Wire]:
        """Messages with bodies 0, 1, …, their keys in turn."""
        return [self.wire(str(n).encode(), key=keys[n % len(keys)] if keys else None) for n in range(count)]

    # ---- channels

    async def queue(self, adapter: Adapter, *, partitions: int = 0, wanted: Wanted | None = None) -> Address:
        """A new queue."""
        return await self.ensure(adapter, self.queue_address(partitions=partitions), wanted)

    async def topic(self, adapter: Adapter, *subscriptions: str, partitions: int = 0) -> list[Address]:
        """A new topic, and then the address of each of its new subscriptions."""
        topic = await self.ensure(adapter, self.topic_address(partitions=partitions))
        return [topic, *[await self.subscription(adapter, topic, name) for name in subscriptions]]

    async def subscription(self, adapter: Adapter, topic: Address, name: str) -> Address:
        return await self.ensure(adapter, Address(topic.channel, Kind.TOPIC, name, topic.partitions))

    async def ensure(self, adapter: Adapter, address: Address, wanted: Wanted | None = None) -> Address:
        self._made.append(address)
        await self.within(adapter.ensure(address, wanted or Wanted(), timeout=self.recovery), "ensure")
        return address

    async def is_missing(self, adapter: Adapter, address: Address) -> bool:
        """Whether the channel does not exist on the broker."""
        found = await adapter.operations().inspect(address, Wanted(), timeout=self.recovery)
        return bool(found) and found[0].found is None

    # ---- adapters and receivers

    async def adapter(self, *, url: str | None = None, options: Mapping[str, object] | None = None) -> Adapter:
        """A connected adapter."""
        adapter = self.harness.adapter(self.adapter_type, url=url, options=options)
        self._adapters.append(adapter)
        await self.within(adapter.connect(timeout=self.recovery), "connect")
        return adapter

    async def receiver(self, adapter: Adapter, address: Address, *, prefetch: int = 50, grace: float = 2.0) -> Receiver:
        made = adapter.receiver(address, prefetch=prefetch, timeout=self.recovery, grace=grace)
        try:
            receiver = await self.within(made, "receiver")
        except ChannelMissing as missing:
            pytest.fail(f"{address} was made, and there is no receiver: {missing}")
        self._receivers.append(receiver)
        return receiver

    async def reader(
        self, adapter: Adapter, address: Address, *, prefetch: int = 50, hold: bool = False, grace: float = 2.0
    ) -> Reader:
        """A receiver that is read in the background."""
        return self.read(await self.receiver(adapter, address, prefetch=prefetch, grace=grace), hold=hold)

    def read(self, receiver: Receiver, *, hold: bool = False) -> Reader:
        reader = Reader(receiver, hold=hold)
        self._readers.append(reader)
        return reader

    def work(self, receiver: Receiver, history: History, handle: Callable[[Delivery], Awaitable[None]]) -> Worker:
        """A receiver that is handled from as the core does it."""
        worker = Worker(receiver, history, handle)
        self._workers.append(worker)
        return worker

    async def child(self) -> Child:
        """A process with a connected adapter; killed at the end."""
        harness = self.harness
        child = await self.within(Child.start(self.adapter_type, harness.url, harness.options), "a child", 30.0)
        self._rest.push_async_callback(child.kill)
        return child

    async def network(self) -> Network:
        """A way to the broker that the case can break."""
        return await self._rest.enter_async_context(self.harness.network())

    # ---- the whole library

    @asynccontextmanager
    async def bus(
        self,
        *services: Service[Any],
        url: str | None = None,
        options: Mapping[str, object] | None = None,
        topology: TopologySetting = "create",
        channels: Mapping[str, Mapping[str, Any]] | None = None,
        prefix: str = "",
    ) -> AsyncIterator[Bus]:
        """`unimsg.connect` on this broker, with this stage's adapter. `channels`: their settings. `prefix`: of all
        names on the broker."""
        url = url or self.harness.url
        if prefix:
            self._made += [replace(address, channel=prefix + address.channel) for address in self._made]
        scheme = url.partition("://")[0]
        broker = {"url": url, **(self.harness.options if options is None else options)}
        self._made += _subscriptions_of(services)
        registry.register(scheme, self.adapter_type)
        try:
            settings = Settings(brokers={"default": broker}, topology=topology, channels=channels or {}, prefix=prefix)
            async with unimsg.connect(*services, settings=settings) as bus:
                yield bus
        finally:
            registry.register(scheme, None)

    @overload
    def declare_queue(self, body: TypeForm[Body], *, replies: TypeForm[Reply], **how: Any) -> Queue[Body, Reply]: ...
    @overload
    def declare_queue(
        self,
        body: TypeForm[Body],
        *,
        key: Callable[[Body], str] = ...,
        codec: Any = ...,
        ordered: bool = ...,
        ttl: float = ...,
        upgrades: Any = ...,
    ) -> Queue[Body]: ...
    def declare_queue(self, body: Any, **how: Any) -> Any:
        """A queue with a name that nobody else uses. `how`: as `unimsg.Queue` (which types it)."""
        queue: Queue[Any, Any] = Queue(self.name(), body, **how)
        self._made.append(Address(queue.name, Kind.QUEUE, partitions=8 if queue.ordered else 0))
        return queue

    @overload
    def declare_topic(self, body: TypeForm[Body], *, replies: TypeForm[Reply], **how: Any) -> Topic[Body, Reply]: ...
    @overload
    def declare_topic(self, body: TypeForm[Body], **how: Any) -> Topic[Body]: ...
    def declare_topic(self, body: Any, **how: Any) -> Any:
        topic: Topic[Any, Any] = Topic(self.name(), body, **how)
        self._made.append(Address(topic.name, Kind.TOPIC, partitions=8 if topic.ordered else 0))
        return topic

    def declare_reply_queue(self, reply: TypeForm[Reply]) -> ReplyQueue[Reply]:
        queue: ReplyQueue[Reply] = ReplyQueue(self.name(), reply)
        self._made.append(self.address_of(queue))
        return queue

    def address_of(self, queue: ReplyQueue[Any]) -> Address:
        """Where a reply queue lives on the broker."""
        return Address(f"unimsg.reply.{queue.name}", Kind.QUEUE)

    # ---- acts

    async def outcomes(
        self, adapter: Adapter, address: Address, wires: Sequence[Wire], *, timeout: float | None = None
    ) -> Sequence[PublishError | None]:
        """Sends; one outcome for each message. Fails if it takes longer than it may."""
        timeout = self.recovery if timeout is None else timeout
        outcomes = await self.within(adapter.send(address, wires, timeout=timeout), "send", timeout + 1.0)
        assert len(outcomes) == len(wires), f"{len(outcomes)} outcomes of {len(wires)} messages"
        return outcomes

    async def send(self, adapter: Adapter, address: Address, wires: Sequence[Wire]) -> None:
        """Sends; all must be confirmed."""
        failed = [outcome for outcome in await self.outcomes(adapter, address, wires) if outcome is not None]
        assert not failed, f"{len(failed)} of {len(wires)} not confirmed, the first: {failed[0]!r}"

    async def take(self, receiver: Receiver, wires: Iterable[Wire], *, patience: float | None = None) -> list[Delivery]:
        """Receives, holding all, until each of `wires` came. Fails with what is missing or extra."""
        missing, got, patience = set(ids(wires)), list[Delivery](), patience or self.patience
        wanted = set(missing)
        try:
            async with asyncio.timeout(patience) as limit:
                while missing:
                    got += await receiver.receive()
                    missing.difference_update(ids(got))
        except TimeoutError:
            if limit.expired():
                pytest.fail(f"after {patience:g} s: {difference(wanted, ids(got))}")
            raise
        assert not difference(wanted, ids(got)), difference(wanted, ids(got))
        return got

    async def ack(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> None:
        """Acknowledges; it must count."""
        try:
            await self.within(receiver.ack(deliveries), "ack")
        except SettlementLost as lost:
            pytest.fail(f"an acknowledgement was lost: {lost}")

    async def arrive(self, wires: Iterable[Wire], *readers: Reader, patience: float | None = None) -> None:
        """Waits until each of `wires` came to one of `readers`."""
        wanted = set(ids(wires))

        def missing() -> str:
            got = {name for reader in readers for name in reader.ids}
            ends = [f"; a receiver ended with {reader.ended!r}" for reader in readers if reader.ended is not None]
            return difference(wanted, got) + "".join(ends)

        await eventually(
            lambda: wanted.issubset({name for reader in readers for name in reader.ids}),
            patience or self.patience,
            missing,
        )

    async def count(self, number: int, reader: Reader) -> None:
        """Waits until `reader` has so many deliveries, whatever they are."""
        await eventually(
            lambda: len(reader.got) >= number, self.patience, lambda: f"{len(reader.got)} of {number} messages came"
        )

    async def exactly(
        self, adapter: Adapter, target: Address, wires: Iterable[Wire], *readers: Reader, patience: float | None = None
    ) -> None:
        """`readers` together get each of `wires` once and nothing else: shown by markers that are sent behind."""
        wires = list(wires)
        await self.arrive(wires, *readers, patience=patience)
        markers = self.markers()
        await self.send(adapter, target, markers)
        await self.arrive(markers, *readers, patience=patience)
        ignored = set(ids(markers))
        got = [name for reader in readers for name in reader.ids if name not in ignored]
        assert not difference(ids(wires), got), difference(ids(wires), got)

    def markers(self) -> list[Wire]:
        """Messages that come after all that was sent before: one for each partition, for brokers that have them."""
        keys: dict[int, str] = {}
        for n in itertools.count():
            keys.setdefault(partition_of(f"marker-{n}", 8), f"marker-{n}")
            if len(keys) == 8:
                return [self.wire(b"marker", key=key) for key in keys.values()]
        raise AssertionError("unreachable")

    async def within(self, act: Awaitable[T], what: str, seconds: float | None = None) -> T:
        """The result of `act`; fails if it is not there within `seconds`."""
        seconds = self.recovery + 5.0 if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                await asyncio.sleep(0)  # so that a loop of acts that wait for nothing can still be ended
                return await act
        except TimeoutError:
            if limit.expired():
                pytest.fail(f"{what} not done within {seconds:g} s")
            raise

    def begin(self, act: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Runs it in the background, until the case's end at the latest."""
        task = asyncio.create_task(act)
        self._tasks.append(task)
        return task

    async def answer(self, asking: Awaitable[T]) -> T:
        """What a request or another call returns; fails if that is an error."""
        try:
            return await self.within(asking, "a call", self.limit)
        except UnimsgError as error:
            pytest.fail(f"no answer: {error!r}")

    async def breathe(self, adapter: Adapter) -> None:
        """Several full round trips over this broker: time enough for it to do what it should not."""
        if adapter not in self._air:
            queue = await self.queue(adapter)
            self._air[adapter] = (queue, await self.receiver(adapter, queue))
        queue, receiver = self._air[adapter]
        for _ in range(3):
            wires = self.wires(1)
            await self.send(adapter, queue, wires)
            await receiver.ack(await self.take(receiver, wires))
            await asyncio.sleep(TICK)  # a broker in this process gives no task a turn by itself

    def record(self, what: str) -> None:
        """Says in the summary what the broker did, where nothing is promised."""
        self.records.append(what)

    # ---- the end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        problems = [await self._closed(reader.leave()) for reader in self._readers]
        problems += [await self._closed(worker.abandon()) for worker in self._workers]
        problems += [await self._closed(receiver.aclose()) for receiver in self._receivers]
        problems += [await self._closed(adapter.aclose(timeout=5.0)) for adapter in self._adapters]
        if self.harness.leftovers:
            problems += [await self._closed(self.harness.sweep(address)) for address in reversed(self._made)]
        problems.append(await self._closed(self._rest.aclose()))
        if exc[0] is None:
            for problem in problems:
                if problem is not None:
                    raise problem

    async def _closed(self, act: Awaitable[None]) -> BaseException | None:
        """Closes under a deadline: after a failure nothing may hang the run, and the rest must be closed too."""
        try:
            async with asyncio.timeout(15.0):
                await act
        except Exception as error:  # noqa: BLE001  # told after the rest is closed
            return error
        return None


def _subscriptions_of(services: Iterable[Service[Any]]) -> list[Address]:
    """What is made for handlers of topics."""
    return [
        Address(handler.channel.name, Kind.TOPIC, handler.subscription, 8 if handler.channel.ordered else 0)
        for service in services
        for handler in service.handlers
        if handler.subscription is not None
    ]
