"""Surveys: when they end, what they take in, and what they leave behind."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from waiting import until

import unimsg
from unimsg import (
    Bus,
    BusClosed,
    ConfigurationError,
    EncodeError,
    Queue,
    Refused,
    RemoteError,
    Service,
    Topic,
    _survey,
)
from unimsg._message import new_id
from unimsg._survey import Survey
from unimsg.adapter import Address, Kind, Wire
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

prices = Topic("survey.prices", str, replies=int)
silent = Topic("survey.silent", str)
full = Topic("survey.full", str, replies=int, options=[MemoryOptions(max_length=1)])


def courier(name: str, price: int) -> Service:
    service = Service(name, grace=1.0)

    @service.handler(prices)
    async def handle(body: str) -> int:
        return price

    return service


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with unimsg.connect(courier("red", 10), courier("blue", 12), url="memory://") as bus:
        yield bus


async def reply(survey: Survey[Any], *bodies: bytes, id: str | None = None) -> None:
    """As somebody who has seen the question."""
    assert survey._inbox is not None
    headers = {"ce-causationid": survey._id, "content-type": "application/json"}
    wires = [Wire(id or new_id(), body, headers) for body in bodies]
    await MemoryAdapter().send(Address(survey._inbox.name, Kind.INBOX), wires, timeout=1.0)


async def counts(bus: Bus) -> dict[str, int]:
    return {why: count for why, count in (await bus.health()).counts.items() if count}


async def test_a_reply_is_a_message(bus: Bus) -> None:
    async with bus.survey(prices, "to Rome", timeout=5, at_most=2) as survey:
        replies = sorted([each async for each in survey], key=lambda each: each.body)
    assert [(each.body, each.source, each.type, each.kind) for each in replies] == [
        (10, "red", "survey.prices.reply", "document"),
        (12, "blue", "survey.prices.reply", "document"),
    ]
    assert {each.causation_id for each in replies} == {each.conversation_id for each in replies}


async def test_what_came_in_time_may_be_read_later_and_nothing_else(bus: Bus) -> None:
    """Whoever is slow to read gets what came before the deadline, and is not kept by what comes after it."""
    async with bus.survey(prices, "to Rome", timeout=0.1) as survey:
        await asyncio.sleep(0.15)
        [inbox] = bus._requests.inboxes
        headers = {"ce-causationid": survey._id, "content-type": "application/json"}
        await MemoryAdapter().send(Address(inbox.name, Kind.INBOX), [Wire(new_id(), b"14", headers)], timeout=1.0)
        await until(lambda: inbox.dropped["late"], "the late reply")
        assert sorted([each.body async for each in survey]) == [10, 12]
        with pytest.raises(StopAsyncIteration):
            await anext(survey)


async def test_a_left_survey_gives_nothing_more(bus: Bus) -> None:
    async with bus.survey(prices, "to Rome", timeout=5) as survey:
        await until(lambda: len(survey._waiting) == 2, "the replies")
    assert [each async for each in survey] == []
    assert next(iter(bus._requests.inboxes))._asked == {}


async def test_an_error_in_the_block_is_the_callers(bus: Bus) -> None:
    with pytest.raises(LookupError):
        async with bus.survey(prices, "to Rome", timeout=5):
            raise LookupError
    assert next(iter(bus._requests.inboxes))._asked == {}


async def test_what_cannot_be_read_is_a_failure_and_the_rest_goes_on() -> None:
    async with (
        unimsg.connect(url="memory://") as bus,
        bus.survey(prices, "to Rome", timeout=5, at_most=1) as survey,
    ):
        await reply(survey, b"dear", b"[]", b"7")
        assert [each.body async for each in survey] == [7]
        assert [failure.code for failure in survey.failures] == ["undecodable", "undecodable"]
        assert all(isinstance(failure, RemoteError) for failure in survey.failures)


async def test_a_flood_ends_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(_survey, "MAX_REPLIES", 50)
    async with unimsg.connect(url="memory://") as bus, bus.survey(prices, "to Rome", timeout=60) as survey:
        await reply(survey, *[b"7"] * 200)
        assert len([each async for each in survey]) == 50
        await until(lambda: next(iter(bus._requests.inboxes)).dropped["late"] == 150, "the rest")
    assert "takes no more" in caplog.text


async def test_the_end_of_the_bus_is_told() -> None:
    async with unimsg.connect(url="memory://") as bus:
        survey: Any = bus.survey(prices, "to Rome", timeout=60)
        await survey.__aenter__()
        reading = asyncio.create_task(anext(survey))
        await asyncio.sleep(0)
    with pytest.raises(BusClosed):
        await asyncio.wait_for(reading, 1.0)
    await survey.__aexit__(None, None, None)
    with pytest.raises(BusClosed):
        bus.survey(prices, "to Rome", timeout=60)


async def test_what_is_wrong_is_told(bus: Bus) -> None:
    with pytest.raises(TypeError):
        bus.survey(Queue("survey.queue", str, replies=int), "x", timeout=1)  # type: ignore[arg-type]  # as who does not check types
    with pytest.raises(ValueError, match="at_most"):
        bus.survey(prices, "x", timeout=1, at_most=0)
    with pytest.raises(ValueError, match="timeout"):
        bus.survey(prices, "x", timeout=0)
    with pytest.raises(ConfigurationError, match="declares no replies"):
        bus.survey(silent, "x", timeout=1)
    with pytest.raises(EncodeError):
        async with bus.survey(prices, 7, timeout=1):  # type: ignore[arg-type]  # as who does not check types
            pass
    assert all(inbox._asked == {} for inbox in bus._requests.inboxes)


async def test_what_is_not_published_is_told() -> None:
    service = Service("busy", grace=0.1)

    @service.handler(full, concurrency=1)
    async def handle(body: str) -> int:
        await asyncio.Event().wait()
        return 7

    async with unimsg.connect(service, url="memory://") as bus:
        async with bus.survey(full, "one", timeout=0.1):
            pass
        with pytest.raises(Refused):
            async with bus.survey(full, "two", timeout=5):
                pass
        assert next(iter(bus._requests.inboxes))._asked == {}


async def test_a_thousand_surveys_leave_nothing_behind(bus: Bus) -> None:
    async def ask(number: int) -> None:
        async with bus.survey(prices, "to Rome", timeout=60, at_most=2 if number % 3 else None) as survey:
            async for _ in survey:
                if number % 3 != 1:
                    break

    await ask(1)
    tasks, queues = len(asyncio.all_tasks()), set(MemoryBroker.current().queues)
    for start in range(0, 1000, 50):
        await asyncio.gather(*(ask(number) for number in range(start, start + 50)))
    [inbox] = bus._requests.inboxes
    await until(lambda: len(asyncio.all_tasks()) <= tasks, "tasks that end")
    assert inbox._asked == {}
    assert len(inbox._ended) <= 1001
    assert set(MemoryBroker.current().queues) == queues
    timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]  # there is no other way to see them
    assert len(timers) < 50
    gc.collect()
    assert sum(isinstance(each, Survey) for each in gc.get_objects()) < 5
    assert await counts(bus) == {} or set(await counts(bus)) == {"late_replies"}
