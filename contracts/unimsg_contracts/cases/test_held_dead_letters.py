"""Dead letters that their queue does not take: the end of G8."""

import asyncio
import re
from collections.abc import Sequence
from time import monotonic

from unimsg import Bus, Context, DeadLetter, Queue, Reject, Service, Topic
from unimsg.adapter import Address, Kind, Wanted, Wire
from unimsg.errors import PublishError
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

WATCHED = 3.0
"""Seconds in which tries to store a dead letter are counted."""
TRIES = 12
"""Of one message in that time, at most. Waits double, up to a second."""


def dead_address(address: Address) -> Address:
    """Where the dead letters of a queue or subscription lie."""
    return Address(f"{address.name}..dead", Kind.QUEUE)


def service_of(channel: Queue[str] | Topic[str], handled: Handled[str]) -> Service:
    """It rejects what is called "bad"."""
    made = Service("orders", grace=2.0)

    @made.handler(channel)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if body == "bad":
            raise Reject("never")

    return made


def tries_of(stage: Stage, target: Address) -> list[float]:
    """When each try to send to `target` began, of the buses that are connected from now on."""
    tries: list[float] = []

    class Counting(stage.adapter_type):  # type: ignore[misc, name-defined]  # whatever adapter it is
        async def send(
            self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
        ) -> Sequence[PublishError | None]:
            if address == target:
                tries.append(monotonic())
            outcomes: Sequence[PublishError | None] = await super().send(
                address, messages, timeout=timeout, delay=delay
            )
            return outcomes

    stage.adapter_type = Counting
    return tries


async def few_tries(tries: Sequence[float]) -> int:
    """How many there are while it watches: some, and no hail of them."""
    before = len(tries)
    await asyncio.sleep(WATCHED)
    count = len(tries) - before
    assert 0 < count <= TRIES, f"{count} tries in {WATCHED:g} s"
    return count


async def is_held(stage: Stage, bus: Bus, dead: Address, what_to_do: str) -> None:
    """`health` says that a message cannot go to `dead`, and what to do."""
    problems: list[str] = []

    async def told() -> bool:
        health = await bus.health()
        problems[:] = [problem for problem in health.problems if dead.channel in problem]
        return bool(problems) and not health.ready

    await eventually(told, stage.recovery, lambda: "health does not tell that the message cannot go on")
    (problem,) = problems
    assert "cannot go on" in problem, problem
    assert re.search(what_to_do, problem), f"it does not say what to do: {problem}"


async def is_dead(stage: Stage, bus: Bus, channel: Queue[str] | Topic[str], subscription: str | None = None) -> None:
    """The bad one, whole, once, and everything is well."""
    letters: list[DeadLetter] = []

    async def done() -> bool:
        letters[:] = [letter async for letter in bus.dead_letters(channel, subscription)]
        return bool(letters) and (await bus.health()).ready

    await eventually(done, stage.recovery, lambda: f"{len(letters)} dead letters, and not all is well")
    assert [(letter.message.body, letter.reason) for letter in letters] == [(b"bad", "rejected")]


@guarantee("G8", needs=("full",))
async def test_a_full_dead_letter_queue_holds_its_messages(stage: Stage) -> None:
    """The dead-letter queue refuses: the message stays, across processes, and is tried again now and then; others are
    handled; once there is room it is a dead letter."""
    queue = stage.declare_queue(str)
    dead = dead_address(Address(queue.name, Kind.QUEUE))
    first, second = Handled[str](), Handled[str]()
    async with stage.bus(service_of(queue, first)):
        pass  # makes the channels
    tries = tries_of(stage, dead)
    async with stage.harness.full(dead):
        async with stage.bus(service_of(queue, first), topology="off") as bus:
            for body in ("bad", "good"):
                await bus.send(queue, body)
            await is_held(stage, bus, dead, "make room|raise")
            await eventually(lambda: bool(first.of("good")), stage.recovery, lambda: "others wait for it")
            count = await few_tries(tries)
        assert first.attempts("bad") == [1], "it was handled again, though only its copy failed"
    async with stage.bus(service_of(queue, second), topology="off") as bus:
        await is_dead(stage, bus, queue)
        await bus.send(queue, "later")
        await eventually(lambda: bool(second.of("later")), stage.recovery, lambda: "nothing later came")
    assert second.attempts("bad") == [1], "it was acknowledged, or counted as failed"
    assert not second.of("good"), "a neighbour was held, too"
    stage.record(f"a dead letter that was refused was tried {count} times in {WATCHED:g} s")


