"""The end of a service, and a lost connection: what runs may end, the rest comes again, nothing counts as a failure."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from policies import SOON, held
from waiting import came, until

import unimsg
from unimsg import Bus, Context, Queue, Retry, Service, Topic
from unimsg.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("shutdown.numbers", int)
results = Queue("shutdown.results", int)
ordered = Topic("shutdown.ordered", int, ordered=True)


def waiting(queue: str) -> int:
    """Messages that a queue holds and nobody has."""
    return MemoryBroker.current().queues[queue].waiting


def unsettled(queue: str) -> int:
    """Messages that a queue holds, those handed out included."""
    return MemoryBroker.current().queues[queue].length


async def fill(count: int, queue: Queue[int] = numbers) -> None:
    async with unimsg.connect(url="memory://") as bus:
        for number in range(count):
            await bus.send(queue, number)


# -- an orderly end


async def test_running_handlers_end_and_are_acknowledged_and_the_rest_goes_back_at_once() -> None:
    service, go, started, done = Service("shop"), asyncio.Event(), list[int](), list[int]()

    @service.handler(numbers, concurrency=3)
    async def handle(body: int) -> None:
        started.append(body)
        await go.wait()
        done.append(body)

    await fill(20)
    bus = unimsg.connect(service, url="memory://")
    await bus.__aenter__()
    await until(lambda: len(started) == 3, "three handlers")
    closing = asyncio.create_task(bus.__aexit__(None, None, None))
    await until(lambda: waiting("shutdown.numbers") == 17, "the rest, given back while three still run")
    go.set()
    await closing
    assert len(started) == 3, "nothing was started after the end began"
    assert len(done) == 3
    assert unsettled("shutdown.numbers") == waiting("shutdown.numbers") == 17


async def test_what_handlers_send_while_the_service_ends_still_goes_out() -> None:
    service, started = Service("shop"), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        started.set()
        await asyncio.sleep(0.1)
        await context.send(results, body)
        await context.bus.send(results, body + 1)

    await fill(1)
    async with unimsg.connect(service, url="memory://"):
        await started.wait()
    assert (unsettled("shutdown.numbers"), waiting("shutdown.results")) == (0, 2)


async def test_late_handlers_are_cancelled_after_the_grace_period_and_their_messages_come_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, started, cancelled = Service("shop", grace=0.2), list[int](), list[int]()

    @service.handler(numbers, concurrency=2)
    async def handle(body: int) -> None:
        started.append(body)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(body)
            raise

    await fill(5)
    async with unimsg.connect(service, url="memory://") as bus:
        await until(lambda: len(started) == 2, "two handlers")
        begin = monotonic()
    assert 0.15 < monotonic() - begin < 2
    assert cancelled == started
    assert waiting("shutdown.numbers") == 5
    health = await bus.health()
    assert not any("failed" in problem for problem in health.problems), "a cancellation by us is no failure"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert "a handler did not end in 0.2 s: cancelled, its message comes again" in caplog.text


async def test_so_it_is_if_the_handler_makes_another_error_of_the_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, started = Service("shop", grace=0), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError("the database client was interrupted") from None

    await fill(1)
    async with unimsg.connect(service, url="memory://") as bus:
        await started.wait()
    assert waiting("shutdown.numbers") == 1
    assert not any("failed" in problem for problem in (await bus.health()).problems)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_thread_that_does_not_end_holds_the_end_for_the_grace_period_only() -> None:
    service, go, started = Service("shop", grace=0.1), threading.Event(), threading.Event()

    @service.handler(numbers)
    def handle(body: int) -> None:
        started.set()
        go.wait(10)

    await fill(1)
    async with unimsg.connect(service, url="memory://"):
        await until(started.is_set, "the handler")
        begin = monotonic()
    assert monotonic() - begin < 2
    assert waiting("shutdown.numbers") == 1
    go.set()


async def test_a_failed_message_that_waits_in_its_place_goes_back_at_once() -> None:
    service, failed = Service("shop", retry=Retry(30)), asyncio.Event()

    @service.handler(ordered)
    async def handle(body: int) -> None:
        failed.set()
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.publish(ordered, 7, key="k")
        await failed.wait()
        await asyncio.sleep(0)
        begin = monotonic()
    assert monotonic() - begin < 5
    line = MemoryBroker.current().topics["shutdown.ordered"]["shop"]
    assert (line.waiting, line.length) == (1, 1)


async def test_a_handler_that_fails_while_the_service_ends_loses_nothing_and_that_is_its_attempt(either: str) -> None:
    service, started, attempts = Service("shop", retry=Retry(0.1)), asyncio.Event(), list[int]()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        attempts.append(context.attempt)
        started.set()
        await asyncio.sleep(0.05)
        if context.attempt == 1:
            raise ValueError

    await fill(1)
    async with unimsg.connect(service, url=either):
        await started.wait()
    assert attempts == [1]
    assert unsettled("shutdown.numbers") == 0, "the copy that waits is all there is"
    async with unimsg.connect(service, url=either):
        await until(lambda: attempts == [1, 2], "the second attempt, in the next process")


async def test_keys_come_again_in_their_order() -> None:
    """Of each key one runs, one failed and waits in place, others wait behind."""
    got: list[int] = []
    first, second = Service("shop", grace=0), Service("shop")
    started: list[int] = []

    @first.handler(ordered)
    async def hold(body: int) -> None:
        started.append(body)
        if body % 2:
            raise ValueError
        await asyncio.sleep(60)

    @second.handler(ordered)
    async def collect(body: int) -> None:
        got.append(body)

    async with unimsg.connect(first, url="memory://") as bus:
        for number in range(20):
            await bus.publish(ordered, number, key=f"key {number % 2}")
        await until(lambda: len(started) == 2, "one of each key")
    async with unimsg.connect(second, url="memory://"):
        await came(got, range(20))
    assert [number for number in got if number % 2] == list(range(1, 20, 2))
    assert [number for number in got if not number % 2] == list(range(0, 20, 2))


async def test_nothing_is_lost_while_instances_come_and_go(either: str) -> None:
    """Every message is handled to its end at least once, whatever is interrupted."""
    done: set[int] = set()
    pace = random.Random(7)
    service = Service("shop", grace=0.01, retry=SOON)

    @service.handler(numbers, concurrency=4)
    async def handle(body: int) -> None:
        await asyncio.sleep(pace.choice([0, 0.002, 0.02]))
        if pace.random() < 0.05:
            raise ValueError
        done.add(body)

    async with unimsg.connect(url="memory://") as client:
        sending = asyncio.create_task(send_slowly(client, 400))
        while not (sending.done() and len(done) == 400):
            async with unimsg.connect(service, url=either), unimsg.connect(service, url=either):
                await asyncio.sleep(pace.uniform(0.02, 0.1))
            assert sending.done() is False or sending.exception() is None
            if sending.done() and either == "held://":  # elsewhere the broker has what waits, where nobody can look
                assert len(done) + unsettled("shutdown.numbers") + held("shutdown.numbers..retry") >= 400, "lost"
    assert done == set(range(400))
    assert (unsettled("shutdown.numbers"), held("shutdown.numbers..dead")) == (0, 0)


async def send_slowly(bus: Bus, count: int) -> None:
    for number in range(count):
        await bus.send(numbers, number)
        if number % 10 == 0:
            await asyncio.sleep(0.005)


async def test_while_it_ends_health_says_so_and_the_process_is_not_to_be_restarted() -> None:
    service, go, started = Service("shop"), asyncio.Event(), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        started.set()
        await go.wait()

    await fill(1)
    connection = unimsg.connect(service, url="memory://")
    bus = await connection.__aenter__()
    await started.wait()
    closing = asyncio.create_task(connection.__aexit__(None, None, None))
    await asyncio.sleep(0)
    health = await bus.health()
    assert (health.live, health.ready, list(health.problems)) == (True, False, ["shutting down"])
    go.set()
    await closing


async def test_a_service_can_be_started_again_after_its_end() -> None:
    got: list[int] = []
    service = Service("shop")

    @service.handler(numbers)
    async def handle(body: int) -> None:
        got.append(body)

    for number in range(3):
        async with unimsg.connect(service, url="memory://") as bus:
            await bus.send(numbers, number)
            await came(got, range(number + 1))


async def test_the_ends_of_its_services_are_awaited_side_by_side() -> None:
    started: list[str] = []
    services = []
    for name in ("one", "two", "three"):
        service = Service(name, grace=0.3)

        @service.handler(Queue(f"shutdown.{name}", int))
        async def handle(body: int) -> None:
            started.append("x")
            await asyncio.sleep(60)

        services.append(service)
    async with unimsg.connect(*services, url="memory://") as bus:
        for service in services:
            await bus.send(Queue(f"shutdown.{service.name}", int), 1)
        await until(lambda: len(started) == 3, "all three")
        begin = monotonic()
    assert monotonic() - begin < 0.8


async def test_a_lifespan_is_left_after_the_last_handler_even_if_that_is_cancelled() -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[None]:
        yield
        happened.append("left")

    service, started = Service("shop", lifespan=lifespan, grace=0), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            happened.append("handler ended")

    await fill(1)
    async with unimsg.connect(service, url="memory://"):
        await started.wait()
    assert happened == ["handler ended", "left"]


# -- a lost connection


async def test_a_handler_sees_that_its_connection_was_lost_and_its_message_comes_again() -> None:
    seen: list[bool] = []
    service, go = Service("shop"), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        seen.append(context.lost)
        await go.wait()
        seen.append(context.lost)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: seen, "the first delivery")
        MemoryBroker.current().cut()
        await until(lambda: len(seen) == 2, "the second delivery")
        go.set()
        await until(lambda: unsettled("shutdown.numbers") == 0, "the acknowledgement of the second")
        health = await bus.health()
        assert (health.ready, list(health.problems)) == (True, []), "a lost connection is no failure of the handler"
    assert seen == [False, False, True, False]


async def test_what_only_waited_is_given_back_and_not_handled_twice() -> None:
    handled: list[int] = []
    service, go = Service("shop"), asyncio.Event()

    @service.handler(numbers, concurrency=1)
    async def handle(body: int) -> None:
        handled.append(body)
        await go.wait()

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(5):
            await bus.send(numbers, number)
        await until(lambda: handled, "the first")
        MemoryBroker.current().cut()
        go.set()
        await until(lambda: unsettled("shutdown.numbers") == 0, "all acknowledged")
    assert sorted(handled) == [0, 0, 1, 2, 3, 4], "only the one that ran comes twice"


async def test_order_is_kept_over_lost_connections() -> None:
    handled: list[int] = []
    service, pace = Service("shop"), random.Random(7)

    @service.handler(ordered, concurrency=5)
    async def handle(body: int) -> None:
        await asyncio.sleep(pace.choice([0, 0.001, 0.005]))
        handled.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(150):
            await bus.publish(ordered, number, key=f"key {number % 3}")
            if number % 20 == 10:
                MemoryBroker.current().cut()
            if number % 5 == 0:
                await asyncio.sleep(0.002)
        line = MemoryBroker.current().topics["shutdown.ordered"]["shop"]
        await until(lambda: line.length == 0, "all acknowledged")
    for key in range(3):
        of_key = [number for number in handled if number % 3 == key]
        firsts = list(dict.fromkeys(of_key))
        assert firsts == list(range(key, 150, 3)), "first deliveries of a key in order, none missing"


async def test_a_deleted_queue_is_made_again_and_health_knows() -> None:
    got: list[int] = []
    service = Service("shop")

    @service.handler(numbers)
    async def handle(body: int) -> None:
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 1)
        await came(got, [1])
        MemoryBroker.current().delete("shutdown.numbers")
        await until(lambda: "shutdown.numbers" in MemoryBroker.current().queues, "the queue, made again")
        await bus.send(numbers, 2)
        await came(got, [1, 2])
        assert await bus.health() == unimsg.Health(live=True, ready=True, problems=[])


# -- run()


PROGRAM = """
import asyncio, contextlib, sys, unimsg
numbers = unimsg.Queue("run.numbers", int)

