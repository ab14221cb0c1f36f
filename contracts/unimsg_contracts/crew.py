"""Several processes that share the keys of one queue, and a backlog of each key for as long as they are at work."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from unimsg import Bus, Queue
from unimsg_contracts.child import named
from unimsg_contracts.member import Item, Log, Member, key_of
from unimsg_contracts.ordering import Verdict, judge
from unimsg_contracts.reading import TICK, eventually
from unimsg_contracts.stage import Stage

KEYS = [f"key-{n}" for n in range(12)]
AHEAD = 12
"""Messages of each key that wait at least: where none wait, nothing can be mixed up."""
STARTED_WITHIN = 45.0
"""Seconds from the start of a process until it is connected, on a busy machine."""


class Crew:
    def __init__(self, stage: Stage, bus: Bus, queue: Queue[Item], prefetch: int, in_order: bool) -> None:
        self._stage = stage
        self._bus = bus
        self._queue = queue
        self._in_order = in_order
        harness = stage.harness
        self._order = {
            "queue": queue.name,
            "adapter": named(stage.adapter_type),
            "settings": {
                "brokers": {"default": {"url": harness.url, **harness.options}},
                "handlers": {queue.name: {"prefetch": prefetch}},
            },
        }
        self._log = Log()
        self._sent: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._enough = False
        self._feeding = asyncio.create_task(self._feed())
        self.members: list[Member] = []
        """Those that are at work."""
        self._past: list[Member] = []

    # ---- acts

    async def join(self, count: int = 1) -> None:
        """Starts so many more at once."""
        names = [f"process {next(self._numbers)}" for _ in range(count)]
        async with asyncio.TaskGroup() as starts:
            for name in names:
                starts.create_task(self._start(name))

    async def restart(self) -> None:
        """Ends each of those at work by SIGTERM, one after the other, and starts another in its place."""
        for member in list(self.members):
            self._leaves(member)
            await member.leave()
            await self.join()

    async def kill(self) -> None:
        """Kills one in the middle of a message, and starts another in its place."""
        member = max(self.members, key=lambda member: member.last_begun)  # one that has keys
        await self._stage.within(member.hang(), f"a message for {member.name}")
        self._leaves(member)
        await member.kill()
        await self.join()

    async def go_on(self, count: int = 2) -> None:
        """Waits until so many more messages of each key are done. Fails if their order is broken where it must not."""
        standing = await self.standing(self._stage.recovery, count)
        assert not standing, f"after {self._stage.recovery:g} s keys do not go on: {', '.join(standing)}"
        so_far = self.judge()
        so_far.missing.clear()
        assert not (self._in_order and so_far.broken), str(so_far)

    async def standing(self, patience: float, count: int = 2) -> list[str]:
        """As `go_on`, but returns the keys that do not, after `patience` seconds at the latest."""
        wanted = {key: len(self._log.done[key]) + count for key in KEYS}
        standing = KEYS
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while standing := [key for key in KEYS if len(self._log.done[key]) < wanted[key]]:  # noqa: ASYNC110
                    await asyncio.sleep(TICK)
        if self._feeding.done():
            await self._feeding  # it has failed
        return standing

    async def finish(self) -> Verdict:
        """Waits until all is done that was sent, ends all processes in good order, and judges what they did."""
        self._enough = True
        await self._stage.within(self._feeding, "sending")
        await eventually(
            lambda: all(len(self._log.done[key]) >= self._sent[key] for key in KEYS),
            self._stage.recovery,
            lambda: str(self.judge()),
        )
        await asyncio.gather(*(member.leave() for member in self.members))
        return self.judge()

    def judge(self) -> Verdict:
        members = [*self.members, *self._past]
        killed = {member.name: member.killed for member in members if member.killed is not None}
        return judge(self._log.attempts, self._sent, killed)

    async def abandon(self) -> None:
        self._feeding.cancel()
        await asyncio.gather(self._feeding, *(member.abandon() for member in self.members), return_exceptions=True)

    # ----

    def _leaves(self, member: Member) -> None:
        self.members.remove(member)
        self._past.append(member)

    async def _start(self, name: str) -> None:
        started = Member.start(name, self._order, self._log)
        self.members.append(await self._stage.within(started, f"the start of {name}", STARTED_WITHIN))

    async def _feed(self) -> None:
        while not self._enough:
            async with self._bus.pipeline() as pipeline:
                for key in KEYS:
                    while self._sent[key] < len(self._log.done[key]) + AHEAD:
                        await pipeline.send(self._queue, (key, self._sent[key]))
                        self._sent[key] += 1
            await asyncio.sleep(TICK)


@asynccontextmanager
async def crew(stage: Stage, *, prefetch: int, in_order: bool = True) -> AsyncIterator[Crew]:
    """Nobody is at work at first. All are killed at the end that still are. `in_order`: fails as soon as it is not."""
    queue = stage.declare_queue(Item, key=key_of)
    async with stage.bus() as bus:
        made = Crew(stage, bus, queue, prefetch, in_order)
        try:
            yield made
        finally:
            await made.abandon()
