"""`delay`: nobody gets it sooner, whoever sends it, and what cannot be done is said at the call."""

import asyncio
from time import monotonic, time
from typing import Any

import pytest
from policies import Held, held, letters, waiting
from waiting import came, until

import unimsg
from unimsg import Bus, CapabilityError, Context, Queue, Retry, Sender, Service, Settings, Topic, TopologyError
from unimsg._waiting import waiting as waiting_from
from unimsg.adapter import Address, Kind, Wanted
from unimsg.memory import MemoryAdapter, MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("delays.numbers", int)
events = Topic("delays.events", int)
ordered = Queue("delays.ordered", int, ordered=True)
keyed = Topic("delays.keyed", int, key=str)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that delays by itself does so from a twentieth of a second on."""
    monkeypatch.setattr("unimsg._waiting.STEPS", (0.05, 0.2, 0.5, 1.0, 60.0, 3600.0, 86400.0))


def collecting(got: dict[int, float], name: str = "shop") -> Service[None]:
    """Notes when each came."""
    service = Service(name, retry=Retry(0.01))

    async def handle(body: int) -> None:
        got[body] = monotonic()

    service.handler(numbers)(handle)
    service.handler(events)(handle)
    return service


async def later(sender: Sender, channel: Queue[int] | Topic[int], body: int, delay: float, **more: Any) -> str:
    if isinstance(channel, Queue):
        return await sender.send(channel, body, delay=delay, **more)
    return await sender.publish(channel, body, delay=delay, **more)


# -- when it comes


@pytest.mark.parametrize("channel", [numbers, events], ids=["queue", "topic"])
async def test_it_comes_not_before_its_time_and_others_do(either: str, channel: Queue[int] | Topic[int]) -> None:
    got: dict[int, float] = {}
    async with unimsg.connect(collecting(got), url=either) as bus:
        begin = monotonic()
        await later(bus, channel, 1, 0.5)
        await later(bus, channel, 2, 0.05)
        await later(bus, channel, 3, 0)
        await until(lambda: len(got) == 3, "all three")
    assert list(got) == [3, 2, 1]
    assert 0.05 <= got[2] - begin < 2
    assert 0.5 <= got[1] - begin < 4


@pytest.mark.parametrize("channel", [numbers, events], ids=["queue", "topic"])
async def test_its_id_key_and_headers_come_as_sent(either: str, channel: Queue[int] | Topic[int]) -> None:
    seen: list[Any] = []
    service = Service("shop")

    async def handle(body: int, context: Context) -> None:
        message = context.message
        seen.append((message.id, message.body, message.key, dict(message.headers), context.attempt, message.type))

    service.handler(numbers)(handle)
    service.handler(events)(handle)
    async with unimsg.connect(service, url=either) as bus:
        assert await later(bus, channel, 7, 0.05, id="mine", key="k", headers={"tenant": "acme"}) == "mine"
        await until(lambda: seen, "it")
    assert seen == [("mine", 7, "k", {"tenant": "acme"}, 1, channel.name)]


async def test_each_subscription_gets_it_once(either: str) -> None:
    got: list[str] = []
    services = []
    for name in ("shop", "mail", "audit"):
        service = Service(name)

        async def handle(body: int, name: str = name) -> None:
            got.append(name)

        service.handler(events)(handle)
        services.append(service)
    async with unimsg.connect(*services, url=either) as bus, unimsg.connect(*services, url=either):
        await bus.publish(events, 7, delay=0.05)
        await came(got, ["shop", "mail", "audit"])
        await asyncio.sleep(0.05)
    assert sorted(got) == ["audit", "mail", "shop"]


async def test_300_that_wait_keep_nobody_waiting(either: str) -> None:
    got: dict[int, float] = {}
    async with unimsg.connect(collecting(got), url=either) as bus:
        async with bus.pipeline() as pipeline:
            for number in range(300):
                await pipeline.send(numbers, number, delay=1)
        await bus.send(numbers, -1)
        await until(lambda: -1 in got, "the one that does not wait")
        assert len(got) == 1
        await until(lambda: len(got) == 301, "all")


# -- who sends it


@pytest.mark.parametrize("channel", [numbers, events], ids=["queue", "topic"])
async def test_a_pipeline_delays_too(either: str, channel: Queue[int] | Topic[int]) -> None:
    got: dict[int, float] = {}
    async with unimsg.connect(collecting(got), url=either) as bus:
        begin = monotonic()
        async with bus.pipeline(in_flight=2) as pipeline:
            for number in range(9):
                await later(pipeline, channel, number, 0.05)
        await until(lambda: len(got) == 9, "all")
    assert min(got.values()) - begin >= 0.05


@pytest.mark.parametrize("channel", [numbers, events], ids=["queue", "topic"])
async def test_a_context_delays_from_the_end_of_its_handler(either: str, channel: Queue[int] | Topic[int]) -> None:
    got: dict[int, float] = {}
    service, tried = Service("kitchen", retry=Retry(0.01)), list[float]()

    @service.handler(Queue("delays.begin", int))
    async def handle(body: int, context: Context) -> None:
        tried.append(monotonic())
        await later(context, channel, len(tried), 0.05)
        if context.attempt == 1:
            raise ValueError

    async with unimsg.connect(service, collecting(got), url=either) as bus:
        await bus.send(Queue("delays.begin", int), 7)
        await until(lambda: got, "it")
        await asyncio.sleep(0.1)
    assert list(got) == [2], "the attempt that failed sends nothing"
    assert got[2] - tried[1] >= 0.05


async def test_a_client_that_leaves_loses_nothing(either: str) -> None:
    got: dict[int, float] = {}
    async with unimsg.connect(url=either) as client:
        await client.send(numbers, 1, delay=0.2)
    async with unimsg.connect(collecting(got), url=either):
        await until(lambda: got, "it, by another process")


async def test_what_was_published_waits_for_any_process_that_uses_the_topic(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve("held", Held)
    got: dict[int, float] = {}
    async with unimsg.connect(collecting(got), url=url):
        pass  # makes the subscription
    async with unimsg.connect(url=url) as client:
        await client.publish(events, 1, delay=0.2)
    assert len(waiting("delays.events..delay")) == 1, "given back at the end"
    async with unimsg.connect(collecting(got), url=url):
        await until(lambda: got, "it, published by another process")
    assert held("delays.events..delay") == 0


async def test_it_is_handled_and_retried_as_any_other(either: str) -> None:
    attempts: list[int] = []
    service = Service("shop", retry=Retry(0.05))

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        attempts.append(context.attempt)
        raise ValueError

    async with unimsg.connect(service, url=either) as bus:
        await bus.send(numbers, 7, delay=0.05)
        await until(lambda: held("delays.numbers..dead"), "the dead letter")
        [letter] = await letters(bus, numbers)
    assert (attempts, letter.attempts) == ([1, 2], 2)


# -- what cannot be


@pytest.mark.parametrize("channel", [ordered, keyed], ids=["queue", "topic"])
@pytest.mark.parametrize("who", ["bus", "pipeline", "context"])
async def test_on_an_ordered_channel_it_is_refused_at_the_call(
    either: str, channel: Queue[int] | Topic[int], who: str
) -> None:
    await refused_by(who, either, channel, 5, rf"{channel.name}: delay on an ordered channel")


@pytest.mark.parametrize("delay", [86400.1, 1e9, float("inf")])
@pytest.mark.parametrize("who", ["bus", "pipeline", "context"])
async def test_more_than_a_day_is_refused_at_the_call(either: str, delay: float, who: str) -> None:
    await refused_by(who, either, numbers, delay, r"delays\.numbers: a delay of .* at most 86400 s \(24 hours\)")


async def refused_by(who: str, url: str, channel: Queue[int] | Topic[int], delay: float, says: str) -> None:
    caught: list[Exception] = []
    service = Service("shop", retry=Retry())

    async def call(sender: Sender) -> None:
        try:
            await later(sender, channel, 7, delay, key="k")
        except CapabilityError as error:
            caught.append(error)

    @service.handler(Queue("delays.begin", int))
    async def handle(body: int, context: Context) -> None:
        await call(context)

    async with unimsg.connect(service, url=url) as bus:
        if who == "bus":
            await call(bus)
        elif who == "pipeline":
            async with bus.pipeline(in_flight=1) as pipeline:
                await call(pipeline)
                await pipeline.send(Queue("delays.other", int), 1)  # its window is free
        else:
            await bus.send(Queue("delays.begin", int), 1)
            await until(lambda: caught, "the error, in the handler")
            await until(lambda: held("delays.begin") == 0, "its acknowledgement")
    assert len(caught) == 1, "at the call"
    with pytest.raises(CapabilityError, match=says):
        raise caught[0]


async def test_a_day_is_not_too_long(either: str) -> None:
    async with unimsg.connect(url=either) as bus:
        await bus.send(numbers, 7, delay=86400)


@pytest.mark.parametrize("delay", [-1, -0.001, float("nan")])
async def test_a_delay_that_makes_no_sense_is_refused(either: str, delay: float) -> None:
    async with unimsg.connect(url=either) as bus:
        with pytest.raises(ValueError, match="delay must be 0 or more seconds"):
            await bus.send(numbers, 7, delay=delay)


@pytest.mark.parametrize("ttl", [None, 4.0], ids=["of the channel", "of the call"])
async def test_what_would_expire_before_it_comes_is_refused(either: str, ttl: float | None) -> None:
    brief = Queue("delays.brief", int, ttl=4)
    async with unimsg.connect(url=either) as bus:
        with pytest.raises(ValueError, match="ttl must be more than 0 seconds and more than delay, not 4"):
            await bus.send(brief, 7, delay=5, ttl=ttl)
        await bus.send(brief, 7, delay=5, ttl=6)


async def test_a_room_that_may_not_be_made_is_told_by_a_send_and_by_a_pipeline(serve: Any) -> None:
    settings = Settings(url=serve("held", Held), topology="verify")
    await MemoryAdapter().ensure(Address("delays.numbers", Kind.QUEUE), Wanted(), timeout=1)
    async with unimsg.connect(settings=settings) as bus:
        with pytest.raises(TopologyError, match=r"delays\.numbers\.\.retry: missing"):
            await bus.send(numbers, 7, delay=5)
        with pytest.raises(TopologyError, match=r"delays\.numbers\.\.retry: missing"):
            async with bus.pipeline(in_flight=1) as pipeline:
                await pipeline.send(numbers, 7, delay=5)


# -- the end


async def test_what_handlers_publish_while_the_service_ends_is_kept_and_nothing_of_it_goes_on_running(
    serve: Any,
) -> None:
    service, started = Service("shop", retry=Retry()), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        started.set()
        await asyncio.sleep(0.1)
        await context.bus.publish(events, body, delay=0.05)
        await context.publish(events, body, delay=0.05)

    before = asyncio.all_tasks()
    async with unimsg.connect(service, url=serve("held", Held)) as bus:
        await bus.send(numbers, 7)
        await started.wait()
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    assert left == []
    await asyncio.sleep(0.1)
    assert len(waiting("delays.events..delay")) == held("delays.events..delay") == 2


async def test_the_same_of_a_topic_that_was_used_before(serve: Any) -> None:
    service, started = Service("shop", retry=Retry()), asyncio.Event()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        started.set()
        await asyncio.sleep(0.1)
        await context.bus.publish(events, body, delay=400)

    before = asyncio.all_tasks()
    async with unimsg.connect(service, url=serve("held", Held)) as bus:
        await bus.publish(events, 1, delay=30)
        await bus.send(numbers, 7)
        await started.wait()
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    assert left == []
    assert (held("delays.events..delay"), held("delays.events..delay.5m")) == (1, 1)


async def test_it_says_itself_how_long_it_waits(serve: Any) -> None:
    async with unimsg.connect(url=serve("held", Held)) as bus:
        begin = time()
        await send_for_an_hour(bus)
    [wire] = waiting("delays.numbers..retry.1h")
    assert 0 <= float(wire.headers["unimsg-due"]) - begin - 4000 < 5
    assert 0 <= float(wire.headers["unimsg-until"]) - begin - 3600 < 5


async def send_for_an_hour(bus: Bus) -> None:
    await bus.send(numbers, 7, delay=4000)


async def test_a_room_on_its_way_that_was_deleted_is_made_again(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaves a long room before it is due goes to a shorter one."""
    monkeypatch.setattr("unimsg._room.LOOK_EVERY", 0.05)
    got: dict[int, float] = {}

    async def leaves_the_long_room(body: int) -> None:
        room = Address("delays.events..delay.5m", Kind.QUEUE)
        [adapter] = [broker.adapter for broker in bus._routes._brokers]
        wire = bus._message(events, body, None, None, {}, None)[1]
        assert await adapter.send(room, [waiting_from(wire, time() + 0.2, time())], timeout=1) == [None]

    async with unimsg.connect(collecting(got), url=serve("held", Held)) as bus:
        await later(bus, events, 0, 400.0)  # makes the long room
        await leaves_the_long_room(1)
        await until(lambda: 1 in got, "the first")
        MemoryBroker.current().delete("delays.events..delay")
        await leaves_the_long_room(2)
        await until(lambda: "delays.events..delay" in MemoryBroker.current().queues, "the second in its next room")
