"""The command line, as a process on a real broker: what it promises to those who are not looking on."""

import json
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from unimsg import Context, Reject, Retry, Service
from unimsg.adapter import Address, ChannelMissing, Kind
from unimsg_contracts.commands import Command, run
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

APP = """
import asyncio, os, unimsg

queue = unimsg.Queue({queue!r}, int)
service = unimsg.Service("worker", grace=10)


@service.handler(queue, concurrency=2)
async def handle(number: int) -> None:
    await asyncio.sleep(0.05)
    os.write(1, f"{{number}}\\n".encode())
"""


def settings(stage: Stage) -> dict[str, Any]:
    """For the environment of a command."""
    return {"brokers": {"default": {"url": stage.harness.url, **stage.harness.options}}}


@guarantee("G2", needs=("processes",))
async def test_tail_takes_nothing_and_leaves_nothing(stage: Stage) -> None:
    """It shows what is published while it watches, in order of a key; the service gets it all; and its subscription is
    gone, however it ends."""
    topic = stage.declare_topic(int, ordered=True)
    handled = Handled[int]()
    service = Service("billing", grace=2.0)

    @service.handler(topic)
    async def handle(body: int, context: Context) -> None:
        handled.note(body, context)

    adapter = await stage.adapter()
    async with stage.bus(service) as bus:
        sent = 0
        for how in (signal.SIGTERM, signal.SIGINT, None):
            limit = ("--limit", "5") if how is None else ()
            async with Command(settings(stage), "tail", topic.name, "--json", *limit) as tail:
                own = (await tail.says("watching")).partition("subscription ")[2].partition(";")[0]
                bodies = list(range(sent, sent + 5))
                for body in bodies:
                    await bus.publish(topic, body, key="k")
                sent += 5
                await eventually(lambda: len(tail.out) >= 5, stage.recovery, lambda: f"it showed {tail.out}")
                if how is not None:
                    tail.signal(how)
                assert await tail.ends() == 0, tail.err
                assert [(message["body"], message["key"]) for message in tail.json] == [(n, "k") for n in bodies]
            with pytest.raises(ChannelMissing):
                await adapter.operations().find(Address(topic.name, Kind.TOPIC, own), timeout=stage.recovery)
        await eventually(
            lambda: set(handled.bodies) == set(range(15)), stage.recovery, lambda: f"the service got {handled.bodies}"
        )


