"""Dead letters: G8 as users see it."""

import asyncio
from datetime import UTC, datetime, timedelta

from unimsg import Context, DeadLetter, Reject, Retry, Service
from unimsg.adapter import Address, Kind, Operations, Wire
from unimsg_contracts.handled import Handled
from unimsg_contracts.harness import Foreign
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


@guarantee("G8")
async def test_the_last_attempt_makes_a_dead_letter(stage: Stage) -> None:
    """After its last attempt a message is a dead letter, with all that it was and all that is known; others go on."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    service = Service("orders", grace=2.0, retry=Retry(0.2))

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if body == "bad":
            raise ArithmeticError("secret: 4711")

    began = datetime.now(UTC) - timedelta(seconds=1)
    async with stage.bus(service) as bus:
        id = await bus.send(queue, "bad", headers={"tenant": "acme"})
        await bus.send(queue, "good")
        letters: list[DeadLetter] = []

        async def dead() -> bool:
            letters[:] = [letter async for letter in bus.dead_letters(queue)]
            return bool(letters)

        await eventually(dead, stage.recovery, lambda: f"no dead letter after attempts {handled.attempts('bad')}")
        again = [letter async for letter in bus.dead_letters(queue)]
    (letter,) = letters
    assert [each.message.id for each in again] == [id], "reading them removes or repeats them"
    assert handled.attempts("bad") == [1, 2]
    assert handled.attempts("good") == [1]
    message = letter.message
    assert (message.id, message.body, message.headers) == (id, b"bad", {"tenant": "acme"})
    assert message.content_type.startswith("text/plain")
    assert (letter.reason, letter.error_type, letter.error_text) == ("failed", "ArithmeticError", "")
    assert (letter.attempts, letter.origin) == (2, queue.name)
    assert letter.handler.startswith("orders:")
    assert began <= letter.first_failed < letter.last_failed <= datetime.now(UTC) + timedelta(seconds=1)


@guarantee("G8")
async def test_a_rejected_message_is_dead_at_once(stage: Stage) -> None:
    """`Reject` and errors that are final end it at the first attempt, with the text of the `Reject`."""
    topic = stage.declare_topic(str)
    handled = Handled[str]()
    service = Service("billing", grace=2.0, retry=Retry(0.1, 0.1, final=(LookupError,)))

    @service.handler(topic)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if body == "rejected":
            raise Reject("no such customer", code="unknown-customer")
        if body == "final":
            raise KeyError("hidden")

    async with stage.bus(service) as bus:
        for body in ("rejected", "final", "good"):
            await bus.publish(topic, body)
        letters: dict[bytes, DeadLetter] = {}

        async def dead() -> bool:
            letters.update({letter.message.body: letter async for letter in bus.dead_letters(topic, "billing")})
            return len(letters) >= 2 and bool(handled.of("good"))

        await eventually(dead, stage.recovery, lambda: f"dead {list(letters)}, handled {handled.bodies}")
    rejected, final = letters[b"rejected"], letters[b"final"]
    assert (rejected.reason, rejected.error_text, rejected.attempts) == ("rejected", "no such customer", 1)
    assert (final.reason, final.error_type, final.error_text, final.attempts) == ("failed", "KeyError", "", 1)
    assert rejected.origin == f"{topic.name}/billing"
    assert handled.attempts("rejected") == handled.attempts("final") == [1]


@guarantee("G8", needs=("foreign",))
async def test_an_undecodable_message_is_dead_at_once(stage: Stage) -> None:
    """A body that does not fit reaches no handler, keeps its bytes, and stops nobody."""
    queue = stage.declare_queue(dict[str, int])
    seen: list[int] = []
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    async def handle(body: dict[str, int]) -> None:
        seen.append(body["n"])

    adapter = await stage.adapter()
    address = await stage.ensure(adapter, Address(queue.name, Kind.QUEUE))
    async with stage.bus(service) as bus:
        await stage.harness.put(address, Foreign(b"{broken", content_type="application/json"))
        for n in range(8):
            await bus.send(queue, {"n": n})
        letters: list[DeadLetter] = []

        async def dead() -> bool:
            letters[:] = [letter async for letter in bus.dead_letters(queue)]
            return bool(letters) and len(set(seen)) >= 8

        await eventually(dead, stage.recovery, lambda: f"{len(letters)} dead, {seen} handled")
    (letter,) = letters
    assert (letter.message.body, letter.reason, letter.error_type) == (b"{broken", "undecodable", "DecodeError")


@guarantee("G8")
async def test_each_subscription_has_its_own_dead_letters(stage: Stage) -> None:
    """What one subscription gave up is no dead letter of another, nor of the topic's other receivers."""
    topic = stage.declare_topic(str)
    handled = Handled[str]()
    one, two = Service("one", grace=2.0), Service("two", grace=2.0)

    @one.handler(topic)
    async def reject(body: str) -> None:
        raise Reject("never")

    @two.handler(topic)
    async def take(body: str, context: Context) -> None:
        handled.note(body, context)

    async with stage.bus(one, two) as bus:
        await bus.publish(topic, "placed")

        async def dead() -> bool:
            return [letter.message.body async for letter in bus.dead_letters(topic, "one")] == [b"placed"]

        await eventually(dead, stage.recovery, lambda: "no dead letter")
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "the other subscription got nothing")
        assert [letter async for letter in bus.dead_letters(topic, "two")] == []


