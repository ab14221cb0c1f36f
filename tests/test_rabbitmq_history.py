"""A topic's history on RabbitMQ: what is declared, what belongs to it, and where it ends."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pamqp.commands import Basic
from unimsg_rabbitmq import history, topology
from unimsg_rabbitmq.connection import Link
from unimsg_rabbitmq.history import Entry, newest
from unimsg_rabbitmq.options import RabbitOptions

from unimsg.adapter import Address, Kind

TOPIC = Address("placed", Kind.TOPIC, partitions=2)
BILLING = Address("placed", Kind.TOPIC, "billing", partitions=2)
SINCE = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)


class Recorder:
    """Takes note of what is declared and bound, as a link and as its channel."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def scratch(self) -> "Recorder":
        return self

    async def __aenter__(self) -> "Recorder":
        return self

    async def __aexit__(self, *failure: object) -> None: ...

    async def exchange_declare(self, name: str, **_: Any) -> None:  # Any: what else there is to an exchange
        self.steps.append(f"exchange {name}")

    async def queue_declare(self, name: str, *, arguments: dict[str, Any], **_: Any) -> None:
        self.steps.append(f"{arguments['x-queue-type']} {name} {arguments.get('x-max-age', '')}".strip())

    async def queue_bind(self, name: str, exchange: str, key: str) -> None:
        self.steps.append(f"{exchange} {key} -> {name}")


async def made(address: Address, monkeypatch: pytest.MonkeyPatch, *, bound: bool) -> list[str]:
    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr(topology, "_refuse_other_shapes", nothing)
    recorder = Recorder()
    link = cast("Link", recorder)  # stands in for one
    await topology.create(link, address, RabbitOptions(), kept=timedelta(days=1.5), bound=bound)
    return recorder.steps


async def test_a_stream_gets_all_that_a_topic_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await made(TOPIC, monkeypatch, bound=True) == [
        "exchange placed",
        "exchange placed..p2",
        "stream placed..history 129600s",
        "placed p0 -> placed..history",
        "placed p1 -> placed..history",
    ]


async def test_a_subscription_is_bound_after_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = await made(BILLING, monkeypatch, bound=True)
    assert steps.index("placed p1 -> placed..history") < steps.index("placed p0 -> placed..billing..p0")
    assert not any("-> placed..billing" in step for step in await made(BILLING, monkeypatch, bound=False))


@pytest.mark.parametrize(
    ("headers", "timestamp", "inside"),
    [
        ({"cloudEvents:time": SINCE.isoformat()}, None, True),
        ({"cloudEvents:time": (SINCE - timedelta(milliseconds=1)).isoformat()}, None, False),
        ({"cloudEvents_time": (SINCE - timedelta(milliseconds=1)).isoformat()}, None, False),
        ({"cloudEvents:time": "2026-01-01T12:00:00"}, None, False),
        ({"cloudEvents:time": "noon"}, SINCE - timedelta(seconds=5), False),
        # of a moment in whole seconds, it may have been that second's last millisecond
        ({}, SINCE.replace(microsecond=0), True),
        ({}, SINCE.replace(microsecond=0) - timedelta(seconds=1), False),
        ({}, None, True),
        # sent much earlier, and stored now: by an outbox, say
        ({"cloudEvents:time": (SINCE - timedelta(hours=1)).isoformat()}, None, True),
        # delayed: it counts when it was due
        (
            {
                "cloudEvents:time": (SINCE - timedelta(seconds=10)).isoformat(),
                "x-death": [{"time": SINCE.replace(microsecond=0)}],
            },
            None,
            True,
        ),
    ],
)
def test_what_is_older_by_its_own_time_is_left_out(
    headers: dict[str, Any], timestamp: datetime | None, inside: bool
) -> None:
    entry = Entry(0, 1, Basic.Properties(headers=headers, timestamp=timestamp), b"")
    assert entry.is_since(SINCE) is inside


async def test_a_chunk_that_is_not_confirmed_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ begins at the last chunk, and shows nothing of it before it is confirmed. Taken for the end, what came
    with it would be lost for a subscription that begins in the past."""
    looks: list[str] = []

    async def peek(link: Link, stream: str, begin: str, room: int) -> Sequence[Entry]:
        looks.append(begin)
        there = begin == "first" or len(looks) > 4
        return [Entry(6, 1, Basic.Properties(), b""), Entry(7, 2, Basic.Properties(), b"")] if there else []

    monkeypatch.setattr(history, "_peek", peek)
    async with asyncio.timeout(5):
        assert await newest(cast("Link", None), "placed..history") == 7
    assert looks == ["last", "first", "last", "first", "last"]


async def test_an_empty_stream_has_no_newest_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async def peek(*_: object) -> Sequence[Entry]:
        return []

    monkeypatch.setattr(history, "_peek", peek)
    assert await newest(cast("Link", None), "placed..history") is None
