"""A process with a whole bus, whose handler kills it when it gets the poison: started again and again by a case.

It is told what to do in a JSON line on standard input, where no other process can read the password among the
options, and says what it has handled in lines on standard output.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from unimsg import Context, Queue, Retry, Service, Settings, connect
from unimsg_contracts.member import planted

POISON = "poison"
SLOW_POISON = "slow poison"
"""Fails the first time, and kills each time after that."""
WAIT = 0.5
"""Seconds between."""


class Killer:
    """The parent's side."""

    fault: str | None = None
    """A mutant to plant in it, as `Member.fault`."""

    def __init__(self, settings: Mapping[str, object], queue: str, *, ordered: bool = False) -> None:
        order = {"settings": settings, "queue": queue, "ordered": ordered, "fault": self.fault}
        self._order = json.dumps(order).encode() + b"\n"
        self.handled: list[str] = []
        self.deaths = 0

    async def run_once(self) -> None:
        """Starts it, and returns when it has died."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "unimsg_contracts.killer", stdin=pipe, stdout=pipe
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(self._order)
            await process.stdin.drain()
            async for line in process.stdout:
                self.handled.append(line.decode().strip())
            await process.wait()
            assert process.returncode == -signal.SIGKILL, f"it ended with {process.returncode}"
            self.deaths += 1
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


# ---- the child's side


async def _run(order: Mapping[str, Any]) -> None:  # what the other half of this file wrote
    queue: Queue[str] = Queue(order["queue"], str, ordered=order["ordered"])
    service = Service("orders", grace=1.0, retry=Retry(WAIT))

    @service.handler(queue, concurrency=4)
    async def handle(body: str, context: Context) -> None:
        if body == SLOW_POISON and context.attempt == 1:
            raise RuntimeError("on purpose")
        if body in (POISON, SLOW_POISON):
            os.kill(os.getpid(), signal.SIGKILL)
        sys.stdout.write(f"{body}\n")
        sys.stdout.flush()

    async with connect(service, settings=Settings(**order["settings"])):
        await asyncio.Event().wait()


if __name__ == "__main__":
    read = json.loads(sys.stdin.readline())
    with planted(read["fault"]):
        asyncio.run(_run(read))
