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
from unimsg.surprises import Surprises
from unimsg_pubsub import errors
from unimsg_pubsub.leases import Room
from unimsg_pubsub.link import Link, this_task_is_cancelled
from unimsg_pubsub.log import log

REFUSED = 1.0
"""Seconds within which a stream that is not wanted ends; one that lasts longer works."""
PULSE = 30.0
"""Seconds between two signs of life that this side gives on a stream; Google's own client does the same."""
SILENT = 5 * 60.0
"""Seconds without a message after which a stream is replaced: one that died unnoticed shows nothing else."""
OLD = 25 * 60.0
"""Seconds after which any stream is replaced; the service ends them at about 30 minutes."""
GROWN = 1.5
"""A stream is replaced when there is so many times the room that it was opened with."""
LINGER = 3.0
"""Seconds that the other side has to end a stream that this side has ended."""


def _nothing() -> bool:
    """What nobody awaits never is."""
    return False


class Stream:
    """Keeps one StreamingPull of a subscription open, again and again, until `end`.

    Each asks for no more than there is room for: the service counts what is outstanding for each stream by itself, and
    what earlier ones gave may still be leased. Without room there is no stream.

    A stream is ended by half-closing it and reading what still comes, never by cancelling it unless the other side does
    not answer: the emulator goes on giving messages to a cancelled stream, each for a whole lease.
    """

    def __init__(
        self,
        link: Link,
        subscription: str,
        ack_deadline: int,
        *,
        room: Callable[[], Room],
        on_messages: Callable[[Any], None],
        on_missing: Callable[[GoogleAPICallError], Awaitable[bool]],
    ) -> None:
        """`on_messages` gets the protobuf ReceivedMessages of a response. `on_missing` is told that the subscription
        does not exist, and says whether to try again."""
        self._link = link
        self._subscription = subscription
        self._ack_deadline = ack_deadline
        self._client_id = f"unimsg-{uuid4().hex}"  # the service wants the same for each reopening
        self._room = room
        self._on_messages = on_messages
        self._on_missing = on_missing
        self._ending = False
        self._wake = asyncio.Event()
        self._awaited: Callable[[], bool] = _nothing
        self._backoff = Backoff(most=5.0)
        self._surprises = Surprises(log)
        self._ended_by: str | None = None
        self._task: asyncio.Task[None] | None = None
        self.open = False
        """Whether messages come as soon as there is room for them."""
        self.outdated = False
        """Whether it is to be replaced, and what the next one brings is still to come."""
        self.since = monotonic()
        """Of the last change of `open`."""
        self.last_message: float | None = None

    @property
    def problem(self) -> str | None:
        return self._surprises.problem or self._ended_by

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def look_again(self) -> None:
        """There may be more room."""
        if self._awaited():
            self._wake.set()

    def renew(self) -> None:
        """What this one brought is to count no more against what the service may have outstanding on it."""
        self.outdated = True
        self.look_again()

    async def end(self) -> None:
        """Half-closes, and waits until everything that came was handed to `on_messages`."""
        self._ending = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def abort(self) -> None:
        """Ends it at once."""
        if self._task is not None:
            self._task.cancel()
        await self.end()

    async def _run(self) -> None:
        wanted = True
        while wanted and await self._finds_room():
            try:
                wanted = await self._another()
            except Exception as error:  # noqa: BLE001  # a task that ended would be a receiver silently dead
                self._surprises.tell("pubsub: its stream failed", error)
            finally:
                self._set_open(False)
            await self._pause(self._backoff.next())

    async def _finds_room(self) -> bool:
        """Waits until there is some; False: it is to end."""
        if self._is_full():
            self._works()  # nothing could come now: no stream is needed
            self._set_open(True)
            await self._pause(None, lambda: not self._is_full())
        return not self._ending

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
                self._on_messages(types.StreamingPullResponse.pb(response).received_messages)
                self._works()
        except asyncio.CancelledError:
            if not call.cancelled() or this_task_is_cancelled():
                raise  # this task's own; else the minder gave the stream up
        finally:
            minder.cancel()
            await asyncio.wait([minder])
        if not minder.cancelled():
            minder.result()  # raises what it failed by

    async def _mind(self, call: Any) -> None:
        """Writes what this side has to say on a stream, and ends it in time; `_one` ends this."""
        room, begun = self._room(), monotonic()

        def outgrown() -> bool:
            return self.outdated or self._room().share >= GROWN * room.share

        try:
            await call.write(self._first(room))
            self.outdated = False
            self._set_open(True)
            await self._pause(REFUSED)
            while not (self._ending or outgrown() or self._is_worn_out(begun)):
                self._works()
                await call.write(types.StreamingPullRequest())
                await self._pause(PULSE, outgrown)
            await call.done_writing()
            await asyncio.sleep(LINGER)
            log.info("pubsub: the stream of %s was ended and got no answer", self._subscription)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # it is over; why, the reading side hears
        finally:
            call.cancel()  # nothing if it is over

    def _first(self, room: Room) -> types.StreamingPullRequest:
        return types.StreamingPullRequest(
            subscription=self._subscription,
            client_id=self._client_id,
            stream_ack_deadline_seconds=self._ack_deadline,
            max_outstanding_messages=room.messages,  # the emulator ignores both: the mailbox holds the limit
            max_outstanding_bytes=room.bytes,
        )

    def _is_full(self) -> bool:
        return self._room().share <= 0

    def _is_worn_out(self, begun: float) -> bool:
        if self._is_full():
            return False  # so it has to be silent, and cannot be replaced
        now = monotonic()
        return now - begun > OLD or now - max(begun, self.last_message or 0.0) > SILENT

    async def _goes_on(self, error: GoogleAPICallError) -> bool:
        """Whether to open another stream after `error`. The service ends them by errors in everyday life."""
        level = logging.INFO if self._ended_by is None else logging.DEBUG  # once, not at each try
        log.log(level, "pubsub: the stream of %s ended: %s", self._subscription, errors.why(error))
        self._ended_by = f"no stream: {errors.why(error)}"
        return not errors.missing(error) or await self._on_missing(error)

    def _works(self) -> None:
        self._ended_by = None
        self._surprises.over()
        self._backoff.reset()

    def _set_open(self, is_open: bool) -> None:
        if self.open is not is_open:
            self.open = is_open
            self.since = monotonic()

    async def _pause(self, seconds: float | None, awaited: Callable[[], bool] = _nothing) -> None:
        """Waits for so long, or until `awaited()`, or until it is to end. One caller at a time."""
        self._awaited = awaited
        self._wake.clear()
        if self._ending or awaited():
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        finally:
            self._awaited = _nothing