@guarantee("G8", needs=("full",))
async def test_a_dead_letter_goes_on_once_there_is_room(stage: Stage) -> None:
    """Room is made while its process runs: it is a dead letter then, and was handled once."""
    queue = stage.declare_queue(str)
    dead = dead_address(Address(queue.name, Kind.QUEUE))
    handled = Handled[str]()
    async with stage.bus(service_of(queue, handled)):
        pass  # makes the channels
    async with stage.bus(service_of(queue, handled), topology="off") as bus:
        async with stage.harness.full(dead):
            await bus.send(queue, "bad")
            await is_held(stage, bus, dead, "make room|raise")
        await is_dead(stage, bus, queue)
    assert handled.attempts("bad") == [1]


@guarantee("G8", needs=("revoke",))
async def test_a_forbidden_dead_letter_queue_holds_its_messages(stage: Stage) -> None:
    """The service may not write there: its message stays, and no other one; once it may, it is a dead letter."""
    topic = stage.declare_topic(str)
    dead = dead_address(Address(topic.name, Kind.TOPIC, "orders"))
    handled, others = Handled[str](), Handled[str]()
    other = Service("billing", grace=2.0)

    @other.handler(topic)
    async def take(body: str, context: Context) -> None:
        others.note(body, context)

    async with stage.bus(service_of(topic, handled)):
        pass  # makes the channels
    url, options = await stage.harness.revoke(dead)
    async with stage.bus(other) as owner:
        tries = tries_of(stage, dead)
        async with stage.bus(service_of(topic, handled), url=url, options=options, topology="off") as bus:
            for body in ("bad", "good"):
                await owner.publish(topic, body)
            await is_held(stage, bus, dead, "grant")
            await eventually(lambda: bool(handled.of("good")), stage.recovery, lambda: "others wait for it")
            await eventually(lambda: bool(others.of("good")), stage.recovery, lambda: "other subscriptions wait")
            await few_tries(tries)
            await stage.harness.grant(dead)
            await is_dead(stage, bus, topic, "orders")
    assert handled.attempts("bad") == others.attempts("bad") == [1]


@guarantee("G8", needs=("delete",))
async def test_a_dead_letter_that_cannot_be_stored_is_held(stage: Stage) -> None:
    """The dead-letter queue is deleted and nobody may make it anew: the message stays, and `health` says why; others
    are handled; nothing is lost."""
    queue = stage.declare_queue(str)
    dead = dead_address(Address(queue.name, Kind.QUEUE))
    handled = Handled[str]()
    async with stage.bus(service_of(queue, handled)):
        pass  # makes the channels
    async with stage.bus(service_of(queue, handled), topology="off") as bus:
        await stage.harness.delete(dead)
        await bus.send(queue, "bad")
        await bus.send(queue, "good")
        await is_held(stage, bus, dead, "create|make it")
        await eventually(lambda: bool(handled.of("good")), stage.recovery, lambda: "others wait for it")
    async with stage.bus(service_of(queue, handled)) as bus:
        await is_dead(stage, bus, queue)


@guarantee("G8", needs=("delete",))
async def test_a_dead_letter_that_is_held_holds_its_key_only(stage: Stage) -> None:
    """On an ordered channel the messages of its key wait behind it, and other keys' are handled. Somebody makes the
    queue: it is a dead letter, and its key goes on in order."""
    queue = stage.declare_queue(str, ordered=True)
    source = Address(queue.name, Kind.QUEUE, partitions=8)
    dead = dead_address(source)
    handled = Handled[str]()
    async with stage.bus(service_of(queue, handled)):
        pass  # makes the channels
    owner = await stage.adapter()
    async with stage.bus(service_of(queue, handled), topology="off") as bus:
        await stage.harness.delete(dead)
        for body, key in (("a", "k"), ("bad", "k"), ("b", "k"), ("c", "k")):
            await bus.send(queue, body, key=key)
        await is_held(stage, bus, dead, "create|make it")
        for n in range(8):
            await bus.send(queue, f"other {n}", key=f"other {n}")
        await eventually(lambda: len(handled.seen) >= 10, stage.recovery, lambda: f"only {handled.bodies}")
        assert handled.bodies[:2] == ["a", "bad"]
        assert not {"b", "c"} & set(handled.bodies), "its key went on without it"
        await stage.ensure(owner, dead, Wanted())
        await is_dead(stage, bus, queue)
        await eventually(lambda: bool(handled.of("c")), stage.recovery, lambda: f"only {handled.bodies}")
    assert [body for body in handled.bodies if not body.startswith("other")] == ["a", "bad", "b", "c"]
