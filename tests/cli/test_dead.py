"""`unimsg dead`, on the broker in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from typer.testing import CliRunner
from waiting import until

import unimsg
from unimsg import Bus, Queue, Reject, ReplyQueue, Retry, Service, Settings, Topic
from unimsg.cli import dead
from unimsg.cli.dead import drop, found, ids_of, redrive
from unimsg.cli.graves import FIELDS, fitting, letter_as_dict, letter_in_a_line
from unimsg.cli.program import app
from unimsg.errors import ConfigurationError, TopologyError

SETTINGS = Settings(url="memory://", topology="off")
pytestmark = pytest.mark.usefixtures("elsewhere")

place = Queue("orders.place", str)
placed = Topic("orders.placed", str)


class Shop:
    def __init__(self) -> None:
        self.broken = True
        self.handled: list[str] = []
        self.service = service = Service("shop", retry=Retry(), expose_errors=True)

        @service.handler(place)
        @service.handler(placed)
        async def handle(body: str) -> None:
            self.handled.append(body)
            if self.broken:
                raise KeyError(body) if body.startswith("key") else Reject(body)


@asynccontextmanager
async def with_dead_letters(*bodies: str) -> AsyncIterator[tuple[Shop, Bus]]:
    shop = Shop()
    async with unimsg.connect(shop.service, url="memory://") as bus:
        for body in bodies:
            await bus.send(place, body)
        await until(lambda: len(shop.handled) == len(bodies), "all handled")
        while len(await bodies_of(bus)) < len(bodies):  # noqa: ASYNC110  # a copy comes a little later
            await asyncio.sleep(0.005)
        shop.broken = False
        yield shop, bus


def everything(_: object) -> bool:
    return True


async def bodies_of(bus: Bus) -> list[str]:
    return [letter.message.body.decode() async for letter in bus.dead_letters(place)]


async def test_they_are_found_by_what_is_known_of_them() -> None:
    async with with_dead_letters("a", "b", "key 1", "key 2"):
        assert len(await found(SETTINGS, "orders.place", everything, 100)) == 4
        assert len(await found(SETTINGS, "orders.place", everything, 3)) == 3
        (first, *_) = await found(SETTINGS, "orders.place", everything, 1)
        for conditions, count in (
            (["error_type=KeyError"], 2),
            (["error_type=*Error", "error_text=*1*"], 1),
            (["reason=rejected", "error_text=b"], 1),
            (["reason=rejected", "error_type=KeyError"], 0),
            ([f"id={first.message.id}"], 1),
            (["handler=shop:*", "origin=orders.place", "attempts=1"], 4),
        ):
            assert len(await found(SETTINGS, "orders.place", fitting(conditions), 100)) == count, conditions


def test_every_field_can_be_compared_and_others_are_refused() -> None:
    assert set(FIELDS) >= {"reason", "error_type", "handler", "id", "type", "key"}
    for wrong, text in (("error_typ=X", "did you mean error_type"), ("reason", "FIELD=VALUE"), ("x=1", "no field")):
        with pytest.raises(ConfigurationError, match=text):
            fitting([wrong])


async def test_of_a_subscription_and_of_nothing() -> None:
    shop = Shop()
    async with unimsg.connect(shop.service, url="memory://") as bus:
        await bus.publish(placed, "a")
        await until(lambda: shop.handled, "handled")
        while not await found(SETTINGS, "orders.placed/shop", everything, 10):  # noqa: ASYNC110  # a little later
            await asyncio.sleep(0.005)
        for name in ("orders.none", "orders.placed", "orders.placed/none", "orders.place/shop"):
            with pytest.raises(TopologyError):
                await found(SETTINGS, name, everything, 10)


async def test_of_a_reply_queue() -> None:
    answers = ReplyQueue("orders.answers", str)
    service = Service("client", retry=Retry())

    @service.handler(answers)
    async def handle(body: str | unimsg.RemoteError) -> None:
        raise Reject("never")

    asked = Queue("orders.ask", str, replies=str)
    responder = Service("shop")

    @responder.handler(asked)
    async def answer(body: str) -> str:
        return body.upper()

    async with unimsg.connect(service, responder, url="memory://") as bus:
        await bus.send(asked, "a", reply_to=answers)
        while not (letters := await found(SETTINGS, "orders.answers", everything, 10)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert [letter.message.body for letter in letters] == [b"A"]


async def test_redrive_puts_back_what_is_chosen() -> None:
    async with with_dead_letters("a", "b", "key 1") as (shop, bus):
        assert await redrive(SETTINGS, "orders.place", fitting(["error_type=KeyError"]), None, None) == 1
        await until(lambda: len(shop.handled) == 4, "it comes back")
        assert await bodies_of(bus) == ["a", "b"]
        assert await redrive(SETTINGS, "orders.place", everything, 1, 100.0) == 1
        assert await bodies_of(bus) == ["b"]


async def test_drop_removes_what_is_chosen_and_nothing_else() -> None:
    async with with_dead_letters("a", "b", "key 1", "key 2") as (shop, bus):
        ids = await ids_of(SETTINGS, "orders.place", fitting(["error_type=KeyError"]), None)
        assert await drop(SETTINGS, "orders.place", lambda letter: letter.message.id in ids) == 2
        assert await bodies_of(bus) == ["a", "b"]
        assert await bus.drop_dead_letters(place, limit=1) == 1
        assert await bodies_of(bus) == ["b"]
        assert await bus.drop_dead_letters(place) == 1
        assert await bus.drop_dead_letters(place) == 0
        assert len(shop.handled) == 4, "nothing comes back"
        with pytest.raises(ValueError, match="limit"):
            await bus.drop_dead_letters(place, limit=0)


async def test_of_letters_with_one_id_exactly_the_chosen_one_goes() -> None:
    async with with_dead_letters() as (shop, bus):
        shop.broken = True
        for body in ("precious", "key junk", "precious too"):
            await bus.send(place, body, id="order-42")
        while len(await bodies_of(bus)) < 3:  # noqa: ASYNC110  # a copy comes a little later
            await asyncio.sleep(0.005)
        shop.broken = False
        assert await drop(SETTINGS, "orders.place", fitting(["error_type=KeyError"])) == 1
        assert await bodies_of(bus) == ["precious", "precious too"]
        assert await redrive(SETTINGS, "orders.place", fitting(["error_text=precious too"]), None, None) == 1
        assert await bodies_of(bus) == ["precious"]


async def test_a_drop_that_is_interrupted_loses_only_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_dead_letters(*"abcdef") as (_, bus):
        task = asyncio.create_task(bus.drop_dead_letters(place, where=lambda letter: letter.error_text in "abc"))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert {"d", "e", "f"} <= set(await bodies_of(bus))


async def test_how_they_look() -> None:
    async with with_dead_letters("key \x1b[2J"):
        (letter,) = await found(SETTINGS, "orders.place", everything, 1)
    line = letter_in_a_line(letter)
    assert line.isprintable()
    assert letter.message.id in line
    assert "failed (KeyError" in line
    as_json = json.loads(json.dumps(letter_as_dict(letter)))
    assert as_json["body"] == "key \x1b[2J"
    assert as_json["dead"]["error_type"] == "KeyError"
    assert as_json["dead"]["attempts"] == 1


# -- the commands around them


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Instead of a broker: so many letters. Returns what was done with them."""

    def begin(*ids: str) -> list[str]:
        done: list[str] = []

        async def ids_of(*_: object) -> Sequence[str]:
            return ids

        async def act(*_: object) -> int:
            done.append("moved")
            return len(ids)

        for name, instead in (("ids_of", ids_of), ("drop", act), ("redrive", act)):
            monkeypatch.setattr(dead, name, instead)
        return done

    return begin


