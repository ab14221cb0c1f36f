"""Mutants of the broker in memory itself, and of the core above any broker."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from unimsg import _held
from unimsg import _memory_broker as broker
from unimsg._lanes import Lanes
from unimsg._routes import Route
from unimsg._sending import confirmed
from unimsg.adapter import Wire
from unimsg.context import Context
from unimsg.memory import MemoryReceiver


@contextmanager
def no_owner() -> Iterator[None]:
    """Messages of one key go to several receivers at once."""
    original = broker.Line._next

    def next_(line: broker.Line, lane: broker.Lane) -> broker.Receiving | None:
        lane.owner = None
        return original(line, lane)

    with patch.object(broker.Line, "_next", next_):
        yield


@contextmanager
def gives_back_in_reverse() -> Iterator[None]:
    """What goes back is in the wrong order."""
    original = broker.Line.back

    def back(line: broker.Line, receiver: broker.Receiving, entries: Sequence[broker.Entry]) -> None:
        original(line, receiver, entries[::-1])

    with patch.object(broker.Line, "back", back):
        yield


@contextmanager
def stays_away() -> Iterator[None]:
    """A receiver that lost its connection gets nothing any more."""
    original = MemoryReceiver.lose_connection

    def lose(receiver: MemoryReceiver) -> None:
        original(receiver)
        receiver._stopped = True

    with patch.object(MemoryReceiver, "lose_connection", lose):
        yield


@contextmanager
def inbox_stays() -> Iterator[None]:
    """A closed inbox goes on taking messages."""
    original = MemoryReceiver.aclose

    async def aclose(receiver: MemoryReceiver) -> None:
        inboxes = dict(receiver._broker.queues)
        await original(receiver)
        receiver._broker.queues.update(inboxes)

    with patch.object(MemoryReceiver, "aclose", aclose):
        yield


@contextmanager
def more_than_concurrency() -> Iterator[None]:
    """The core runs more handlers than it may."""
    with patch.object(_held, "Lanes", lambda concurrency: Lanes[Any](concurrency + 2)):  # the works of the core
        yield


@contextmanager
def sends_at_once() -> Iterator[None]:
    """The core sends what a handler sends before the handler ended."""

    async def post(context: Context[Any], route: Route, wire: Wire, timeout: float) -> None:  # any state
        await confirmed(route, wire, timeout)

    with patch.object(Context, "_post", post):
        yield
