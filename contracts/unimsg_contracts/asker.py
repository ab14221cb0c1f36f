"""A process with a whole bus that sends a message with a return address, and is killed before the reply.

It is told what to do in a JSON line on standard input, where no other process can read the password among the
options, and says the id of what it sent on standard output.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from unimsg import Queue, ReplyQueue, Settings, connect, registry
from unimsg_contracts.child import adapter_type_named


class Asker:
    """The parent's side. `adapter`: as `child.named` has it."""

    def __init__(self, settings: Mapping[str, object], adapter: list[str | None], queue: str, reply_to: str) -> None:
        self._order = {"settings": settings, "adapter": adapter, "queue": queue, "reply_to": reply_to}

    async def ask_and_die(self, body: str) -> str:
        """Starts it, and kills it when it has sent; returns the message's id."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "unimsg_contracts.asker", stdin=pipe, stdout=pipe
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({**self._order, "body": body}).encode() + b"\n")
            await process.stdin.drain()
            id = (await process.stdout.readline()).decode().strip()
            assert id, "the process ended before it had sent"
            return id
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


# ---- the child's side


async def _run(order: Mapping[str, Any]) -> None:  # what the other half of this file wrote
    settings = Settings(**order["settings"])
    registry.register(settings.brokers["default"].url.partition("://")[0], adapter_type_named(order["adapter"]))
    queue: Queue[str, str] = Queue(order["queue"], str, replies=str)
    answers: ReplyQueue[str] = ReplyQueue(order["reply_to"], str)
    async with connect(settings=settings) as bus:
        id = await bus.send(queue, order["body"], reply_to=answers)
        sys.stdout.write(f"{id}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()  # to be killed


if __name__ == "__main__":
    asyncio.run(_run(json.loads(sys.stdin.readline())))
