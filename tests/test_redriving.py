"""Redriving more than one call holds, and reading more than one call shows."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

import unimsg
from unimsg import Bus, Queue, Service, _graveyard, _redriving
from unimsg.adapter import Wire
from unimsg.mailbox import PAGE, PAGE_BYTES, pages
from unimsg.memory import MemoryBroker

JOBS = Queue("jobs", str)
handled: list[str] = []


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    handled.clear()
    service = Service("works", grace=1.0)

    @service.handler(JOBS)
    async def handle(body: str) -> None:
        handled.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        yield bus


def bury(*bodies: str) -> None:
    for number, body in enumerate(bodies):
        wire = Wire(f"id-{number}", body.encode(), {"content-type": "text/plain"})
        MemoryBroker.current().queues["jobs..dead"].put(wire)


def dead() -> list[str]:
    return [wire.body.decode() for wire in MemoryBroker.current().queues["jobs..dead"].waiting_wires()]


async def test_more_than_are_moved_at_once(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what is not wanted stands between."""
    monkeypatch.setattr(_graveyard, "AT_ONCE", 10)
    monkeypatch.setattr(_redriving, "HELD", 5)
    bury(*(f"{'good' if n % 3 else 'bad'}{n}" for n in range(90)))
    async with asyncio.timeout(5):
        assert await bus.redrive(JOBS, where=lambda letter: letter.message.body.startswith(b"good")) == 60
    assert sorted(handled) == sorted(f"good{n}" for n in range(90) if n % 3)
    assert sorted(dead()) == sorted(f"bad{n}" for n in range(0, 90, 3))
    async with asyncio.timeout(5):
        assert await bus.redrive(JOBS, limit=12) == 12
    assert len(dead()) == 18


async def test_what_fails_again_is_for_the_next_call(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_graveyard, "AT_ONCE", 5)
    put_back = _redriving.Redriving._put_back

    async def fails_again(*args: object) -> int:
        count: int = await put_back(*args)  # type: ignore[arg-type]  # as given
        bury(*["again"] * count)
        return count

    monkeypatch.setattr(_redriving.Redriving, "_put_back", fails_again)
    bury(*["first"] * 20)
    async with asyncio.timeout(5):
        assert await bus.redrive(JOBS) == 20
    assert dead() == ["again"] * 20


async def test_what_others_took_ends_it_with_a_warning(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that are not wanted do not go round for ever meanwhile."""
    monkeypatch.setattr(_redriving, "HELD", 5)
    bury(*["bad"] * 30, "good")

    def where(letter: unimsg.DeadLetter) -> bool:
        line = MemoryBroker.current().queues["jobs..dead"]
        for lane in line._lanes.values():
            for entry in [entry for entry in lane.waiting if entry.wire.body == b"good"]:
                lane.waiting.remove(entry)
        return letter.message.body == b"good"

    async with asyncio.timeout(5):
        assert await bus.redrive(JOBS, where=where) == 0
    assert "1 dead letters that were chosen did not come" in caplog.text
    assert dead() == ["bad"] * 30


async def test_as_many_are_shown_as_memory_may_hold(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_graveyard, "SHOWN_BYTES", 100)
    caplog.set_level(logging.WARNING, "unimsg")
    bury(*["x" * 30] * 3)
    assert len([letter async for letter in bus.dead_letters(JOBS)]) == 3
    assert not caplog.text
    bury("x" * 30)
    assert len([letter async for letter in bus.dead_letters(JOBS)]) == 3
    assert "there are more dead letters than the 3 shown" in caplog.text
    monkeypatch.setattr(_graveyard, "SHOWN", 2)
    assert len([letter async for letter in bus.dead_letters(JOBS)]) == 2


def test_pages_are_bounded() -> None:
    small = [Wire(str(n), b"") for n in range(PAGE + 1)]
    assert [len(page) for page in pages(small)] == [PAGE, 1]
    half, large = bytes(PAGE_BYTES // 2), bytes(PAGE_BYTES + 1)
    assert [len(page) for page in pages(Wire("", body) for body in (half, half, b"x", large, half))] == [2, 1, 1, 1]
    assert list(pages([])) == []
