"""An expired message is dropped and counted wherever it waits: never handled, never a dead letter."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import held, put, waiting
from waiting import came, until

import unimsg
from unimsg import Context, Queue, Retry, Service, Topic
from unimsg._message import timestamp
from unimsg.adapter import Wire
from unimsg.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("expiry.numbers", int)
brief = Queue("expiry.brief", int, ttl=0.1)
ordered = Queue("expiry.ordered", int, ordered=True)
events = Topic("expiry.events", int, ttl=0.1)


def handling(got: list[int], retry: Retry | None = None, **more: Any) -> Service[None]:
    service = Service("shop", retry=retry or Retry())

    async def handle(body: int) -> None:
        got.append(body)

    for channel in (numbers, brief, ordered):
        service.handler(channel, **more)(handle)
    service.handler(events, **more)(handle)
    return service


async def test_a_ttl_of_the_channel_and_of_the_call_are_seconds_from_now() -> None:
    got: list[datetime | None] = []
    service = Service("shop")

    async def handle(body: int, context: Context) -> None:
        got.append(context.message.expires)

    service.handler(numbers)(handle)
    service.handler(Queue("expiry.hour", int, ttl=3600))(handle)
    async with unimsg.connect(service, url="memory://") as bus:
        begin = datetime.now(UTC)
        await bus.send(numbers, 1)
        await until(lambda: len(got) == 1, "the first")
        await bus.send(numbers, 1, ttl=60)
        await until(lambda: len(got) == 2, "the second")
        await bus.send(Queue("expiry.hour", int, ttl=3600), 1)
        await until(lambda: len(got) == 3, "the third")
    none, minute, hour = got
    assert none is None
    assert minute is not None
    assert timedelta(seconds=59.9) <= minute - begin <= timedelta(seconds=61)
    assert hour is not None
    assert timedelta(seconds=3599.9) <= hour - begin <= timedelta(seconds=3602)


async def test_what_expired_while_nobody_was_there_is_dropped_and_the_rest_is_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "unimsg")
    got: list[int] = []
    async with unimsg.connect(handling([]), url="memory://"):
        pass  # makes the channels
    async with unimsg.connect(url="memory://") as client:
        await client.send(brief, 1)
        await client.send(brief, 2, ttl=60)
        await client.publish(events, 3)
        await client.send(brief, 4)
    await asyncio.sleep(0.15)
    async with unimsg.connect(handling(got), url="memory://"):
        await until(lambda: held("expiry.brief") == 0, "all acknowledged")
        await until(lambda: MemoryBroker.current().topics["expiry.events"]["shop"].length == 0, "the event too")
    assert got == [2]
    assert held("expiry.brief..dead") + held("expiry.events..shop..dead") == 0
    assert caplog.text.count("has expired and is dropped") == 3


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_what_expires_in_line_behind_another_is_not_handled(channel: Queue[int]) -> None:
    got: list[int] = []
    service, go = Service("shop"), asyncio.Event()

    @service.handler(channel, concurrency=1)
    async def handle(body: int) -> None:
        got.append(body)
        await go.wait()

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(channel, 1, key="k")
        await until(lambda: got, "the first")
        await bus.send(channel, 2, key="k", ttl=0.05)
        await bus.send(channel, 3, key="k", ttl=60)
        await asyncio.sleep(0.1)
        go.set()
        await came(got, [1, 3])
        await until(lambda: held(channel.name) == 0, "all acknowledged")
    assert got == [1, 3]
    assert held(f"{channel.name}..dead") == 0


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_what_expires_while_it_waits_for_a_retry_is_not_handled_again(either: str, channel: Queue[int]) -> None:
    tried: list[int] = []
    service = Service("shop", retry=Retry(0.2, 0.2))

    @service.handler(channel)
    async def handle(body: int) -> None:
        tried.append(body)
        raise ValueError

    async with unimsg.connect(service, url=either) as bus:
        await bus.send(channel, 1, key="k", ttl=0.1)
        await until(lambda: tried, "the first attempt")
        await asyncio.sleep(0.3)
        await until(lambda: held(channel.name) + held(f"{channel.name}..retry") == 0, "all acknowledged")
        assert (await bus.health()).problems == []
    assert tried == [1]
    assert held(f"{channel.name}..dead") == 0


async def test_what_expires_in_a_room_while_no_process_lives_is_dropped_by_the_next(either: str) -> None:
    tried: list[int] = []
    service = Service("shop", retry=Retry(0.1))

    @service.handler(numbers)
    async def handle(body: int) -> None:
        tried.append(body)
        raise ValueError

    async with unimsg.connect(service, url=either) as bus:
        await bus.send(numbers, 1, ttl=0.1)
        await until(lambda: tried and held("expiry.numbers") == 0, "its copy")
    await asyncio.sleep(0.15)
    async with unimsg.connect(service, url=either):
        await until(lambda: held("expiry.numbers") + held("expiry.numbers..retry") == 0, "it, dropped")
    assert tried == [1]
    assert held("expiry.numbers..dead") == 0


async def test_it_is_counted() -> None:
    from unimsg._consumer import Consumer  # nothing public tells yet

    seen: list[Consumer] = []
    real = Consumer.start

    async def start(self: Consumer) -> None:
        seen.append(self)
        await real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Consumer, "start", start)
        async with unimsg.connect(handling([]), url="memory://"):
            wire = Wire("x", b"1", {"ce-expirytime": "2020-01-01T00:00:00Z"})
            await put("expiry.numbers", wire, wire)
            await until(lambda: held("expiry.numbers") == 0, "both dropped")
            assert sum(consumer.expired for consumer in seen) == 2


async def test_one_that_cannot_even_be_decoded_is_dropped_too() -> None:
    async with unimsg.connect(handling([]), url="memory://"):
        await put("expiry.numbers", Wire("x", b"seven", {"ce-expirytime": "2020-01-01T00:00:00Z"}))
        await until(lambda: held("expiry.numbers") == 0, "it, dropped")
    assert waiting("expiry.numbers..dead") == []


@pytest.mark.parametrize("text", ["", "never", "2020", "2020-13-01T00:00:00Z", "9" * 300, "\ud800", "+1h"])
async def test_an_expiry_that_cannot_be_read_expires_nothing(text: str) -> None:
    got: list[int] = []
    async with unimsg.connect(handling(got), url="memory://"):
        await put("expiry.numbers", Wire("x", b"7", {"ce-expirytime": text}))
        await came(got, [7])


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "20200101T000000Z", "2999-01-01", "2020-01-01"]
)
async def test_one_far_away_or_without_a_zone_costs_nobody_anything(text: str) -> None:
    got: list[int] = []
    async with unimsg.connect(handling(got), url="memory://"):
        await put("expiry.numbers", Wire("x", b"7", {"ce-expirytime": text}))
        await until(lambda: held("expiry.numbers") == 0, "it, handled or dropped")
    assert got == ([7] if "9" * 3 in text else [])


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_none(text: str) -> None:
    moment = timestamp(text)
    assert moment is None or (moment <= datetime.now(UTC)) in (True, False)


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
async def test_a_ttl_that_makes_no_sense_is_refused_at_the_call(ttl: float) -> None:
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(ValueError, match="ttl must be more than 0 seconds"):
            await bus.send(numbers, 7, ttl=ttl)


async def test_a_ttl_may_be_longer_than_any_calendar() -> None:
    got: list[int] = []
    async with unimsg.connect(handling(got), url="memory://") as bus:
        await bus.send(numbers, 7, ttl=1e30)
        await bus.send(numbers, 8, ttl=float("inf"))
        await came(got, [7, 8])


async def test_a_context_and_a_pipeline_have_it_too() -> None:
    service = Service("shop")

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        await context.send(Queue("expiry.later", int), body, ttl=60)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        async with bus.pipeline() as pipeline:
            await pipeline.send(Queue("expiry.later", int), 7, ttl=60)
        await until(lambda: len(waiting("expiry.later")) == 2, "both")
    assert all("ce-expirytime" in wire.headers for wire in waiting("expiry.later"))