@guarantee("G2", needs=("processes", "declared_order"))
async def test_tail_never_reads_from_a_queue(stage: Stage) -> None:
    """It says why, and ends with 2; the messages are all there."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    wires = stage.wires(5)
    await stage.send(adapter, queue, wires)
    code, out, err = await run(settings(stage), "tail", queue.channel)
    assert (code, out) == (2, []), err
    assert "tail never does" in err
    await stage.exactly(adapter, queue, wires, await stage.reader(adapter, queue))


@guarantee("G1", needs=("processes",))
async def test_send_reaches_what_it_names(stage: Stage) -> None:
    """By its name alone a queue or a topic gets what was sent, keys in order; one that is not there is an error, and is
    not made."""
    queue, ordered, topic = stage.declare_queue(int), stage.declare_queue(int, ordered=True), stage.declare_topic(int)
    handled = Handled[int]()
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    @service.handler(ordered)
    @service.handler(topic)
    async def handle(body: int, context: Context) -> None:
        handled.note(body, context)

    async with stage.bus(service):
        orders = [(queue.name,), (topic.name, "--topic"), *[(ordered.name, "--key", "k")] * 2]
        ids: list[str] = []
        for number, arguments in enumerate(orders):
            body = str(number).encode()
            code, out, err = await run(settings(stage), "send", *arguments, "--header", "tenant=acme", stdin=body)
            assert (code, len(out)) == (0, 1), err
            ids += out
        await eventually(
            lambda: len(handled.seen) >= len(orders), stage.recovery, lambda: f"handled {handled.bodies} of {ids}"
        )
        assert sorted(handled.bodies) == list(range(len(orders)))
        assert handled.bodies.index(2) < handled.bodies.index(3), "the order of the key"
        missing = stage.queue_address()
        code, out, err = await run(settings(stage), "send", missing.channel, stdin=b"1")
        assert (code, out) == (2, []), err
        assert missing.channel in err
    adapter = await stage.adapter()
    with pytest.raises(ChannelMissing):
        await adapter.operations().find(missing, timeout=stage.recovery)


@asynccontextmanager
async def with_dead_letters(stage: Stage, *bodies: str) -> AsyncIterator[tuple[Any, Any, Handled[str]]]:
    """A bus, a queue and what is handled of it from now on; so many were rejected before."""
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
        for body in bodies:
            await bus.send(queue, body)

        async def dead() -> bool:
            return len([letter async for letter in bus.dead_letters(queue)]) >= len(bodies)

        await eventually(dead, stage.recovery, lambda: f"not all are dead letters: {handled.bodies}")
        broken = False
        handled.seen.clear()
        yield bus, queue, handled


@guarantee("G8", needs=("processes",))
async def test_dead_letters_by_command(stage: Stage) -> None:
    """They are listed, shown, put back and dropped, each time those that are meant and no other."""
    async with with_dead_letters(stage, "a", "b", "c", "d") as (bus, queue, handled):
        wanted = settings(stage)
        code, out, err = await run(wanted, "dead", "list", queue.name, "--json")
        letters = {letter["body"]: letter for letter in map(json.loads, out)}
        assert (code, sorted(letters)) == (0, ["a", "b", "c", "d"]), err
        assert letters["a"]["dead"]["reason"] == "rejected"
        code, out, err = await run(wanted, "dead", "show", queue.name, letters["b"]["id"])
        assert (code, out[-1]) == (0, "b"), err
        code, out, err = await run(wanted, "dead", "redrive", queue.name, "--where", "error_text=a", "--json")
        assert (code, out) == (0, ['{"redriven": 1}']), err
        await eventually(lambda: handled.bodies == ["a"], stage.recovery, lambda: f"{handled.bodies} came back")
        code, out, err = await run(wanted, "dead", "drop", queue.name, "--where", "error_text=b")
        assert code == 2, "it was neither asked nor told to"
        code, out, err = await run(wanted, "dead", "drop", queue.name, "--where", "error_text=b", "--yes", "--json")
        assert (code, out) == (0, ['{"dropped": 1}']), err

        left: list[str] = []

        async def are_left() -> bool:
            left[:] = [letter.message.body.decode() async for letter in bus.dead_letters(queue)]
            return sorted(left) == ["c", "d"]

        await eventually(are_left, stage.recovery, lambda: f"{left} are left")
        assert handled.bodies == ["a"]


@guarantee("G8", needs=("processes",))
async def test_redrive_by_command_reaches_one_subscription(stage: Stage) -> None:
    """Also of an ordered topic, which the command knows by name only."""
    topic = stage.declare_topic(str, ordered=True)
    handled, other = Handled[str](), Handled[str]()
    broken = True
    one, two = Service("one", grace=2.0, retry=Retry()), Service("two", grace=2.0)

    @one.handler(topic)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if broken:
            raise Reject("not yet")

    @two.handler(topic)
    async def take(body: str, context: Context) -> None:
        other.note(body, context)

    async with stage.bus(one, two) as bus:
        await bus.publish(topic, "placed", key="k")

        async def dead() -> bool:
            return bool([letter async for letter in bus.dead_letters(topic, "one")])

        await eventually(dead, stage.recovery, lambda: "no dead letter")
        broken = False
        code, out, err = await run(settings(stage), "dead", "redrive", f"{topic.name}/one")
        assert (code, out) == (0, ["1 dead letter put back"]), err
        await eventually(lambda: len(handled.seen) >= 2, stage.recovery, lambda: "it does not come back")
        await bus.publish(topic, "later", key="k")
        await eventually(
            lambda: bool(other.of("later")) and bool(handled.of("later")), stage.recovery, lambda: "nothing later came"
        )
    assert handled.attempts("placed") == [1, 1]
    assert other.attempts("placed") == [1]


@guarantee("G17", needs=("processes", "hosts"))
async def test_the_doctor_tells_well_from_ill(stage: Stage) -> None:
    """On a broker that works it ends with 0 and has made nothing; where none is it ends with 1 and says what to do."""
    queue = stage.queue_address()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP.format(queue=queue.channel))
        arguments = ("doctor", "--app", "app:service", "--json")
        code, out, err = await run(settings(stage), *arguments, folder=Path(folder))
        checks = [json.loads(line) for line in out]
        assert (code, err) == (0, ""), out
        assert any(check["state"] == "ok" and "connected" in check["text"] for check in checks), checks
        assert any(check["what"] == queue.channel for check in checks), checks
    adapter = await stage.adapter()
    with pytest.raises(ChannelMissing):
        await adapter.operations().find(queue, timeout=stage.recovery)
    nowhere = {"brokers": {"default": {"url": stage.harness.at("127.0.0.1", 1), "connect_timeout": 3}}}
    code, out, err = await run(nowhere, "doctor", "--json")
    problems = [check["text"] for check in map(json.loads, out) if check["state"] == "problem"]
    assert code == 1, err
    assert len(problems) == 1
    assert "127.0.0.1:1" in problems[0]


@guarantee("G10", needs=("processes",))
async def test_run_drains_its_workers(stage: Stage) -> None:
    """Two processes share the work. A SIGTERM in the middle ends them well, and who comes after them handles the
    rest: nothing is lost."""
    queue = stage.declare_queue(int)
    numbers = set(range(60))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP.format(queue=queue.name))
        async with stage.bus() as bus:
            for number in numbers:
                await bus.send(queue, number)
        done: set[int] = set()
        for workers in ("2", "1"):
            async with Command(settings(stage), "run", "app:service", "--workers", workers, folder=Path(folder)) as app:
                wanted = 10 if workers == "2" else len(numbers - done)
                await eventually(
                    lambda: len(app.out) >= wanted,  # noqa: B023
                    3 * stage.recovery,
                    lambda: f"{len(app.out)} of {wanted} handled: {app.err}",  # noqa: B023
                )
                app.signal(signal.SIGTERM)
                assert await app.ends() == 0, app.err
                done |= {int(line) for line in app.out}
    assert done == numbers
