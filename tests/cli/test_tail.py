"""`unimsg tail`, on the broker in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from waiting import until

import unimsg
from unimsg import Bus, DeadLetter, Message, Queue, Reject, Service, Settings, Topic
from unimsg.cli.tail import emitter, watch
from unimsg.errors import ConfigurationError, TopologyError
from unimsg.memory import MemoryBroker

SETTINGS = Settings(url="memory://", topology="off")
pytestmark = pytest.mark.usefixtures("elsewhere")

placed = Topic("orders.placed", dict[str, int])
place = Queue("orders.place", str)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("unimsg.cli.tail.say", lines.append)
    return lines


@asynccontextmanager
async def shop() -> AsyncIterator[Bus]:
    service = Service("shop")

    @service.handler(placed)
    async def on_placed(body: dict[str, int]) -> None: ...

    @service.handler(place)
    async def on_place(body: str) -> None:
        raise Reject(body)

    async with unimsg.connect(service, url="memory://") as bus:
        yield bus


class Seen(list[Message[bytes] | DeadLetter]):
    """Wants so many."""

    def __init__(self, wanted: int = 10**6) -> None:
        super().__init__()
        self.wanted = wanted

    def __call__(self, one: Message[bytes] | DeadLetter) -> bool:
        self.append(one)
        return len(self) < self.wanted


def subscriptions() -> set[str]:
    return set(MemoryBroker.current().topics["orders.placed"])


async def test_it_sees_what_is_published_and_takes_nothing(said: list[str]) -> None:
    seen = Seen(wanted=3)
    async with shop() as bus:
        await bus.publish(placed, {"n": 0})
        task = asyncio.create_task(watch(SETTINGS, "orders.placed", dead=False, seconds=None, emit=seen))
        await until(lambda: said, "watching")
        assert len(subscriptions()) == 2
        ids = [await bus.publish(placed, {"n": n}) for n in range(1, 4)]
        await asyncio.wait_for(task, 5)
        assert subscriptions() == {"shop"}, "its own subscription is gone"
    assert [one.id for one in seen if isinstance(one, Message)] == ids


async def test_it_goes_on_over_a_lost_connection(said: list[str]) -> None:
    seen: list[int] = []

    def emit(one: Message[bytes] | DeadLetter) -> bool:
        assert isinstance(one, Message)
        if not seen:
            MemoryBroker.current().cut()  # before it is acknowledged
        seen.append(json.loads(one.body)["n"])
        return 2 not in seen

    async with shop() as bus:
        task = asyncio.create_task(watch(SETTINGS, "orders.placed", dead=False, seconds=None, emit=emit))
        await until(lambda: said, "watching")
        for n in (1, 2):
            await bus.publish(placed, {"n": n})
        await asyncio.wait_for(task, 5)
    assert set(seen) == {1, 2}


@pytest.mark.parametrize("how", ["cancelled", "time is up"])
async def test_its_subscription_goes_however_it_ends(said: list[str], how: str) -> None:
    async with shop():
        seconds = 0.2 if how == "time is up" else None
        task = asyncio.create_task(watch(SETTINGS, "orders.placed", dead=False, seconds=seconds, emit=Seen()))
        await until(lambda: said, "watching")
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task], timeout=5)
        assert (task.cancelled(), subscriptions()) == (how == "cancelled", {"shop"})


async def test_a_queue_or_a_subscription_is_never_read() -> None:
    async with shop() as bus:
        with pytest.raises(TopologyError, match=r"tail never does.*--dead"):
            await watch(SETTINGS, "orders.place", dead=False, seconds=None, emit=Seen())
        with pytest.raises(ConfigurationError, match=r"orders.placed/shop.*--dead"):
            await watch(SETTINGS, "orders.placed/shop", dead=False, seconds=None, emit=Seen())
        with pytest.raises(TopologyError, match="does not exist"):
            await watch(SETTINGS, "orders.none", dead=False, seconds=None, emit=Seen())
        assert "orders.none" not in MemoryBroker.current().topics
        assert [letter async for letter in bus.dead_letters(place)] == []


async def test_dead_letters_are_watched_and_stay(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimsg.cli.tail.LOOK_EVERY", 0.02)
    seen = Seen(wanted=2)
    async with shop() as bus:
        await bus.send(place, "first")
        task = asyncio.create_task(watch(SETTINGS, "orders.place", dead=True, seconds=None, emit=seen))
        await until(lambda: seen, "the first")
        await bus.send(place, "second")
        await asyncio.wait_for(task, 5)
        assert len([letter async for letter in bus.dead_letters(place)]) == 2
    assert [one.error_text for one in seen if isinstance(one, DeadLetter)] == ["first", "second"]


async def test_each_is_one_line(said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    service = Service("raw")
    raw = Topic("orders.raw", bytes)

    @service.handler(raw)
    async def take(body: bytes) -> None: ...

    async with unimsg.connect(service, url="memory://") as bus:
        for as_json in (True, False):
            emit = emitter(3, as_json=as_json)
            task = asyncio.create_task(watch(SETTINGS, "orders.raw", dead=False, seconds=None, emit=emit))
            await until(lambda: len(said) == (1 if as_json else 2), "watching")  # noqa: B023
            for body in (b"\x1b[2J", b"two\nlines", b"\xff\x00"):
                await bus.publish(raw, body, key="k\n")
            await asyncio.wait_for(task, 5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    first, second, third = (json.loads(line) for line in lines[:3])
    assert (first["body"], second["body"], third["body_base64"]) == ("\x1b[2J", "two\nlines", "/wA=")
    assert first["key"] == "k\n"
    assert all(line.isprintable() for line in lines[3:])
