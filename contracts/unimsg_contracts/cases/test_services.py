"""The whole library, handling: G3, G5, G6, G9, G10 and G11 as users see them."""

import asyncio
import random
from collections import defaultdict

from unimsg import Context, Service
from unimsg.adapter import Address, Kind
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import difference, eventually
from unimsg_contracts.stage import Stage


@guarantee("G6")
async def test_concurrency_is_a_limit(stage: Stage) -> None:
    """At most `concurrency` handlers run at once, and as many do when there is work."""
    queue = stage.declare_queue(int)
    running, most, done = 0, 0, 0
    gate = asyncio.Event()
    service = Service("orders", grace=2.0)

    @service.handler(queue, concurrency=3)
    async def handle(body: int) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        done += 1

    async with stage.bus(service) as bus:
        for n in range(12):
            await bus.send(queue, n)
        await eventually(lambda: running >= 3, stage.recovery, lambda: f"{running} handlers run at once, 3 may")
        await stage.breathe(await stage.adapter())
        assert running == 3, f"{running} handlers run at once, at most 3 may"
        gate.set()
        await eventually(lambda: done >= 12, stage.recovery, lambda: f"{done} of 12 were handled")
    assert most == 3


@guarantee("G5")
async def test_handlers_keep_the_order_of_a_key(stage: Stage) -> None:
    """Two processes with many concurrent handlers: the messages of a key are handled in order and one at a time."""
    queue = stage.declare_queue(tuple[str, int], key=lambda body: body[0])
    handled: dict[str, list[int]] = defaultdict(list)
    running: set[str] = set()
    overlaps: set[str] = set()

    def service() -> Service:
        made = Service("orders", grace=2.0)

        @made.handler(queue, concurrency=16)
        async def handle(body: tuple[str, int]) -> None:
            key, n = body
            if key in running:
                overlaps.add(key)
            running.add(key)
            await asyncio.sleep(random.choice((0.0, 0.001, 0.003)))
            handled[key].append(n)
            running.discard(key)

        return made

    async with stage.bus() as client, client.pipeline() as pipeline:  # a backlog of each key before anybody handles
        for n in range(160):
            await pipeline.send(queue, (f"key-{n % 8}", n))
    async with stage.bus(service()), stage.bus(service()):
        await eventually(
            lambda: sum(len(set(seen)) for seen in handled.values()) >= 160,
            stage.recovery,
            lambda: f"{sum(len(seen) for seen in handled.values())} of 160 were handled",
        )
    disorder = {key: seen for key, seen in handled.items() if (first := list(dict.fromkeys(seen))) != sorted(first)}
    assert not disorder
    assert not overlaps


@guarantee("G3")
async def test_a_failed_message_is_handled_again(stage: Stage) -> None:
    """A handler that raises gets its message again, others are handled meanwhile, and `health` tells of it."""
    queue = stage.declare_queue(str)
    seen: list[str] = []
    fails = True
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    async def handle(body: str) -> None:
        seen.append(body)
        if body == "bad" and fails:
            raise RuntimeError("on purpose")

    async with stage.bus(service) as bus:
        id = await bus.send(queue, "bad")
        await eventually(lambda: "bad" in seen, stage.recovery, lambda: "nothing came")
        await bus.send(queue, "good")
        await eventually(lambda: "good" in seen, stage.patience, lambda: "others wait for the failed one")
        problems = (await bus.health()).problems
        failed, fails = seen.count("bad"), False
        await eventually(
            lambda: seen.count("bad") > failed, stage.recovery, lambda: "the failed message does not come again"
        )
    assert any(id in problem and "RuntimeError" in problem for problem in problems), problems


@guarantee("G3")
async def test_a_failed_handler_has_sent_nothing(stage: Stage) -> None:
    """What a handler sends is held until it ended well: a failed attempt sends nothing, a repeat has the same ids."""
    queue, out = stage.declare_queue(str), stage.declare_queue(str)
    attempts: list[list[str]] = []
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        attempts.append([await context.send(out, f"{len(attempts)}-{n}") for n in range(2)])
        if len(attempts) == 1:
            raise RuntimeError("on purpose")

    adapter = await stage.adapter()
    address = await stage.ensure(adapter, Address(out.name, Kind.QUEUE))
    reader = await stage.reader(adapter, address)
    async with stage.bus(service) as bus:
        await bus.send(queue, "x")
        await eventually(lambda: len(reader.got) >= 2, stage.recovery, lambda: f"{len(reader.got)} of 2 came")
    assert len(attempts) == 2, "what came was sent by the failed attempt"
    assert attempts[0] == attempts[1], "the ids of a repeat differ"
    assert sorted(delivery.wire.body for delivery in reader.got) == [b"1-0", b"1-1"]
    assert not difference(attempts[0], reader.ids), difference(attempts[0], reader.ids)


@guarantee("G10")
async def test_shutdown_ends_what_runs_and_gives_back_the_rest(stage: Stage) -> None:
    """Leaving the block: running handlers end and are settled, what waits goes back, and nothing is handled twice."""
    queue = stage.declare_queue(int)
    begun: list[int] = []
    ended: list[int] = []
    go_on = asyncio.Event()

    def service() -> Service:
        made = Service("orders", grace=10.0)

        @made.handler(queue, concurrency=2)
        async def handle(body: int) -> None:
            begun.append(body)
            await go_on.wait()
            ended.append(body)

        return made

    async with stage.bus(service()) as bus:
        for n in range(8):
            await bus.send(queue, n)
        await eventually(lambda: len(begun) >= 2, stage.recovery, lambda: "no handler began")
        asyncio.get_running_loop().call_later(0.2, go_on.set)  # while the block is being left
    assert sorted(ended) == sorted(begun), "a running handler did not end"
    assert len(begun) == 2, "a handler began during the shutdown"
    async with stage.bus(service()):
        await eventually(
            lambda: len(set(ended)) >= 8, stage.recovery, lambda: difference(map(str, range(8)), map(str, ended))
        )
    assert sorted(ended) == list(range(8))


