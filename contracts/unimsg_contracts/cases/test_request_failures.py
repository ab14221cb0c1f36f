"""Requests that fail: G18, what whoever asked is told, and when."""

from time import monotonic

from unimsg import Context, Queue, Reject, Retry, Service
from unimsg.adapter import Address, Kind
from unimsg_contracts.asking import failure
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.stage import Stage


@guarantee("G18")
async def test_a_rejection_reaches_who_asked(stage: Stage) -> None:
    """With its code and text, at the first attempt. It is no dead letter: the caller was told."""
    queue = stage.declare_queue(str, replies=str)
    handled = Handled[str]()
    service = Service("rejecting", grace=2.0)

    @service.handler(queue)
    async def handle(body: str, context: Context) -> str:
        handled.note(body, context)
        raise Reject("there is no such order", code="no-such-order")

    async with stage.bus(service) as bus:
        told = await failure(stage, bus.request(queue, "x", timeout=stage.recovery))
        assert (told.code, told.text) == ("no-such-order", "there is no such order")
        await stage.breathe(await stage.adapter())
        assert [letter async for letter in bus.dead_letters(queue)] == []
    assert handled.attempts("x") == [1]


@guarantee("G18")
async def test_an_error_is_told_without_its_text(stage: Stage) -> None:
    """After the last attempt, as "internal"; its text may hold anything, and travels only if that is allowed."""
    closed, open_ = stage.declare_queue(str, replies=str), stage.declare_queue(str, replies=str)
    one = Service("silent", grace=2.0, retry=Retry(0.1))
    two = Service("open", grace=2.0, retry=Retry(), expose_errors=True)
    attempts: list[int] = []

    @one.handler(closed)
    async def fail(body: str, context: Context) -> str:
        attempts.append(context.attempt)
        raise RuntimeError("the password is 1234")

    @two.handler(open_)
    async def fail_openly(body: str) -> str:
        raise RuntimeError("out of paper")

    async with stage.bus(one, two) as bus:
        told = await failure(stage, bus.request(closed, "x", timeout=stage.recovery))
        assert (told.code, told.text) == ("internal", "")
        assert attempts == [1, 2]
        told = await failure(stage, bus.request(open_, "x", timeout=stage.recovery))
        assert (told.code, told.text) == ("internal", "out of paper")
        assert [letter async for letter in bus.dead_letters(closed)] == []


@guarantee("G18")
async def test_a_request_is_retried_within_its_deadline_only(stage: Stage) -> None:
    """A first failure is retried; when the next attempt would be too late, who asked is told at once."""
    queue = stage.declare_queue(str, replies=str)
    handled = Handled[str]()
    service = Service("failing", grace=2.0, retry=Retry(0.1, 3600))

    @service.handler(queue)
    async def handle(body: str, context: Context) -> str:
        handled.note(body, context)
        if body == "hopeless" or context.attempt == 1:
            raise RuntimeError("on purpose")
        return body

    async with stage.bus(service) as bus:
        assert await stage.answer(bus.request(queue, "once", timeout=stage.recovery)) == "once"
        began = monotonic()
        assert (await failure(stage, bus.request(queue, "hopeless", timeout=3000))).code == "internal"
        assert monotonic() - began >= 0.1
    assert handled.attempts("once") == [1, 2]
    assert handled.attempts("hopeless") == [1, 2]


@guarantee("G18")
async def test_an_undecodable_request_is_told(stage: Stage) -> None:
    """Who asked hears of it at once, and the next request is answered."""
    queue = stage.declare_queue(int, replies=int)
    same: Queue[str, int] = Queue(queue.name, str, replies=int)
    service = Service("double", grace=2.0)

    @service.handler(queue)
    async def handle(body: int) -> int:
        return 2 * body

    async with stage.bus(service), stage.bus() as bus:
        told = await failure(stage, bus.request(same, "no number", timeout=stage.recovery))
        assert told.code == "undecodable"
    async with stage.bus(service) as bus:
        assert await stage.answer(bus.request(queue, 7, timeout=stage.recovery)) == 14


@guarantee("G18")
async def test_a_reply_that_cannot_travel_is_an_error(stage: Stage) -> None:
    """One that is not declared, or too large: the handler has failed, and has sent nothing; who asked hears of it."""
    queue, out = stage.declare_queue(str, replies=str), stage.declare_queue(str)
    service = Service("odd", grace=2.0, retry=Retry())

    @service.handler(queue)
    async def handle(body: str, context: Context) -> str:
        await context.send(out, body)
        return 7 if body == "a number" else "x" * 1_000_001 if body == "too much" else body  # type: ignore[return-value]  # what is told

    adapter = await stage.adapter()
    reader = await stage.reader(adapter, await stage.ensure(adapter, Address(out.name, Kind.QUEUE)))
    async with stage.bus(service) as bus:
        for body in ("a number", "too much"):
            assert (await failure(stage, bus.request(queue, body, timeout=stage.recovery))).code == "internal"
        assert await stage.answer(bus.request(queue, "fine", timeout=stage.recovery)) == "fine"
        await stage.count(1, reader)
    assert [delivery.wire.body for delivery in reader.got] == [b"fine"]


@guarantee("G18", needs=("delete",))
async def test_the_reply_comes_after_what_the_handler_sent(stage: Stage) -> None:
    """What a handler sends is confirmed before its reply goes out; if it is not, the handler has failed."""
    queue, out = stage.declare_queue(str, replies=str), stage.declare_queue(str)
    service = Service("sending", grace=2.0, retry=Retry())

    @service.handler(queue)
    async def handle(body: str, context: Context) -> str:
        await context.send(out, body)
        return body

    adapter = await stage.adapter()
    address = await stage.ensure(adapter, Address(out.name, Kind.QUEUE))
    async with stage.bus(service) as bus:
        assert await stage.answer(bus.request(queue, "fine", timeout=stage.recovery)) == "fine"
        await stage.harness.delete(address)
        assert (await failure(stage, bus.request(queue, "lost", timeout=stage.recovery))).code == "internal"
