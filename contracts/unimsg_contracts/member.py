"""A process with a whole bus, one of several that share the keys of a queue.

It is told what to do in a JSON line on standard input, where no other process can read the password among the
options, and says on standard output, in JSON lines, when each attempt of its handler begins and ends. SIGTERM ends it
in good order, as any service. After SIGUSR1 its handlers do not end any more, so that it can be killed in mid-message.
"""

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from unimsg import Bus, Context, Queue, Retry, Service, Settings, registry, run
from unimsg_contracts.child import adapter_type_named
from unimsg_contracts.ordering import Attempt

Item = tuple[str, int]
FAILS = 0.15
"""Of all attempts, at random."""
RETRY = Retry(*[0.02] * 50)
"""So many that no message is ever given up."""
WORK = (0.0, 0.01, 0.04)
"""Seconds that a message takes, at random."""
CONCURRENCY = 10
ENDS_WITHIN = 30.0
"""Seconds, with everything that a service does at its end."""


def key_of(item: Item) -> str:
    return item[0]


@dataclass(slots=True)
class Log:
    """What all of them did."""

    attempts: list[Attempt] = field(default_factory=list)
    """In the order in which they were heard of."""
    done: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By key, the numbers of the messages that were handled to the end."""


class Member:
    """The parent's side."""

    fault: str | None = None
    """A mutant to plant in each of them: its module and name, with a colon between. For the suite's own proof."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Log) -> None:
        self.name = name
        self.killed: float | None = None
        """When it lived last, if it was killed."""
        self.last_begun = 0.0
        self._process = process
        self._log = log
        self._open: dict[str, Attempt] = {}
        self._ready, self._hangs = asyncio.Event(), asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, name: str, order: Mapping[str, object], log: Log) -> "Member":
        """Returns when it is connected."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "unimsg_contracts.member", stdin=pipe, stdout=pipe
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({**order, "fault": cls.fault}).encode() + b"\n")
        await process.stdin.drain()
        member = cls(name, process, log)
        try:
            await member._says(member._ready)
        except BaseException:
            await member.abandon()
            raise
        return member

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def leave(self) -> None:
        """SIGTERM, and waits until it has ended, in good order."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(ENDS_WITHIN):
            await asyncio.shield(self._listening)
            await self._process.wait()
        assert self._process.returncode == 0, f"{self.name} ended with {self._process.returncode}"

    async def hang(self) -> None:
        """Waits until it is in the middle of a message, and stays there."""
        self._process.send_signal(signal.SIGUSR1)
        await self._says(self._hangs)

    async def kill(self) -> None:
        """SIGKILL, and waits until all that it said was heard."""
        self.killed = time.monotonic()
        await self.abandon()

    async def abandon(self) -> None:
        if self.alive:
            self._process.kill()
        await self._listening
        await self._process.wait()

    async def _says(self, what: asyncio.Event) -> None:
        saying = asyncio.create_task(what.wait())
        await asyncio.wait([saying, self._listening], return_when=asyncio.FIRST_COMPLETED)
        saying.cancel()
        assert what.is_set(), f"{self.name} has ended by itself"

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            match said.pop("event"):
                case "ready":
                    self._ready.set()
                case "hangs":
                    self._hangs.set()
                case "begun":
                    id, attempt = said.pop("id"), Attempt(self.name, **said)
                    self.last_begun = attempt.begun
                    self._open[id] = attempt
                    self._log.attempts.append(attempt)
                case "ended":
                    attempt = self._open.pop(said["id"])
                    attempt.ended, attempt.outcome, attempt.lost = said["at"], said["outcome"], said["lost"]
                    if attempt.outcome == "done":
                        self._log.done[attempt.key].add(attempt.number)


# ---- the child's side


def _say(event: str, **what: object) -> None:
    """In one write: whoever is killed has said a line or has not."""
    os.write(1, json.dumps({"event": event, **what}).encode() + b"\n")


class Failure(RuntimeError):
    """On purpose."""


def _is_news(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], Failure)


def _service(queue: Queue[Item], hanging: asyncio.Event) -> Service:
    @asynccontextmanager
    async def lifespan(_: Bus) -> AsyncIterator[None]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, hanging.set)
        _say("ready")
        yield

    service = Service("members", lifespan=lifespan, retry=RETRY, grace=10.0)
    numbers = iter(range(sys.maxsize))

    @service.handler(queue, concurrency=CONCURRENCY)
    async def handle(item: Item, context: Context) -> None:
        (key, number), id, outcome = item, str(next(numbers)), "cancelled"
        _say("begun", id=id, key=key, number=number, attempt=context.attempt, begun=time.monotonic())
        try:
            if hanging.is_set():
                _say("hangs")
                await asyncio.Event().wait()
            await asyncio.sleep(random.choice(WORK))
            if random.random() < FAILS:
                outcome = "failed"
                raise Failure
            outcome = "done"
        finally:
            _say("ended", id=id, at=time.monotonic(), outcome=outcome, lost=context.lost)

    return service


def planted(fault: str | None) -> AbstractContextManager[None]:
    """A mutant, by its module and name."""
    if fault is None:
        return nullcontext()
    module, _, name = fault.partition(":")
    plant: Callable[[], AbstractContextManager[None]] = getattr(import_module(module), name)
    return plant()


def main() -> None:
    order: dict[str, Any] = json.loads(sys.stdin.readline())  # what the other half of this file wrote
    settings = Settings(**order["settings"])
    logging.getLogger("unimsg").addFilter(_is_news)
    registry.register(settings.brokers["default"].url.partition("://")[0], adapter_type_named(order["adapter"]))
    with planted(order["fault"]):
        queue: Queue[Item] = Queue(order["queue"], Item, key=key_of)
        run(_service(queue, asyncio.Event()), settings=settings)


if __name__ == "__main__":
    main()
