"""Coalescing: messages that are sent in one turn of the event loop go to the adapter as one batch."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from unimsg.adapter import Adapter, Address, Wire
from unimsg.errors import BusClosed, ConnectError, PublishRejected, PublishUnconfirmed, UnimsgError

log = logging.getLogger("unimsg")

MAX_BATCH = 1000
MAX_IN_FLIGHT = 8
"""Batches of one address that wait for their confirmation at once. What is sent beyond waits in here, its deadline
running, so that a flood cannot fill the client's buffers."""

Outcome = asyncio.Future[UnimsgError | None]


class Receipt(Protocol):
    """Gets the outcome of a message: a future of its own, or what counts those of many."""

    def done(self) -> bool:
        """Whether nobody wants it any more."""

    def set_result(self, outcome: UnimsgError | None, /) -> None: ...


class Publisher:
    """Everything that this process sends to one address, in the order in which it was submitted.

    `make` makes the channel exist. It runs when the first message is submitted, and again with a later one if it
    failed; what is submitted meanwhile waits for it. `delay`: seconds that the broker keeps each message back.
    """

    def __init__(
        self, adapter: Adapter, address: Address, make: Callable[[], Coroutine[Any, Any, None]], *, delay: float = 0.0
    ) -> None:
        self._adapter = adapter
        self._address = address
        self._make = make
        self._delay = delay
        self._making: asyncio.Task[None] | None = None
        self.is_open = False
        """Whether the channel was made."""
        self._waiting: deque[tuple[Wire, float, Receipt]] = deque()
        self._in_flight: set[asyncio.Future[None]] = set()
        self._gathering = False
        self._single = False
        """Whether the newest batch was one message: its sender waits for each, and gains nothing from gathering."""
        self._closed = False
        self._watch: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def send(self, wire: Wire, timeout: float) -> UnimsgError | None:
        """Sends `wire` within `timeout` seconds, the making of the channel included.

        Returns None; a PublishError; or, nothing having been sent, whatever kept the channel from being made.
        """
        if not self._single or self._in_flight or self._waiting or not self.is_open or self._closed or _is_cancelled():
            return await self.submit(wire, timeout)
        landed: asyncio.Future[None] = self._loop.create_future()
        self._in_flight.add(landed)
        try:  # in the caller's own task: two of our own would cost as much as all else that is done for a message
            [outcome] = await self._outcomes([wire], timeout)
        finally:
            landed.set_result(None)
            self._landed(landed)
        return outcome

    def submit(self, wire: Wire, timeout: float) -> Outcome:
        """As `send`, but does not wait. The future never has an exception."""
        outcome: Outcome = self._loop.create_future()
        try:
            self.post(wire, timeout, outcome)
        except BusClosed as error:
            outcome.set_result(error)
        return outcome

    def post(self, wire: Wire, timeout: float, receipt: Receipt) -> None:
        """As `submit`, with a receipt of the caller's.

        Raises:
            BusClosed: nothing was sent, and the receipt stays without outcome.
        """
        if self._closed:
            raise BusClosed(f"{self._address.name}: not sent: the bus was closed")
        deadline = self._loop.time() + timeout
        self._waiting.append((wire, deadline, receipt))
        if self._watch is None or deadline < self._watch.when():  # it may have to wait in here
            self._watch_until(deadline)
        if not self.is_open:
            self._open()
        elif not self._gathering and len(self._in_flight) < MAX_IN_FLIGHT:
            self._start()

    async def made(self, outcome: Outcome) -> None:
        """Returns when the channel was made, or when it could not be or `outcome` is there for another reason."""
        if self._making is not None:
            either: list[asyncio.Future[Any]] = [self._making, outcome]  # of different results
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    async def aclose(self) -> None:
        """Returns when every message submitted before has its outcome. A channel that is not made by now never is."""
        self._closed = True
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait([self._making])
        await self.drain()

    async def drain(self) -> None:
        """Returns when every message submitted before has its outcome."""
        while self._waiting or self._in_flight:
            if not self._in_flight:
                self._start()
            await asyncio.wait(self._in_flight)
        if self._watch is not None:
            self._watch.cancel()

    def _open(self) -> None:
        if self._making is None:
            self._making = self._loop.create_task(self._make())
            self._making.add_done_callback(self._opened)

    def _opened(self, making: asyncio.Task[None]) -> None:
        self._making = None
        error = BusClosed("the bus was closed") if making.cancelled() else making.exception()
        if error is None:
            self.is_open = True
            if self._waiting:
                self._start()
            return
        waiting, self._waiting = self._waiting, deque()
        for wire, _, outcome in waiting:
            if not outcome.done():
                outcome.set_result(self._not_made(wire, error))

    def _start(self) -> None:
        """The batch is what waits when its task begins to run: all that is sent until then goes out with it."""
        self._gathering = True
        task = self._loop.create_task(self._send())
        self._in_flight.add(task)
        task.add_done_callback(self._landed)

    def _take(self) -> list[tuple[Wire, float, Receipt]]:
        """The next messages with about the same deadline: they share one timer."""
        waiting = self._waiting
        if not waiting:
            return []
        batch = [waiting.popleft()]
        earliest, latest = batch[0][1] - 0.05, batch[0][1] + 0.05
        while waiting and len(batch) < MAX_BATCH and earliest < waiting[0][1] < latest:
            batch.append(waiting.popleft())
        return batch

    async def _send(self) -> None:
        self._gathering = False
        batch = self._take()
        if self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            self._start()
        if not batch:  # all of it has expired
            return
        self._single = len(batch) == 1
        outcomes = await self._outcomes([wire for wire, _, _ in batch], batch[0][1] - self._loop.time())
        if (task := asyncio.current_task()) is not None:
            self._in_flight.discard(task)  # now: who hears of the outcome and sends on would still find it there
        for (_, _, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():  # the caller may have been cancelled
                future.set_result(outcome)

    async def _outcomes(self, wires: Sequence[Wire], timeout: float) -> Sequence[UnimsgError | None]:
        if timeout <= 0:
            return [self._never_left(wire) for wire in wires]
        try:
            outcomes = await self._adapter.send(self._address, wires, timeout=timeout, delay=self._delay)
            if len(outcomes) != len(wires):
                raise RuntimeError(f"{len(outcomes)} outcomes for {len(wires)} messages")
        except Exception as error:  # `send` never raises: a bug of the adapter, so anything may have happened
            log.exception("sending to %s failed", self._address.name)
            return [self._unconfirmed(wire, error) for wire in wires]
        return outcomes

    def _watch_until(self, deadline: float) -> None:
        """One timer for all that waits, set for the earliest deadline; on a busy channel it fires once a timeout."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Gives up what waited in here until its deadline."""
        self._watch = None
        now, kept = self._loop.time(), deque[tuple[Wire, float, Receipt]]()
        for wire, deadline, future in self._waiting:
            if deadline > now:
                kept.append((wire, deadline, future))
            elif not future.done():
                future.set_result(self._never_left(wire))
        self._waiting = kept
        if kept:
            self._watch_until(min(deadline for _, deadline, _ in kept))

    def _landed(self, sent: asyncio.Future[None]) -> None:
        self._in_flight.discard(sent)
        if self._waiting and not self._gathering:
            self._start()

    def _never_left(self, wire: Wire) -> UnimsgError:
        if not self.is_open:
            return self._rejected(wire, "not sent: its broker did not answer in time")
        return self._rejected(
            wire,
            "not sent before its deadline: earlier messages still wait for the broker's confirmation; send slower, or "
            "give it a longer timeout",
        )

    def _not_made(self, wire: Wire, error: BaseException) -> UnimsgError:
        """What is wrong with the channel is told as it is; that its broker cannot be reached is one of this message."""
        if isinstance(error, UnimsgError) and not isinstance(error, ConnectError):
            return error
        rejected = self._rejected(wire, f"not sent: {str(error) or 'its broker did not answer in time'}")
        rejected.__cause__ = error
        return rejected

    def _rejected(self, wire: Wire, why: str) -> UnimsgError:
        name = self._address.name
        return PublishRejected(f"{self._adapter.broker}: {name}: {why}", channel=name, message_id=wire.id)

    def _unconfirmed(self, wire: Wire, error: Exception) -> UnimsgError:
        unconfirmed = PublishUnconfirmed(
            f"{self._adapter.broker}: {self._address.name}: {type(error).__name__} while sending",
            channel=self._address.name,
            message_id=wire.id,
        )
        unconfirmed.__cause__ = error
        return unconfirmed


def _is_cancelled() -> bool:
    """Whether the running task is, and cleans up: adapters tell by it whether it is they who are to end."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