def run(*arguments: str, answer: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["dead", *arguments, "--url", "memory://"], input=answer)
    return result.exit_code, result.stdout, result.stderr


def test_drop_asks_and_without_a_terminal_wants_yes(fake: Callable[..., list[str]]) -> None:
    done = fake("1", "2")
    code, out, err = run("drop", "orders.place")
    assert (code, out, done) == (2, "", [])
    assert "2 dead letters would be dropped for good: say --yes" in err
    assert run("drop", "orders.place", "--yes") == (0, "2 dead letters dropped\n", "")
    assert done == ["moved"]


def test_drop_of_nothing_does_nothing(fake: Callable[..., list[str]]) -> None:
    done = fake()
    assert run("drop", "orders.place") == (0, "0 dead letters dropped\n", "")
    assert done == []


@pytest.mark.parametrize("verb", ["drop", "redrive"])
def test_a_dry_run_only_shows(fake: Callable[..., list[str]], verb: str) -> None:
    done = fake("1", "2")
    assert run(verb, "orders.place", "--dry-run") == (0, "1\n2\n", f"would {verb} 2 dead letters\n")
    assert run(verb, "orders.place", "--dry-run", "--json")[1] == '{"id": "1"}\n{"id": "2"}\n'
    assert done == []


def test_redrive_says_how_many(fake: Callable[..., list[str]]) -> None:
    fake("1")
    assert run("redrive", "orders.place", "--json") == (0, '{"redriven": 1}\n', "")
    assert run("redrive", "orders.place") == (0, "1 dead letter put back\n", "")


def test_a_wrong_condition_ends_with_2() -> None:
    code, out, err = run("list", "orders.place", "--where", "nonsense")
    assert (code, out) == (2, "")
    assert err.startswith("unimsg: --where nonsense: write FIELD=VALUE")
