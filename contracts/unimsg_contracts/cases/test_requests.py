"""Requests: G18 where all goes well, or nobody answers."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass

import pytest

import unimsg
from unimsg import BusClosed, Context, DecodeError, Queue, RequestTimeout, Service, Unroutable
from unimsg.adapter import Address, Kind
from unimsg_contracts.asking import echo, rejected
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


@unimsg.message("contracts.accepted")
@dataclass
class Accepted:
    number: int


@unimsg.message("contracts.refused")
@dataclass
class Refused:
    why: str


@guarantee("G18")
async def test_each_request_gets_its_own_reply(stage: Stage) -> None:
    """200 requests at once on one bus and 20 on another, answered in another order than asked: each gets its own."""
    queue = stage.declare_queue(str, replies=str)
    begun = 0
    others_done = asyncio.Event()
    service = Service("echo", grace=2.0)

    @service.handler(queue, concurrency=220)
    async def handle(body: str) -> str:
        nonlocal begun
        begun += 1
        if body.endswith("0"):
            await others_done.wait()
        return f"re {body}"

    async with stage.bus(service), stage.bus() as one, stage.bus() as two:
        bodies = [f"one-{n}" for n in range(200)] + [f"two-{n}" for n in range(20)]

        async def ask(body: str) -> str:
            bus = one if body.startswith("one") else two
            return await stage.answer(bus.request(queue, body, timeout=stage.recovery))

        async with asyncio.TaskGroup() as asking:
            tasks = {body: asking.create_task(ask(body)) for body in bodies}
            early = [task for body, task in tasks.items() if not body.endswith("0")]
            await stage.within(asyncio.wait(early), "the replies that wait for nothing", stage.limit)
            assert not any(task.done() for body, task in tasks.items() if body.endswith("0"))
            others_done.set()
        assert {body: task.result() for body, task in tasks.items()} == {body: f"re {body}" for body in bodies}
        assert begun == len(bodies)


@guarantee("G18")
async def test_a_request_nobody_handles_ends_at_its_deadline(stage: Stage) -> None:
    """It ends in time; and a service that starts after that never handles it, nor is it a dead letter."""
    queue, other = stage.declare_queue(str, replies=str), stage.declare_queue(str, replies=str)
    handled: list[str] = []
    loop = asyncio.get_running_loop()
    late = Service("late", grace=2.0)

    @late.handler(queue)
    async def handle(body: str) -> str:
        handled.append(body)
        return body

    async with stage.bus(echo(other)) as bus:
        await stage.answer(bus.request(other, "to open the inbox", timeout=stage.recovery))
        await bus.send(queue, "to make the channel", ttl=0.1)
        began = loop.time()
        with pytest.raises(RequestTimeout, match=queue.name):
            await stage.within(bus.request(queue, "unheard", timeout=0.5), "a request of 0.5 s", 0.5 + stage.patience)
        assert loop.time() - began >= 0.45
        async with stage.bus(late):
            assert await stage.answer(bus.request(queue, "heard", timeout=stage.recovery)) == "heard"
            await stage.breathe(await stage.adapter())
            assert [letter async for letter in bus.dead_letters(queue)] == []
    assert handled == ["heard"]


@guarantee("G18", needs=("delete",))
async def test_a_request_to_a_deleted_queue_is_rejected(stage: Stage) -> None:
    """No request to it waits for a reply beyond its deadline, and soon each ends at once, as certainly not sent."""
    queue = stage.declare_queue(str, replies=str)
    async with stage.bus() as bus:
        async with stage.bus(echo(queue)):
            await stage.answer(bus.request(queue, "hello", timeout=stage.recovery))
        await stage.harness.delete(Address(queue.name, Kind.QUEUE))

        async def until_rejected() -> None:
            with suppress(Unroutable):
                while True:
                    with suppress(RequestTimeout):  # the one that notices it may have been stored
                        await bus.request(queue, "lost", timeout=stage.patience / 4)

        await stage.within(until_rejected(), "requests that cannot be sent")
        await rejected(stage, bus.request(queue, "lost", timeout=3600))


@guarantee("G18", needs=("away", "cut"))
async def test_a_request_without_a_broker_is_rejected_in_time(stage: Stage) -> None:
    """The broker is away: a request ends in time, as certainly not sent (where the client tells; else its confirmation
    is missing), also one of a bus that never asked before. With the broker back, the same bus asks again."""
    network = await stage.network()
    queue = stage.declare_queue(str, replies=str)
    loop = asyncio.get_running_loop()
    async with (
        stage.bus(echo(queue)) as there,
        stage.bus(url=network.url) as bus,
        stage.bus(url=network.url) as new,
    ):
        await stage.answer(there.request(queue, "hello", timeout=stage.recovery))
        await stage.answer(bus.request(queue, "hello", timeout=stage.recovery))
        await new.send(queue, "hello")
        await network.leave()
        for asking in (bus, new):
            began = loop.time()
            await rejected(stage, asking.request(queue, "lost", timeout=2.0), surely=False)
            assert loop.time() - began <= 2.2 + 0.8, "it took longer than its deadline"  # the machine may be busy
        await network.back()
        for asking in (bus, new):
            assert await stage.answer(asking.request(queue, "back", timeout=stage.recovery)) == "back"


@guarantee("G18")
async def test_replies_are_typed(stage: Stage) -> None:
    """A union, and None."""
    ask = stage.declare_queue(int, replies=Accepted | Refused)
    tell = stage.declare_queue(int, replies=None)
    told: list[int] = []
    service = Service("typed", grace=2.0)

    @service.handler(ask)
    async def answer(body: int) -> Accepted | Refused:
        return Accepted(body) if body > 0 else Refused("none")

    @service.handler(tell)
    def note(body: int) -> None:
        told.append(body)

    async with stage.bus(service) as bus:
        assert await stage.answer(bus.request(ask, 7, timeout=stage.recovery)) == Accepted(7)
        assert await stage.answer(bus.request(ask, 0, timeout=stage.recovery)) == Refused("none")
        [nothing] = await asyncio.gather(bus.request(tell, 7, timeout=stage.recovery))
        assert nothing is None
    assert told == [7]


@guarantee("G18")
async def test_a_reply_of_another_type_is_an_error(stage: Stage) -> None:
    """Who asked declares another type of reply than who answers: a DecodeError, not a wrong value."""
    queue = stage.declare_queue(str, replies=str)
    same: Queue[str, int] = Queue(queue.name, str, replies=int)
    async with stage.bus(echo(queue)), stage.bus() as bus:
        with pytest.raises(DecodeError):
            await stage.within(bus.request(same, "no number", timeout=stage.recovery), "a reply", stage.limit)


@guarantee("G18")
async def test_requests_keep_the_order_of_a_key(stage: Stage) -> None:
    """Requests to an ordered queue that are asked one after the other, and not awaited, are handled in that order."""
    queue = stage.declare_queue(tuple[str, int], replies=int, key=lambda body: body[0])
    handled: dict[str, list[int]] = defaultdict(list)
    service = Service("ordered", grace=2.0)

    @service.handler(queue, concurrency=20)
    async def handle(body: tuple[str, int]) -> int:
        handled[body[0]].append(body[1])
        return body[1]

    async with stage.bus(service) as bus:
        await stage.answer(bus.request(queue, ("first", 0), timeout=stage.recovery))
        async with asyncio.TaskGroup() as asking:
            tasks = [
                asking.create_task(stage.answer(bus.request(queue, (f"key-{n % 4}", n), timeout=stage.recovery)))
                for n in range(80)
            ]
    assert [task.result() for task in tasks] == list(range(80))
    assert all(seen == sorted(seen) for seen in handled.values()), handled


@guarantee("G18")
async def test_a_handler_asks_another(stage: Stage) -> None:
    """What a handler asks belongs to the conversation of what it handles."""
    first, second = stage.declare_queue(str, replies=str), stage.declare_queue(str, replies=str)
    seen: list[tuple[str, str | None]] = []
    service = Service("asking", grace=2.0)

    @service.handler(first)
    async def front(body: str, context: Context) -> str:
        seen.append((context.message.id, context.message.id))
        return await context.request(second, f"{body}!", timeout=stage.recovery)

    @service.handler(second)
    async def back(body: str, context: Context) -> str:
        seen.append((context.message.conversation_id, context.message.causation_id))
        return f"{body}?"

    async with stage.bus(service) as bus:
        assert await stage.answer(bus.request(first, "well", timeout=stage.recovery)) == "well!?"
    assert seen[0] == seen[1]


@guarantee("G18")
async def test_what_runs_at_shutdown_replies(stage: Stage) -> None:
    """A service ends while it handles a request: the handler ends, and who asked has the reply."""
    queue = stage.declare_queue(str, replies=str)
    begun, go_on = asyncio.Event(), asyncio.Event()
    service = Service("ending", grace=stage.limit)

    @service.handler(queue)
    async def handle(body: str) -> str:
        begun.set()
        await go_on.wait()
        return body

    async with stage.bus() as client:
        async with stage.bus(service):
            asked = stage.begin(client.request(queue, "last", timeout=stage.patience))
            await stage.within(begun.wait(), "the request")
            asyncio.get_running_loop().call_later(0.2, go_on.set)  # while the block is being left
        assert await stage.answer(asked) == "last"


@guarantee("G18")
async def test_the_end_of_the_bus_ends_its_requests(stage: Stage) -> None:
    """Whoever still waits when the block is left gets BusClosed, and not a deadline later."""
    queue = stage.declare_queue(str, replies=str)
    came = asyncio.Event()
    service = Service("slow", grace=0.1)

    @service.handler(queue)
    async def handle(body: str) -> str:
        came.set()
        await asyncio.Event().wait()
        return body

    async with stage.bus(service):
        async with stage.bus() as client:
            asked = stage.begin(client.request(queue, "hello", timeout=3600))
            await stage.within(came.wait(), "the request")
        done, _ = await asyncio.wait([asked], timeout=stage.patience)
        assert done, "it waits on"
        assert isinstance(asked.exception(), BusClosed)
        with pytest.raises(BusClosed):
            await client.request(queue, "too late", timeout=1.0)


@guarantee("G18")
async def test_conversations_under_a_prefix(stage: Stage) -> None:
    """With a prefix of all names on the broker requests are answered; who has another prefix never hears of it."""
    queue = stage.declare_queue(str, replies=str)
    answers = stage.declare_reply_queue(str)
    got: list[object] = []
    service, client = echo(queue), Service("client", grace=2.0)

    @client.handler(answers)
    async def handle(body: object) -> None:
        got.append(body)

    async with stage.bus(service, client, prefix="ann.") as bus, stage.bus(echo(queue), prefix="bob."):
        assert await stage.answer(bus.request(queue, "hello", timeout=stage.recovery)) == "hello"
        await bus.send(queue, "later", reply_to=answers)
        await eventually(lambda: got == ["later"], stage.recovery, lambda: f"{got} came")


@guarantee("G18")
async def test_conversations_where_nothing_is_made(stage: Stage) -> None:
    """With `topology = "verify"` who asks needs no more than the channels that are declared."""
    queue = stage.declare_queue(str, replies=str)
    answers = stage.declare_reply_queue(str)
    got: list[object] = []
    client = Service("client", grace=2.0)

    @client.handler(answers)
    async def handle(body: object) -> None:
        got.append(body)

    async with stage.bus(echo(queue), client), stage.bus(topology="verify") as bus:
        assert await stage.answer(bus.request(queue, "hello", timeout=stage.recovery)) == "hello"
        await stage.answer(bus.send(queue, "later", reply_to=answers))
        await eventually(lambda: got == ["later"], stage.recovery, lambda: f"{got} came")