@guarantee("G8")
async def test_redrive_puts_back_what_is_chosen(stage: Stage) -> None:
    """As if sent anew: the same id, key and headers, from the first attempt. What is not chosen stays."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    headers: dict[str, object] = {}
    broken = True
    service = Service("orders", grace=2.0, retry=Retry())

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if broken:
            raise Reject(body)
        message = context.message
        headers[body] = (message.id, message.key, dict(message.headers))

    async with stage.bus(service) as bus:
        sent = {body: await bus.send(queue, body, key="k", headers={"n": body}) for body in ("a", "b", "c", "d")}
        letters: list[DeadLetter] = []

        async def dead() -> bool:
            letters[:] = [letter async for letter in bus.dead_letters(queue)]
            return len(letters) >= 4

        await eventually(dead, stage.recovery, lambda: f"{len(letters)} of 4 dead")
        broken = False
        handled.seen.clear()
        count = await stage.within(
            bus.redrive(queue, where=lambda letter: letter.error_text in ("a", "b")), "redrive", 3 * stage.recovery
        )
        await eventually(lambda: len(handled.seen) >= 2, stage.recovery, lambda: f"{handled.bodies} came back")
        left = {letter.message.body async for letter in bus.dead_letters(queue)}
        one = await stage.within(bus.redrive(queue, limit=1), "redrive", 3 * stage.recovery)
        await eventually(lambda: len(handled.seen) >= 3, stage.recovery, lambda: f"{handled.bodies} came back")
        rest = [letter async for letter in bus.dead_letters(queue)]
    assert (count, left, one, len(rest)) == (2, {b"c", b"d"}, 1, 1)
    assert {"a", "b"} < set(handled.bodies)
    assert all(handled.attempts(body) == [1] for body in handled.bodies)
    assert all(headers[body] == (sent[body], "k", {"n": body}) for body in handled.bodies)


@guarantee("G8")
async def test_redrive_gets_past_what_is_not_wanted(stage: Stage) -> None:
    """What is chosen is found behind more than a process may hold, and is put back; all the rest stays."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)

    adapter = await stage.adapter()
    dead_letters = Address(f"{queue.name}..dead", Kind.QUEUE)
    others = [stage.wire(bytes(900_000)) for _ in range(40)]  # 36 MB
    async with stage.bus(service) as bus:
        for at in range(0, len(others), 5):
            await stage.send(adapter, dead_letters, others[at : at + 5])
        await stage.send(adapter, dead_letters, [stage.wire(b"wanted", headers={"content-type": "text/plain"})])
        redrive = bus.redrive(queue, where=lambda letter: letter.message.body == b"wanted")
        assert await stage.within(redrive, "redrive", stage.limit / 2) == 1
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "it does not come back")
    reader = await stage.reader(adapter, dead_letters)
    await stage.arrive(others, reader, patience=stage.recovery)
    assert handled.bodies == ["wanted"]


