"""What the core notes about a failure never costs a message, a slot or the truth of `health`, whatever is raised."""

import asyncio
from collections.abc import Callable

import pytest
from policies import held, letters, told
from scripted import Scripted
from waiting import came, until

import unimsg
from unimsg import Bus, Context, Queue, Retry, Service
from unimsg.adapter import Adapter, Epoch
from unimsg.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("bookkeeping.numbers", int)
ordered = Queue("bookkeeping.ordered", int, ordered=True)


async def problems(bus: Bus) -> list[str]:
    return list((await bus.health()).problems)


class Mute(Exception):
    """As errors of careless libraries are."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("expose", [False, True])
async def test_an_error_whose_text_cannot_be_had_is_a_failure_as_any_other(expose: bool) -> None:
    service = Service("shop", retry=Retry(0.01), expose_errors=expose)

    @service.handler(numbers, concurrency=1)
    async def handle(body: int) -> None:
        raise Mute

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 1)
        await bus.send(numbers, 2)
        await until(lambda: held("bookkeeping.numbers..dead") == 2, "two dead letters")
        found = await letters(bus, numbers)
    assert [(letter.error_type, letter.error_text, letter.attempts) for letter in found] == [("Mute", "", 2)] * 2


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_a_handler_that_cancels_itself_and_then_fails_keeps_no_slot_and_its_message_is_not_lost(
    channel: Queue[int],
) -> None:
    service, got = Service("shop", retry=Retry()), list[int]()

    @service.handler(channel, concurrency=1)
    async def handle(body: int) -> None:
        if body == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise ValueError
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(channel, 0, key="ann")
        await bus.send(channel, 1, key="bob")
        await came(got, [1])
        await until(
            lambda: held(f"{channel.name}..dead") >= 1, "the dead letter"
        )  # two, if the first copy was under way
        await until(lambda: MemoryBroker.current().queues[channel.name].length == 0, "its acknowledgement")


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_what_fails_after_its_connection_was_lost_has_not_failed(
    channel: Queue[int], serve: Callable[[str, type[Adapter]], str]
) -> None:
    """The broker delivers it again: a copy of it as well would make two of it."""
    Scripted.forget()
    service, go, attempts = Service("shop", retry=Retry(0.01)), asyncio.Event(), list[int]()

    @service.handler(channel)
    async def handle(body: int, context: Context) -> None:
        attempts.append(context.attempt)
        await go.wait()
        if context.lost:
            raise OSError("the database was lost with it")

    async with unimsg.connect(service, url=serve("scripted", Scripted)) as bus:
        [receiver] = Scripted.receivers
        epoch = Epoch()
        receiver.give("1", epoch=epoch, key="k")
        await until(lambda: attempts, "the handler")
        epoch.end()
        go.set()
        await came(receiver.released, ["1"])
        assert await problems(bus) == []
        receiver.give("1", epoch=Epoch(), key="k")
        await came(receiver.acked, ["1"])
        assert held(f"{channel.name}..dead") == 0
        assert MemoryBroker.current().queues[channel.name].length == 0, "no copy of it"
    assert attempts == [1, 1]
    assert receiver.wrong == []


async def test_a_failure_in_a_draining_epoch_counts_for_its_settlement_does_too(
    serve: Callable[[str, type[Adapter]], str],
) -> None:
    Scripted.forget()
    service, go, started = Service("shop", retry=Retry()), asyncio.Event(), list[int]()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        started.append(body)
        await go.wait()
        raise ValueError

    async with unimsg.connect(service, url=serve("scripted", Scripted)):
        [receiver] = Scripted.receivers
        epoch = Epoch()
        receiver.give("1", epoch=epoch)
        await until(lambda: started, "the handler")
        epoch.drain()
        go.set()
        await came(receiver.acked, ["1"])
        assert held("bookkeeping.numbers..dead") == 1


async def test_health_forgets_a_copy_that_could_not_be_made_with_its_message() -> None:
    service, attempts = Service("shop", retry=Retry()), list[int]()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        attempts.append(body)
        if len(attempts) == 1:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        MemoryBroker.current().queues["bookkeeping.numbers..dead"].max_length = 0
        await bus.send(numbers, 7)
        await told(bus, "cannot go on")
        assert not (await bus.health()).ready
        MemoryBroker.current().cut()
        await until(lambda: len(attempts) == 2, "its second delivery")
        await until(lambda: held("bookkeeping.numbers") == 0, "the acknowledgement")
        assert await bus.health() == unimsg.Health(live=True, ready=True, problems=[])


async def test_health_forgets_a_message_that_is_a_dead_letter() -> None:
    service = Service("shop", retry=Retry())

    @service.handler(numbers)
    async def handle(body: int) -> None:
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: held("bookkeeping.numbers..dead") == 1, "the dead letter")
        await until(lambda: held("bookkeeping.numbers") == 0, "the acknowledgement")
        assert await problems(bus) == []
