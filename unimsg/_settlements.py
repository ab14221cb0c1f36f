"""Settlements go to their receiver together: one batch per receiver, verb and turn of the event loop."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

from unimsg.adapter import Delivery, Receiver, SettlementLost

log = logging.getLogger("unimsg")

Verb = Literal["ack", "release"]


class Settlements:
    """Collects what handlers settle and passes it on; `drain` waits until all of it was taken."""

    def __init__(self) -> None:
        self._batches: dict[tuple[Receiver, Verb], list[Delivery]] = {}
        self._flushes: dict[asyncio.Task[None], Receiver] = {}
        self.lost = 0
        """Batches with a settlement that did not count: its message may come again."""
        self.problem: str | None = None
        """Why the newest settlement failed, None after one that did not."""

    def add(self, receiver: Receiver, verb: Verb, delivery: Delivery) -> None:
        batch = self._batches.get((receiver, verb))
        if batch is None:
            self._batches[receiver, verb] = [delivery]
            asyncio.get_running_loop().call_soon(self._start, receiver, verb)
        else:
            batch.append(delivery)

    def holds(self, receiver: Receiver) -> bool:
        """Whether something of it was added, and not taken yet."""
        return any(of is receiver for of, _ in self._batches) or receiver in self._flushes.values()

    async def drain(self) -> None:
        """Returns when everything added before was settled, or was found lost."""
        for receiver, verb in list(self._batches):
            self._start(receiver, verb)
        while self._flushes:
            await asyncio.wait(list(self._flushes))

    def _start(self, receiver: Receiver, verb: Verb) -> None:
        batch = self._batches.pop((receiver, verb), None)
        if batch:
            task = asyncio.create_task(self._flush(receiver, verb, batch))
            self._flushes[task] = receiver
            task.add_done_callback(self._flushes.pop)

    async def _flush(self, receiver: Receiver, verb: Verb, batch: Sequence[Delivery]) -> None:
        try:
            await (receiver.ack(batch) if verb == "ack" else receiver.release(batch))
            self.problem = None
        except SettlementLost as error:
            self.lost += 1
            log.info("a settlement was lost, its message may come again: %s", error)
        except Exception as error:  # an adapter's bug must not end the consumer: the broker delivers again
            self.lost += 1
            self.problem = f"settling fails: {type(error).__name__}"
            log.exception("%s of %d deliveries failed", verb, len(batch))
