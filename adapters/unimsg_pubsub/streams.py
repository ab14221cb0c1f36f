"""The stream that brings messages: opened again whenever it ends, and replaced before it gets too old."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any
from uuid import uuid4

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from google.api_core.exceptions import GoogleAPICallError, from_grpc_error
from google.pubsub_v1 import types

from unimsg.backoff import Backoff
from unimsg_pubsub import errors
from unimsg_pubsub.link import Link, this_task_is_cancelled

log = logging.getLogger("unimsg.pubsub")

REFUSED = 1.0
"""Seconds within which a stream that is not wanted ends; one that lasts longer works."""
PULSE = 30.0
"""Seconds between two signs of life that this side gives on a stream; Google's own client does the same."""
SILENT = 5 * 60.0
"""Seconds without a message after which a stream is replaced: one that died unnoticed shows nothing else."""
OLD = 25 * 60.0
"""Seconds after which any stream is replaced; the service ends them at about 30 minutes."""
LINGER = 3.0
"""Seconds that the other side has to end a stream that this side has ended."""


class Stream:
    """Keeps one StreamingPull of a subscription open, again and again, until `end`.

    A stream is ended by half-closing it and reading what still comes, never by cancelling it unless the other side does
    not answer: the emulator goes on giving messages to a cancelled stream, each for a whole lease.
    """

    def __init__(
        self,
        link: Link,
        first: types.StreamingPullRequest,
        on_messages: Callable[[Any], None],
        on_missing: Callable[[GoogleAPICallError], Awaitable[bool]],
    ) -> None:
        """`on_messages` gets the protobuf ReceivedMessages of a response. `on_missing` is told that the subscription
        does not exist, and says whether to try again."""
        self._link = link
        self._first = first
        self._first.client_id = f"unimsg-{uuid4().hex}"  # the service wants the same for each reopening
        self._on_messages = on_messages
        self._on_missing = on_missing
        self._ending = asyncio.Event()
        self._backoff = Backoff(most=5.0)
        self._task: asyncio.Task[None] | None = None
        self.open = False
        self.since = monotonic()
        self.last_message: float | None = None
        self.problem: str | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Half-closes, and waits until everything that came was handed to `on_messages`."""
        self._ending.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def abort(self) -> None:
        """Ends it at once."""
        self._ending.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        wanted = True
        while wanted and not self._ending.is_set():
            try:
                wanted = await self._another()
            except Exception as error:  # whatever it is: a task that ended would be a receiver silently dead
                log.exception("pubsub: the stream of %s failed", self._first.subscription)
                self.problem = f"its stream failed: {error!r}"
            finally:
                self._set_open(False)
            await self._ends_within(self._backoff.next())

    async def _another(self) -> bool:
        """One stream; then whether another one is wanted."""
        try:
            await self._one()
        except grpc.aio.AioRpcError as error:
            return await self._goes_on(from_grpc_error(error))  # type: ignore[no-untyped-call]  # google-api-core's
        return True

    async def _one(self) -> None:
        """One stream, from its opening to its end."""
        # The stub itself, not the client's method: that would wait for the first message before it gave us the call.
        open_stream: Any = self._link.subscriber.transport.streaming_pull  # grpcio's, untyped
        call = open_stream()
        minder = asyncio.create_task(self._mind(call))
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                self.last_message = monotonic()
                self._works()
                self._on_messages(types.StreamingPullResponse.pb(response).received_messages)
        except asyncio.CancelledError:
            if not call.cancelled() or this_task_is_cancelled():
                raise  # this task's own; else the minder gave the stream up
        finally:
            minder.cancel()
            await asyncio.wait([minder])

    async def _mind(self, call: Any) -> None:
        """Writes what this side has to say on a stream, and ends it in time; `_one` ends this."""
        try:
            await call.write(self._first)
            begun = monotonic()
            self._set_open(True)
            ended = await self._ends_within(REFUSED)
            while not ended and not self._is_worn_out(begun):
                self._works()
                await call.write(types.StreamingPullRequest())
                ended = await self._ends_within(PULSE)
            await call.done_writing()
            await asyncio.sleep(LINGER)
            log.info("pubsub: the stream of %s was ended and got no answer", self._first.subscription)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # it is over; why, the reading side hears
        finally:
            call.cancel()  # nothing if it is over

    def _is_worn_out(self, begun: float) -> bool:
        now = monotonic()
        return now - begun > OLD or now - max(begun, self.last_message or 0.0) > SILENT

    async def _goes_on(self, error: GoogleAPICallError) -> bool:
        """Whether to open another stream after `error`. The service ends them by errors in everyday life."""
        level = logging.INFO if self.problem is None else logging.DEBUG  # once, not at each try
        log.log(level, "pubsub: the stream of %s ended: %s", self._first.subscription, errors.why(error))
        self.problem = f"no stream: {errors.why(error)}"
        return not errors.missing(error) or await self._on_missing(error)

    def _works(self) -> None:
        self.problem = None
        self._backoff.reset()

    def _set_open(self, is_open: bool) -> None:
        if self.open is not is_open:
            self.open = is_open
            self.since = monotonic()

    async def _ends_within(self, seconds: float) -> bool:
        """Whether `end` was called, after waiting for it for `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return False
        return True