@guarantee("G4")
async def test_stops_in_mid_backlog_repeat_nothing(stage: Stage) -> None:
    """Fast handlers are stopped in the middle of a backlog, nine times: what was handled does not come again."""
    queue = stage.declare_queue(int, key=lambda body: f"key-{body % 64}")
    handled: list[int] = []
    count = 6000

    async def until(number: int) -> None:
        reached = asyncio.Event()
        service = Service("orders", grace=5.0)

        @service.handler(queue, concurrency=64)
        async def handle(body: int) -> None:
            handled.append(body)
            if len(set(handled)) >= number:
                reached.set()

        async with stage.bus(service):
            await stage.within(reached.wait(), f"{number} of {count}", 2 * stage.recovery)

    async with stage.bus() as client, client.pipeline() as pipeline:
        for n in range(count):
            await pipeline.send(queue, n)
    for number in range(count // 10, count + 1, count // 10):
        await until(number)
    assert not difference(map(str, range(count)), map(str, handled)), difference(
        map(str, range(count)), map(str, handled)
    )


@guarantee("G9")
async def test_cancelled_by_shutdown_is_no_failure(stage: Stage) -> None:
    """A handler that outlives the grace period is cancelled; its message is handled again by the next process."""
    queue = stage.declare_queue(str)
    starts = 0
    done = asyncio.Event()

    def service() -> Service:
        made = Service("orders", grace=0.1)

        @made.handler(queue)
        async def handle(body: str) -> None:
            nonlocal starts
            starts += 1
            if starts == 1:
                await asyncio.Event().wait()
            done.set()

        return made

    async with stage.bus(service()) as bus:
        await bus.send(queue, "x")
        await eventually(lambda: starts == 1, stage.recovery, lambda: "no handler began")
    assert not (await bus.health()).problems or not any("failed" in text for text in (await bus.health()).problems)
    async with stage.bus(service()):
        await eventually(done.is_set, stage.recovery, lambda: "the cancelled message does not come again")


@guarantee("G11", needs=("cut",))
async def test_services_go_on_after_a_cut(stage: Stage) -> None:
    """The connection is cut while a handler runs: it ends, its message is settled at last, later ones are handled."""
    network = await stage.network()
    queue = stage.declare_queue(str)
    seen: list[str] = []
    go_on = asyncio.Event()
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        if body == "slow":
            seen.append("begun")
            await go_on.wait()
        seen.append(body)

    async with stage.bus() as client, stage.bus(service, url=network.url) as bus:
        await client.send(queue, "slow")
        await eventually(lambda: "begun" in seen, stage.recovery, lambda: "no handler began")
        await network.cut()
        go_on.set()
        await client.send(queue, "later")
        await eventually(lambda: {"slow", "later"} <= set(seen), stage.recovery, lambda: f"only {seen}")
        await bus.send(queue, "from the same")
        await eventually(lambda: "from the same" in seen, stage.recovery, lambda: f"only {seen}")
        assert not any("failed" in problem for problem in (await bus.health()).problems)
    adapter = await stage.adapter()
    address = Address(queue.name, Kind.QUEUE)
    await stage.exactly(adapter, address, [], await stage.reader(adapter, address), patience=stage.recovery)


@guarantee("G11", needs=("away",))
async def test_health_is_not_ready_without_the_broker(stage: Stage) -> None:
    """While the broker is away the bus lives and is not ready; when it is back it is ready."""
    network = await stage.network()
    queue = stage.declare_queue(str)
    service = Service("orders", grace=1.0)

    @service.handler(queue)
    async def handle(body: str) -> None: ...

    async with stage.bus(service, url=network.url) as bus:

        async def ready() -> bool:
            health = await bus.health()
            assert health.live
            return health.ready

        async def not_ready() -> bool:
            return not await ready()

        await eventually(ready, stage.recovery, lambda: "not ready at first")
        await network.leave()
        await eventually(not_ready, stage.recovery, lambda: "ready without the broker")
        await network.back()
        await eventually(ready, stage.recovery, lambda: "not ready after the broker's return")


@guarantee("G13")
async def test_headers_go_on_with_what_is_sent_because_of_a_message(stage: Stage) -> None:
    """Those that a service propagates, and no others; what the call says wins, what the message lacks is left out."""
    queue, follow, event = stage.declare_queue(str), stage.declare_queue(str), stage.declare_topic(str)
    service = Service("orders", grace=2.0, propagate=("tenant", "step", "missing"))
    witness = Service("witness", grace=2.0)
    seen: dict[str, dict[str, str]] = {}

    @service.handler(queue)
    async def handle(body: str, context: Context) -> None:
        await context.send(follow, "sent", headers={"step": "2"})
        await context.publish(event, "published")

    @witness.handler(follow)
    async def take(body: str, context: Context) -> None:
        seen[body] = dict(context.message.headers)

    @witness.handler(event)
    async def watch(body: str, context: Context) -> None:
        seen[body] = dict(context.message.headers)

    async with stage.bus(witness), stage.bus(service) as bus:
        await bus.send(queue, "first", headers={"tenant": "ä€", "step": "1", "private": "x"})
        await eventually(lambda: len(seen) >= 2, stage.recovery, lambda: f"only {list(seen)} came")
    assert seen == {"sent": {"tenant": "ä€", "step": "2"}, "published": {"tenant": "ä€", "step": "1"}}
