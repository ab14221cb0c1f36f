"""Dead letters are put back to where they came from: confirmed there, then removed, whatever happens in between."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

import pytest
from policies import held, letters, put, waiting
from waiting import until

import unimsg
from unimsg import Bus, ConfigurationError, Context, Queue, Refused, Retry, Service, Topic, TopologyError
from unimsg.adapter import Wire
from unimsg.memory import MemoryBroker, MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("redrive.numbers", int)
ordered = Queue("redrive.ordered", int, ordered=True)
events = Topic("redrive.events", int)
keyed = Topic("redrive.keyed", int, ordered=True)
DEAD = "redrive.numbers..dead"


class Kitchen:
    """Fails while it is broken."""

    def __init__(self, name: str = "shop") -> None:
        self.broken = True
        self.got: list[tuple[int, int, str | None, dict[str, str]]] = []
        self.service = Service(name, retry=Retry())
        self.service.handler(numbers, concurrency=1)(self.cook)  # so that they fail in their order
        self.service.handler(ordered)(self.cook)
        for topic in (events, keyed):
            self.service.handler(topic)(self.cook)

    async def cook(self, body: int, context: Context) -> None:
        if self.broken:
            raise ValueError
        self.got.append((body, context.attempt, context.message.key, dict(context.message.headers)))


async def bury(bus: Bus, kitchen: Kitchen, count: int) -> list[str]:
    """That many dead letters of `numbers`, their bodies 0, 1, …; returns their ids."""
    ids = [await bus.send(numbers, number) for number in range(count)]
    await until(lambda: held(DEAD) == count, "the dead letters")
    await until(lambda: held("redrive.numbers") == 0, "the acknowledgements")
    kitchen.broken = False
    return ids


async def test_all_of_them_come_again_as_if_sent_anew(either: str) -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url=either) as bus:
        id = await bus.send(numbers, 7, id="order-7", key="k", headers={"tenant": "acme"})
        await until(lambda: held(DEAD) == 1, "the dead letter")
        [letter] = waiting(DEAD)
        kitchen.broken = False
        assert await bus.redrive(numbers) == 1
        await until(lambda: kitchen.got, "it again")
        await until(lambda: held("redrive.numbers") == 0, "its acknowledgement")
    assert id == letter.id == "order-7"
    assert kitchen.got == [(7, 1, "k", {"tenant": "acme"})]
    assert held(DEAD) == 0


async def test_it_travels_without_any_trace_of_its_failure() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 1)
    async with unimsg.connect(url="memory://") as bus:
        assert await bus.redrive(numbers) == 1
    [wire] = waiting("redrive.numbers")
    assert [name for name in wire.headers if name.startswith("unimsg-")] == []


async def test_a_subscription_gets_its_own_back_and_no_other_does(either: str) -> None:
    shop, mail = Kitchen("shop"), Kitchen("mail")
    only_events = Service("mail", retry=Retry())
    only_events.handler(events)(mail.cook)
    mail.broken = False
    async with unimsg.connect(shop.service, only_events, url=either) as bus:
        await bus.publish(events, 7)
        await until(lambda: held("redrive.events..shop..dead") == 1, "the dead letter")
        await until(lambda: mail.got, "the other subscription's")
        shop.broken = False
        assert await bus.redrive(events, "mail") == 0
        assert await bus.redrive(events, "shop") == 1
        await until(lambda: shop.got, "it again")
    assert [len(shop.got), len(mail.got)] == [1, 1]
    assert (shop.got[0][:2], held("redrive.events..shop..dead")) == ((7, 1), 0)


async def test_of_ordered_channels_too(either: str) -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url=either) as bus:
        await bus.send(ordered, 1, key="k")
        await bus.publish(keyed, 2, key="k")
        await until(lambda: held("redrive.ordered..dead") + held("redrive.keyed..shop..dead") == 2, "the dead letters")
        kitchen.broken = False
        assert await bus.redrive(ordered) + await bus.redrive(keyed, "shop") == 2
        await until(lambda: len(kitchen.got) == 2, "both again")
    assert sorted(kitchen.got) == [(1, 1, "k", {}), (2, 1, "k", {})]


async def test_they_are_put_back_in_the_order_in_which_they_died() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        ids = await bury(bus, kitchen, 30)
    async with unimsg.connect(url="memory://") as bus:
        await bus.redrive(numbers)
    assert sorted(wire.id for wire in waiting("redrive.numbers")) == sorted(ids)
    died = [wire.id for wire in waiting("redrive.numbers")]
    assert died == ids, "one handler's messages die in their order"


# -- which, how many, how fast


async def test_only_those_that_are_wanted() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 10)
        assert await bus.redrive(numbers, where=lambda letter: int(letter.message.body) % 3 == 0) == 4
        await until(lambda: len(kitchen.got) == 4, "four")
        assert sorted(body for body, *_ in kitchen.got) == [0, 3, 6, 9]
        assert {letter.message.body for letter in await letters(bus, numbers)} == {b"1", b"2", b"4", b"5", b"7", b"8"}


async def test_a_filter_sees_the_whole_record() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 2)
        await put("redrive.numbers", Wire("bad", b"seven"))
        await until(lambda: held(DEAD) == 3, "three")
        assert await bus.redrive(numbers, where=lambda letter: letter.error_type == "ValueError") == 2
        assert [letter.reason for letter in await letters(bus, numbers)] == ["undecodable"]


async def test_a_filter_that_fails_says_so_and_moves_nothing() -> None:
    kitchen = Kitchen()
    wrong: Any = lambda letter: letter.nothing  # noqa: E731
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 3)
        with pytest.raises(AttributeError, match="nothing"):
            await bus.redrive(numbers, where=wrong)
        assert len(waiting(DEAD)) == 3


async def test_no_more_than_the_limit_and_the_next_call_goes_on() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 10)
        assert [await bus.redrive(numbers, limit=4) for _ in range(4)] == [4, 4, 2, 0]
        await until(lambda: len(kitchen.got) == 10, "all, in the end")
        assert sorted(body for body, *_ in kitchen.got) == list(range(10))


async def test_the_limit_counts_those_that_are_wanted() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 10)
        assert await bus.redrive(numbers, where=lambda letter: int(letter.message.body) >= 5, limit=2) == 2
        assert len(waiting(DEAD)) == 8


async def test_no_faster_than_the_rate() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 6)
        begin = monotonic()
        assert await bus.redrive(numbers, rate=30) == 6
        assert monotonic() - begin >= 5 / 30


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"rate": 0}, {"rate": -2}, {"rate": float("nan")}])
async def test_a_limit_or_rate_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(ValueError, match="limit must be 1 or more, rate more than 0"):
            await bus.redrive(numbers, **wrong)


# -- interrupted


async def test_cancelled_in_the_middle_none_is_lost_and_the_next_call_goes_on() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 10)
        task = asyncio.create_task(bus.redrive(numbers, rate=200))
        await until(lambda: len(kitchen.got) >= 3, "some")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        left = len(waiting(DEAD))
        assert 0 < left < 10
        assert await bus.redrive(numbers) == left
        await until(lambda: {body for body, *_ in kitchen.got} == set(range(10)), "all")


async def test_over_a_lost_connection_it_goes_on_and_none_is_lost() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 10)
        task = asyncio.create_task(bus.redrive(numbers, rate=200))
        for count in (2, 5):
            await until(lambda count=count: len(kitchen.got) >= count, "some")  # type: ignore[misc]  # a default binds it now
            MemoryBroker.current().cut()
        await task
        await until(lambda: {body for body, *_ in kitchen.got} == set(range(10)), "all")
        assert len(kitchen.got) + held(DEAD) <= 12, "of each cut one may be in both"


async def test_a_dead_letter_queue_that_is_deleted_meanwhile_is_told_by_an_error_that_users_know() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 10)
        task = asyncio.create_task(bus.redrive(numbers, rate=200))
        await until(lambda: kitchen.got, "the first")
        MemoryBroker.current().delete(DEAD)
        with pytest.raises(TopologyError, match=r"redrive\.numbers\.\.dead was deleted"):
            await task


async def test_where_they_cannot_go_back_to_it_says_so_and_they_stay() -> None:
    small = Queue("redrive.small", int, options=[MemoryOptions(max_length=3)])
    service = Service("shop", retry=Retry())

    @service.handler(small)
    async def handle(body: int) -> None:
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(5):
            await bus.send(small, number)
            await until(lambda number=number: held("redrive.small..dead") == number + 1, "it")  # type: ignore[misc]  # as above
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(Refused, match=r"redrive\.small is full"):
            await bus.redrive(small)
    assert (len(waiting("redrive.small")), len(waiting("redrive.small..dead"))) == (3, 2)


async def test_two_at_once_move_each_once() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        await bury(bus, kitchen, 20)
        half: Sequence[asyncio.Task[int]] = [
            asyncio.create_task(
                bus.redrive(numbers, where=lambda letter, part=part: int(letter.message.body) % 2 == part)
            )  # type: ignore[misc]  # a default binds it now
            for part in (0, 1)
        ]
        await until(lambda: len(kitchen.got) >= 10, "one of the two goes first", within=20)
        for task in half:
            task.cancel()
        await asyncio.wait(half)
        await until(lambda: held("redrive.numbers") == 0, "what was put back")
        bodies = [body for body, *_ in kitchen.got]
        assert len(bodies) == len(set(bodies)), "none twice"
        assert len(bodies) + len(waiting(DEAD)) == 20, "none lost"


# -- what there is not


@pytest.mark.parametrize("verb", ["dead_letters", "redrive"])
async def test_a_topic_needs_a_subscription_and_a_queue_has_none(verb: str) -> None:
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(ConfigurationError, match=r"redrive\.events is a topic: say which subscription"):
            await called(bus, verb, events, None)
        with pytest.raises(ConfigurationError, match=r"redrive\.numbers is a queue: only topics have subscriptions"):
            await called(bus, verb, numbers, "shop")


@pytest.mark.parametrize("verb", ["dead_letters", "redrive"])
async def test_what_nobody_ever_handled_has_no_dead_letters(verb: str) -> None:
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(TopologyError, match=r"redrive\.numbers\.\.dead .*made when redrive\.numbers is handled"):
            await called(bus, verb, numbers, None)
        with pytest.raises(TopologyError, match=r"redrive\.events\.\.mail\.\.dead"):
            await called(bus, verb, events, "mail")


async def called(bus: Bus, verb: str, channel: Queue[int] | Topic[int], subscription: str | None) -> None:
    if verb == "redrive":
        await bus.redrive(channel, subscription)
    else:
        await letters(bus, channel, subscription)


async def test_without_any_dead_letter_nothing_is_moved() -> None:
    async with unimsg.connect(Kitchen().service, url="memory://") as bus:
        assert await bus.redrive(numbers) == 0
        assert await letters(bus, numbers) == []


async def test_reading_removes_nothing() -> None:
    kitchen = Kitchen()
    async with unimsg.connect(kitchen.service, url="memory://") as bus:
        ids = await bury(bus, kitchen, 5)
        for _ in range(3):
            assert sorted(letter.message.id for letter in await letters(bus, numbers)) == sorted(ids)
        assert len(waiting(DEAD)) == 5


async def test_a_closed_bus_does_neither() -> None:
    async with unimsg.connect(url="memory://") as bus:
        pass
    with pytest.raises(unimsg.BusClosed):
        await bus.redrive(numbers)
    with pytest.raises(unimsg.BusClosed):
        await letters(bus, numbers)