@contextlib.asynccontextmanager
async def lifespan(bus):
    await bus.send(numbers, 1)
    yield
    print("left", flush=True)

service = unimsg.Service("shop", lifespan=lifespan, grace=float(sys.argv[1]))

@service.handler(numbers)
async def handle(body):
    print("started", flush=True)
    try:
        await asyncio.sleep(float(sys.argv[2]))
        print("ended", flush=True)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

unimsg.run(service, url="memory://")
print("returned", flush=True)
"""


def start(grace: float, handler: float) -> subprocess.Popen[str]:
    """A process of its own that runs the service, and has begun to handle a message."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(grace), str(handler)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n", process.communicate(timeout=10)[1]
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_run_ends_on_a_signal_after_its_handlers_ended(number: signal.Signals) -> None:
    process = start(grace=10, handler=0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (out.splitlines(), err, process.returncode) == (["ended", "left", "returned"], "", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_handler_that_is_late_at_the_end_of_run_is_cancelled() -> None:
    process = start(grace=0.1, handler=60)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (out.splitlines(), process.returncode) == (["cancelled", "left", "returned"], 0)
    assert "did not end in 0.1 s" in err


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_second_signal_ends_the_process_at_once() -> None:
    process = start(grace=60, handler=60)
    begin = monotonic()
    while process.poll() is None and monotonic() - begin < 10:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(0.3)
        except subprocess.TimeoutExpired:
            continue
    out, _ = process.communicate(timeout=20)
    assert process.returncode not in (None, 0)
    assert "returned" not in out


def test_run_raises_what_is_wrong_at_its_start() -> None:
    with pytest.raises(unimsg.ConfigurationError, match="unknown scheme"):
        unimsg.run(Service("shop"), url="nosuch://")
