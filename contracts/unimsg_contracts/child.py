"""A process of its own, for what only a process can do: to be killed, and to race with others.

It is told what to do in JSON lines on standard input, where no other process can read the password among the
options, and says what it has done in lines on standard output.
"""

import asyncio
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unimsg.adapter import Adapter, Address, Delivery, Kind, Wanted, Wire

TIMEOUT = 30.0


class Child:
    """The parent's side. `Stage.child` makes it and kills it at the end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._replies: list[str] = []

    @classmethod
    async def start(cls, adapter_type: type[Adapter], url: str, options: Mapping[str, object]) -> "Child":
        """Starts it and waits until its adapter is connected."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "unimsg_contracts.child", stdin=pipe, stdout=pipe
        )
        child = cls(process)
        await child._write({"adapter": named(adapter_type), "url": url, "options": dict(options)})
        await child.says("connected")
        return child

    async def tell(
        self,
        order: str,
        address: Address,
        *,
        topic: Address | None = None,
        wires: list[Wire] | None = None,
        ack: list[str] | None = None,
        hold: list[str] | None = None,
    ) -> None:
        """`ensure`: makes `address`, then sends `wires` to `topic`, says "done". `hold`: receives from `address`,
        acknowledges the ids in `ack` and says "acked", holds those in `hold` and says "holding"."""
        await self._write(
            {
                "order": order,
                "address": _plain(address),
                "topic": _plain(topic) if topic else None,
                "wires": [{**asdict(wire), "body": wire.body.hex()} for wire in wires or ()],
                "ack": ack or [],
                "hold": hold or [],
            }
        )

    async def says(self, word: str) -> None:
        """Waits until it said `word`. Fails if it ends before."""
        assert self._process.stdout is not None
        while word not in self._replies:
            line = (await self._process.stdout.readline()).decode().strip()
            assert line, f"the process ended before it said {word!r}; it said {self._replies}"
            self._replies.append(line)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _write(self, order: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()


def named(adapter_type: type[Adapter]) -> list[str | None]:
    """Where to import it from; a mutant's name last, since what it is around is made while this process runs."""
    inner: type[Adapter] | None = getattr(adapter_type, "inner_type", None)
    found = inner or adapter_type
    return [found.__module__, found.__qualname__, adapter_type.__name__ if inner else None]


def _plain(address: Address) -> dict[str, object]:
    return {**asdict(address), "kind": address.kind.value}


# ---- the child's side


Order = dict[str, Any]  # JSON that the other half of this file wrote


def adapter_type_named(names: tuple[str, str, str | None]) -> type[Adapter]:
    """What `named` has told of it, as JSON has that."""
    module, name, mutant = names
    adapter_type: type[Adapter] = getattr(importlib.import_module(module), name)
    if mutant is None:
        return adapter_type
    from unimsg_contracts.mutants import wrapped  # not above: it imports the cases, and pytest with them

    return wrapped(mutant, adapter_type)


async def _run() -> None:
    loop = asyncio.get_running_loop()
    first: Order = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    adapter = adapter_type_named(first["adapter"]).from_url(first["url"], first["options"])
    await adapter.connect(timeout=TIMEOUT)
    _say("connected")
    order: Order = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    await {"ensure": _ensure, "hold": _hold}[order["order"]](adapter, order)
    await adapter.aclose(timeout=TIMEOUT)


async def _ensure(adapter: Adapter, order: Order) -> None:
    await adapter.ensure(_address(order["address"]), Wanted(), timeout=TIMEOUT)
    wires = [Wire(**{**wire, "body": bytes.fromhex(wire["body"])}) for wire in order["wires"]]
    outcomes = await adapter.send(_address(order["topic"]), wires, timeout=TIMEOUT)
    _say("done" if outcomes == [None] * len(wires) else f"failed: {outcomes}")


async def _hold(adapter: Adapter, order: Order) -> None:
    receiver = await adapter.receiver(_address(order["address"]), prefetch=50, timeout=TIMEOUT)
    to_ack, to_hold = set(order["ack"]), set(order["hold"])
    held: list[Delivery] = []
    while to_ack or to_hold:
        for delivery in await receiver.receive():
            if delivery.wire.id in to_ack:
                await receiver.ack([delivery])
                to_ack.discard(delivery.wire.id)
                if not to_ack:
                    await adapter.operations().backlog(_address(order["address"]), timeout=TIMEOUT)
                    _say("acked")
            else:
                held.append(delivery)
                to_hold.discard(delivery.wire.id)
    _say("holding")
    await asyncio.Event().wait()  # to be killed


def _address(plain: Order) -> Address:
    return Address(**{**plain, "kind": Kind(plain["kind"])})


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_run())
