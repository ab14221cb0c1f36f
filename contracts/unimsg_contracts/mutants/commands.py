"""Mutants of the command line."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from unimsg import Bus, Queue, Topic
from unimsg.adapter import Adapter, Address, Kind
from unimsg.channel import Channel
from unimsg.cli import dead, doctor, send, tail
from unimsg.cli.checks import Check
from unimsg.cli.options import configured
from unimsg.cli.workers import Supervisor


@contextmanager
def leaves_its_subscription() -> Iterator[None]:
    """A tail that is ended leaves all as it is."""

    async def remove(adapter: Adapter, address: Address) -> None:
        return None

    with patch.object(tail, "_remove", remove):
        yield


@contextmanager
def watches_queues() -> Iterator[None]:
    """A tail has nothing against a queue."""

    async def watch(bus: Bus, name: str, emit: object) -> None:
        return None

    with patch.object(tail, "_watch_topic", watch):
        yield


@contextmanager
def makes_what_is_missing() -> Iterator[None]:
    """Whoever sends to a misspelt channel makes it."""

    async def existing(bus: Bus, name: str, kind: Kind, **_: object) -> Channel[bytes, Any]:
        return Queue(name, bytes) if kind is Kind.QUEUE else Topic(name, bytes)

    with patch.object(send, "existing", existing), patch.object(send, "for_operators", configured):
        yield


@contextmanager
def means_them_all() -> Iterator[None]:
    """Dead letters are chosen by nothing."""
    with patch.object(dead, "fitting", lambda _: lambda letter: True):
        yield


@contextmanager
def finds_nothing() -> Iterator[None]:
    """A doctor who does not look."""

    async def checks(*_: object) -> AsyncIterator[Check]:
        nothing: list[Check] = []
        for check in nothing:
            yield check

    with patch.object(doctor, "broker_checks", checks):
        yield


@contextmanager
def kills_its_workers() -> Iterator[None]:
    """Nobody is left the time to drain."""

    def stop(supervisor: Supervisor) -> None:
        supervisor._stopping = True
        for place in supervisor._places:
            if place.process is not None and place.process.pid is not None:
                os.kill(place.process.pid, signal.SIGKILL)

    with patch.object(Supervisor, "_stop", stop):
        yield
