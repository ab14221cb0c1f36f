"""Order by key while partitions move between services, come back after lost connections, and messages fail."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from policies import wrong
from regrouping import Group, GroupReceiver, LikeKafka, LikeRabbitMQ, Regrouping
from unimsg_contracts.ordering import Attempt, Outcome, Verdict, judge
from waiting import until

import unimsg
from unimsg import Context, Message, Queue, Reject, Retry, Service, Settings
from unimsg.adapter import Adapter, Address, Epoch, Kind, Wanted, Wire
from unimsg.memory import MemoryAdapter

pytestmark = pytest.mark.usefixtures("elsewhere")

KEYS = 6
OF_EACH = 8
JUST_NOW = 0.1
"""Seconds in which an acknowledgement surely reaches the receiver."""
EARLY = 0.01
"""Seconds by which a handler knows of its time later than whoever measures it."""
orders = Queue("regrouping.orders", tuple[int, int], ordered=True, key=lambda order: f"{order[0]}")


class Round:
    """Services that come and go at random, and what their handlers did."""

    def __init__(self, seed: int, adapter: type[Regrouping], url: str) -> None:
        adapter.begin(seed)
        self.pace = random.Random(seed)
        self._adapter = adapter
        self._url = url
        self._log: list[Attempt] = []
        self._epochs: list[tuple[Attempt, Epoch]] = []
        self._batches = self.pace.random() < 0.4
        self._prefetch = self.pace.choice([1, 10, 100])
        self._grace = self.pace.choice([0, 0.01, 0.3])
        self._timeout = self.pace.choice([0.03, 5])
        self._members: list[tuple[asyncio.Event, asyncio.Task[None]]] = []
        self._numbers = itertools.count(1)

    @property
    def group(self) -> Group:
        [group] = self._adapter.groups.values()
        return group

    async def play(self, acts: int) -> Verdict:
        async with unimsg.connect(url=self._url) as bus, bus.pipeline() as pipeline:
            for number in range(OF_EACH):
                for key in range(KEYS):
                    await pipeline.send(orders, (key, number))
        self._join()
        for _ in range(acts):
            await asyncio.sleep(self.pace.random() * 0.02)
            await self._act()
        if not self._members:
            self._join()
        await until(lambda: not self.group.left, "all is done", within=20)
        while self._members:
            await self._leave()
        return judge(self._log, {f"{key}": OF_EACH for key in range(KEYS)}, {})

    async def _act(self) -> None:
        match self.pace.choices(["regroup", "hand over", "cut", "join", "leave"], [4, 4, 2, 2, 1])[0]:
            case "regroup" if self.group.members:
                self.group.regroup()
            case "hand over":
                self.group.hand_over()
            case "cut" if self.group.members:
                self._cut(self.pace.choice(self.group.members))
            case "join" if len(self._members) < 4:
                self._join()
            case "leave" if self._members:
                await self._leave()

    def _cut(self, member: GroupReceiver) -> None:
        """What its handlers did a moment ago may not be acknowledged yet."""
        self.group.cut(member)
        now = monotonic()
        for attempt, epoch in self._epochs:
            attempt.lost |= epoch.over and (attempt.ended is None or attempt.ended > now - JUST_NOW)

    def _join(self) -> None:
        leaves, name = asyncio.Event(), f"service {next(self._numbers)}"
        self._members.append((leaves, asyncio.create_task(self._serve(name, leaves))))

    async def _leave(self) -> None:
        leaves, task = self._members.pop(self.pace.randrange(len(self._members)))
        leaves.set()
        if self.pace.random() < 0.5 or not self._members:
            await task

    async def _serve(self, name: str, leaves: asyncio.Event) -> None:
        settings = Settings(
            brokers={"default": {"url": self._url}}, handlers={orders.name: {"prefetch": self._prefetch}}
        )
        async with unimsg.connect(self._service(name), settings=settings):
            await leaves.wait()

    def _service(self, name: str) -> Service:
        pace = self.pace
        service = Service("shop", grace=self._grace, retry=Retry(*[pace.choice([0, 0.005, 0.02])] * 500))
        how = {"concurrency": pace.choice([1, 3, 10]), "timeout": self._timeout}
        if self._batches:

            @service.batch_handler(orders, size=pace.choice([1, 3, 10]), within=pace.choice([0, 0.005]), **how)
            async def handle_all(bodies: Sequence[tuple[int, int]], context: Context) -> None:
                async with self._attempted(name, context):
                    await self._work()

        else:

            @service.handler(orders, **how)
            async def handle(body: tuple[int, int], context: Context) -> None:
                async with self._attempted(name, context):
                    await self._work()

        return service

    async def _work(self) -> None:
        await asyncio.sleep(self.pace.choice([0, 0, 0.001, 0.01, 0.04]))
        if self.pace.random() < 0.15:
            # Which of a rejecting batch are handled once more, nobody can tell; nor, where there is no time for the
            # dead letter to be confirmed, whether a message is.
            once = [] if self._batches or self._grace < 0.1 else [Reject]
            raise self.pace.choice([RuntimeError, RuntimeError, TimeoutError, *once])("on purpose")

    @asynccontextmanager
    async def _attempted(self, name: str, context: Context) -> AsyncIterator[None]:
        begun, first, rest = monotonic(), dict[str | None, Attempt](), list[Message[object]]()
        for message in context.messages:
            if isinstance(message.raw, Epoch) and message.raw.draining:
                wrong.append(f"{message.body} begun in {name}, and its epoch drains")
            if message.key in first:  # of a batch: it counts as begun when those before it are done
                rest.append(message)
            else:
                first[message.key] = self._began(name, message, context.attempt, begun)
        outcome: Outcome = "cancelled"
        try:
            yield
            outcome = "done"
        except Reject:
            outcome = "done"  # with it
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            now = monotonic()
            if outcome == "cancelled" and now - begun > self._timeout - EARLY:
                outcome = "failed"
            if outcome == "done" and not context.lost:
                first |= {message.id: self._began(name, message, 1, now) for message in rest}
            for attempt in first.values():
                attempt.ended, attempt.outcome = now, outcome
                attempt.lost |= context.lost

    def _began(self, name: str, message: Message[object], count: int, begun: float) -> Attempt:
        key, number = message.body  # type: ignore[misc]  # what was sent
        attempt = Attempt(name, f"{key}", number, count, begun)
        assert isinstance(message.raw, Epoch)
        self._log.append(attempt)
        self._epochs.append((attempt, message.raw))
        return attempt


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("adapter", [LikeKafka, LikeRabbitMQ], ids=["receiver", "partition"])
async def test_each_key_keeps_its_order_wherever_its_partition_goes(
    serve: Callable[[str, type[Adapter]], str], adapter: type[Regrouping], seed: int
) -> None:
    async with asyncio.timeout(30):
        verdict = await Round(seed, adapter, serve("regrouping", adapter)).play(15)
    assert verdict.perfect, str(verdict)


async def test_what_the_broker_in_memory_gets_back_of_a_draining_epoch_waits_for_its_end() -> None:
    """If anybody makes it drain: it does not by itself."""
    adapter, address = MemoryAdapter(), Address("regrouping.memory", Kind.QUEUE, partitions=1)
    await adapter.ensure(address, Wanted(), timeout=1)
    await adapter.send(address, [Wire(f"{number}", b"", key="k") for number in range(5)], timeout=1)
    receiver = await adapter.receiver(address, prefetch=4, timeout=1)
    first, *others = await receiver.receive()
    other = await adapter.receiver(address, prefetch=9, timeout=1)
    receiver._epoch.drain()
    await receiver.release(others[1:])
    await receiver.release(others[:1])
    await receiver.release([first])
    assert other.health().unsettled == 0
    receiver.lose_connection()
    await receiver.stop()
    await receiver.aclose()
    assert [delivery.wire.id for delivery in await other.receive()] == ["0", "1", "2", "3", "4"]
