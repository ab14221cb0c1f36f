"""Receiving in a case, and saying what did not come."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import pytest

from unimsg.adapter import Delivery, Receiver, ReceiverClosed, SettlementLost, Wire

TICK = 0.005
"""Seconds between two looks at a condition."""


async def eventually(condition: Callable[[], bool | Awaitable[bool]], patience: float, what: Callable[[], str]) -> None:
    """Waits until `condition` holds. Fails after `patience` seconds with `what()`."""
    try:
        async with asyncio.timeout(patience) as limit:
            while not await _holds(condition):  # noqa: ASYNC110  # a condition on a broker sets no event
                await asyncio.sleep(TICK)
    except TimeoutError:
        if limit.expired():
            pytest.fail(f"after {patience:g} s: {what()}")
        raise


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    holds = condition()
    return holds if isinstance(holds, bool) else await holds


def difference(wanted: Iterable[str], got: Iterable[str]) -> str:
    """What is missing in `got`, what is extra, and what came more than once; empty if they agree."""
    want, have = Counter(wanted), Counter(got)
    twice = {name: n for name, n in have.items() if n > 1 and want[name] <= 1}
    parts = {
        "missing": sorted((want - have).elements()),
        "extra": sorted(name for name in have if name not in want),
        "more than once": sorted(twice),
    }
    return "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in parts.items() if names)


def ids(messages: Iterable[Wire | Delivery]) -> list[str]:
    return [(message.wire if isinstance(message, Delivery) else message).id for message in messages]


class Reader:
    """Receives in the background. It acknowledges each delivery, or holds all that it gets."""

    def __init__(self, receiver: Receiver, *, hold: bool = False) -> None:
        self.receiver = receiver
        self.got: list[Delivery] = []
        self.lost = 0
        """Acknowledgements that did not count, by `SettlementLost`."""
        self.ended: Exception | None = None
        """What `receive` raised at the end."""
        self._hold = hold
        self._task = asyncio.create_task(self._read())

    @property
    def ids(self) -> list[str]:
        return ids(self.got)

    async def leave(self) -> None:
        """Stops reading; the receiver stays as it is."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                deliveries = await self.receiver.receive()
                self.got += deliveries
                if not self._hold:
                    await self._ack(deliveries)
        except Exception as error:  # noqa: BLE001  # whatever ends it, the case looks at it
            self.ended = error

    async def _ack(self, deliveries: Iterable[Delivery]) -> None:
        try:
            await self.receiver.ack(list(deliveries))
        except SettlementLost:
            self.lost += 1
        except ReceiverClosed:
            pass


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