@guarantee("G8")
async def test_dropping_removes_what_is_chosen(stage: Stage) -> None:
    """For good: it is handled by nobody and shown no more. What is not chosen stays, and can be put back."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    broken = True
    service = Service("orders", grace=2.0, retry=Retry())

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if broken:
            raise Reject(body)

    async with stage.bus(service) as bus:
        for body in ("a", "b", "c", "d"):
            await bus.send(queue, body)
        left: set[str] = set()

        async def are_left(count: int) -> bool:
            left.clear()
            left.update([letter.message.body.decode() async for letter in bus.dead_letters(queue)])
            return len(left) == count

        await eventually(lambda: are_left(4), stage.recovery, lambda: f"{left} are dead")
        broken = False
        handled.seen.clear()
        chosen = bus.drop_dead_letters(queue, where=lambda letter: letter.error_text in ("a", "b"))
        assert await stage.within(chosen, "drop", 3 * stage.recovery) == 2
        await eventually(lambda: are_left(2), stage.recovery, lambda: f"{left} are left")
        assert left == {"c", "d"}
        assert await stage.within(bus.drop_dead_letters(queue, limit=1), "drop", 3 * stage.recovery) == 1
        await eventually(lambda: are_left(1), stage.recovery, lambda: f"{left} are left")
        assert await stage.within(bus.redrive(queue), "redrive", 3 * stage.recovery) == 1
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "nothing came back")
    assert set(handled.bodies) <= {"c", "d"}


@guarantee("G8")
async def test_redrive_reaches_one_subscription(stage: Stage) -> None:
    """A dead letter of a subscription comes back to it alone."""
    topic = stage.declare_topic(str)
    handled, other = Handled[str](), Handled[str]()
    broken = True
    one, two = Service("one", grace=2.0), Service("two", grace=2.0)

    @one.handler(topic)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if broken:
            raise Reject("not yet")

    @two.handler(topic)
    async def take(body: str, context: Context) -> None:
        other.note(body, context)

    async with stage.bus(one, two) as bus:
        await bus.publish(topic, "placed")

        async def dead() -> bool:
            return bool([letter async for letter in bus.dead_letters(topic, "one")])

        await eventually(dead, stage.recovery, lambda: "no dead letter")
        broken = False
        assert await stage.within(bus.redrive(topic, "one"), "redrive", 3 * stage.recovery) == 1
        await eventually(lambda: len(handled.seen) >= 2, stage.recovery, lambda: "it does not come back")
        await bus.publish(topic, "later")
        await eventually(
            lambda: bool(other.of("later")) and bool(handled.of("later")), stage.recovery, lambda: "nothing later came"
        )
    assert handled.attempts("placed") == [1, 1]
    assert other.attempts("placed") == [1]


@guarantee("G8")
async def test_an_interrupted_redrive_loses_nothing(stage: Stage) -> None:
    """A redrive is cancelled in the middle: every message is where it came from, or still a dead letter."""
    queue = stage.declare_queue(int)
    handled: set[int] = set()
    broken = True
    service = Service("orders", grace=2.0, retry=Retry())

    @service.handler(queue)
    async def handle(body: int) -> None:
        if broken:
            raise Reject("not yet")
        handled.add(body)

    async with stage.bus(service) as bus:
        async with bus.pipeline() as pipeline:
            for n in range(20):
                await pipeline.send(queue, n)
        letters: set[int] = set()

        async def dead() -> bool:
            letters.update([int(letter.message.body) async for letter in bus.dead_letters(queue)])
            return len(letters) >= 20

        await eventually(dead, stage.recovery, lambda: f"{len(letters)} of 20 dead")
        broken = False
        redrive = asyncio.create_task(bus.redrive(queue, rate=20))
        await eventually(lambda: len(handled) >= 5, 2 * stage.recovery, lambda: f"{len(handled)} came back")
        redrive.cancel()
        await asyncio.wait([redrive])
        left = {int(letter.message.body) async for letter in bus.dead_letters(queue)}

        async def all_there() -> bool:
            left.clear()
            left.update([int(letter.message.body) async for letter in bus.dead_letters(queue)])
            return left | handled == set(range(20))

        await eventually(all_there, stage.recovery, lambda: f"lost {set(range(20)) - left - handled}")
    assert left, "the redrive was not interrupted"


@guarantee("G8")
async def test_a_dead_letter_lets_its_key_go_on(stage: Stage) -> None:
    """On an ordered channel, what waits behind a dead letter is handled then, in order."""
    queue = stage.declare_queue(int, ordered=True)
    handled = Handled[int]()
    service = Service("orders", grace=2.0, retry=Retry(0.2))

    @service.handler(queue)
    async def handle(body: int, context: Context) -> None:
        handled.note(body, context)
        if body == 1:
            raise RuntimeError("on purpose")

    async with stage.bus(service) as bus:
        for n in range(4):
            await bus.send(queue, n, key="k")
        await eventually(lambda: 3 in handled.bodies, stage.recovery, lambda: f"only {handled.bodies}")
        letters = [letter async for letter in bus.dead_letters(queue)]
    assert handled.bodies == [0, 1, 1, 2, 3]
    assert [(letter.message.body, letter.attempts, letter.message.key) for letter in letters] == [(b"1", 2, "k")]


@guarantee("G8")
async def test_browsing_removes_nothing(stage: Stage) -> None:
    """The port: `browse` shows what waits, as often as it is asked, and a receiver gets all of it afterwards."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    wires = stage.wires(12)
    await stage.send(adapter, queue, wires)
    operations = adapter.operations()

    async def browsed(limit: int) -> list[str]:
        return [wire.id for wire in await stage.within(_browsed(operations, queue, limit, stage.recovery), "browse")]

    assert sorted(await browsed(100)) == sorted(wire.id for wire in wires)
    assert len(await browsed(5)) == 5
    assert sorted(await browsed(100)) == sorted(wire.id for wire in wires)
    shown = await _browsed(operations, queue, 100, stage.recovery)
    assert {(wire.id, wire.body) for wire in shown} == {(wire.id, wire.body) for wire in wires}
    reader = await stage.reader(adapter, queue)
    await stage.exactly(adapter, queue, wires, reader, patience=stage.recovery)


async def _browsed(operations: Operations, address: Address, limit: int, timeout: float) -> list[Wire]:
    return [wire async for page in operations.browse(address, limit=limit, timeout=timeout) for wire in page]
