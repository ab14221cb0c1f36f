"""The core's half of the port: each delivery settled exactly once, nothing of a draining epoch started, and health."""

import asyncio
import gc
import json
import random
from collections.abc import Callable
from time import monotonic

import pytest
from scripted import Scripted, ScriptedReceiver
from waiting import came, until

import unimsg
from unimsg import Bus, Context, Queue, Retry, Service, Settings
from unimsg.adapter import Adapter, Delivery, Epoch, ReceiverClosed, Wire

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("consumer.numbers", int)
ordered = Queue("consumer.ordered", int, ordered=True)
CHANNELS = pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])


@pytest.fixture
def url(serve: Callable[[str, type[Adapter]], str]) -> str:
    Scripted.forget()
    return serve("scripted", Scripted)


def the_receiver() -> ScriptedReceiver:
    [receiver] = Scripted.receivers
    return receiver


def all_right() -> None:
    """The core kept its half of the port."""
    assert [wrong for receiver in Scripted.receivers for wrong in receiver.wrong] == []


class Work:
    """A handler that ends when the test says so."""

    def __init__(self, channel: Queue[int], *, concurrency: int = 10, grace: float = 25.0) -> None:
        self.service = Service("shop", grace=grace)
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.lost: list[str] = []
        self.go = asyncio.Event()
        self.service.handler(channel, concurrency=concurrency)(self.handle)

    async def handle(self, body: int, context: Context) -> None:
        self.started.append(context.message.id)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(context.message.id)
            raise
        if context.lost:
            self.lost.append(context.message.id)


# -- settlements


async def test_what_ended_well_is_acknowledged_once(url: str) -> None:
    work = Work(numbers)
    work.go.set()
    async with unimsg.connect(work.service, url=url):
        the_receiver().give("1", "2", "3", epoch=Epoch())
        await came(the_receiver().acked, ["1", "2", "3"])
    assert the_receiver().released == []
    assert the_receiver().closed
    all_right()


@pytest.mark.parametrize("batches", [False, True])
@CHANNELS
async def test_what_an_adapter_gives_up_is_a_dead_letter_and_never_handled(
    url: str, channel: Queue[int], batches: bool
) -> None:
    handled: list[int] = []
    service = Service("shop")
    if batches:

        @service.batch_handler(channel, size=2, within=0.01)
        async def handle_all(bodies: list[int]) -> None:
            handled.extend(bodies)

    else:

        @service.handler(channel)
        async def handle(body: int) -> None:
            handled.append(body)

    async with unimsg.connect(service, url=url) as bus:
        receiver, epoch = the_receiver(), Epoch()
        receiver.mailbox.put([Delivery(Wire("poison", b"1"), epoch, None, given_up=True)])
        receiver.give("2", epoch=epoch, body=b"2")
        await came(receiver.acked, ["poison", "2"])
        [letter] = [letter async for letter in bus.dead_letters(channel)]
    assert handled == [2]
    assert (letter.message.id, letter.message.body) == ("poison", b"1")
    assert (letter.reason, letter.attempts, letter.error_type) == ("delivery-limit", 0, "")
    assert (letter.origin, letter.handler.partition(":")[0]) == (channel.name, "shop")
    all_right()


async def test_acknowledgements_of_one_turn_go_together(url: str) -> None:
    batches: list[int] = []

    class Counting(ScriptedReceiver):
        async def ack(self, deliveries: list[Delivery]) -> None:  # type: ignore[override]  # narrower is enough
            batches.append(len(deliveries))
            await super().ack(deliveries)

    work = Work(numbers, concurrency=100)
    async with unimsg.connect(work.service, url=url):
        receiver = the_receiver()
        receiver.__class__ = Counting
        receiver.give(*map(str, range(60)), epoch=Epoch())
        await until(lambda: len(work.started) == 60, "60 handlers")
        work.go.set()
        await until(lambda: len(receiver.acked) == 60, "60 acknowledgements")
    assert len(batches) <= 3, f"batches of {batches}"
    all_right()


async def test_handlers_that_wait_start_together_and_those_that_do_not_share_a_task(url: str) -> None:
    """What those that wait send leaves together then; a task for each of the others would cost as much as handling."""
    service, waits, running, most = Service("shop"), True, 0, 0
    tasks: list[object] = []

    @service.handler(numbers, concurrency=8)
    async def handle(_: int) -> None:
        nonlocal running, most
        tasks.append(asyncio.current_task())
        if waits:
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)  # one turn of the event loop
            running -= 1

    async def batch() -> None:
        nonlocal most
        tasks.clear()
        most = 0
        the_receiver().give(*map(str, range(8)), epoch=Epoch())
        await until(lambda: len(tasks) == 8 and not running, "all of the batch")

    async with unimsg.connect(service, url=url):
        await batch()
        await batch()
        assert most == 8
        waits = False
        await batch()
        await batch()
        assert len(set(tasks)) == 1
    all_right()


async def test_settlements_that_do_not_count_end_nothing_and_are_no_problem(url: str) -> None:
    work, epoch = Work(numbers), Epoch()
    async with unimsg.connect(work.service, url=url) as bus:
        the_receiver().give("1", epoch=epoch)
        await until(lambda: work.started, "the handler")
        epoch.end()
        work.go.set()
        await came(the_receiver().lost, ["1"])
        the_receiver().give("2", epoch=Epoch())
        await came(the_receiver().acked, ["2"])
        assert (await bus.health()).problems == []
    assert work.lost == ["1"], "the handler could see it"
    all_right()


async def test_settling_that_fails_ends_nothing_and_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    work = Work(numbers)
    work.go.set()
    async with unimsg.connect(work.service, url=url) as bus:
        the_receiver().settling_fails = OSError("a bug of an adapter")
        the_receiver().give("1", epoch=Epoch())
        await until(lambda: "ack of 1 deliveries failed" in caplog.text, "the failure, logged")
        health = await bus.health()
        assert (health.live, health.ready) == (True, False)
        assert list(health.problems) == ["consumer.numbers: settling fails: OSError"]
        the_receiver().settling_fails = None
        the_receiver().give("2", epoch=Epoch())
        await came(the_receiver().acked, ["2"])
        assert (await bus.health()).ready


# -- receiving


async def test_receiving_that_fails_is_tried_again_and_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    work = Work(numbers)
    work.go.set()
    async with unimsg.connect(work.service, url=url) as bus:
        receiver = the_receiver()
        receiver.failures += [OSError("a bug"), KeyError("another")]
        receiver.give("1", epoch=Epoch())  # it waits in `get`: this lets the failures follow
        await came(receiver.acked, ["1"])
        await until(lambda: "receiving failed" in caplog.text, "the first failure, logged")
        assert "consumer.numbers: receiving fails: OSError" in (await bus.health()).problems
        receiver.give("2", epoch=Epoch())
        await came(receiver.acked, ["1", "2"])
        assert await bus.health() == unimsg.Health(live=True, ready=True, problems=[])
    all_right()


async def test_a_consumer_whose_receiver_was_closed_behind_its_back_makes_the_process_not_live(url: str) -> None:
    async with unimsg.connect(Work(numbers).service, url=url) as bus:
        the_receiver().mailbox.close(ReceiverClosed("closed"))
        health = await bus.health()
        while health.live:
            await asyncio.sleep(0.01)
            health = await bus.health()
        assert list(health.problems) == ["consumer.numbers: its consumer has ended"]


@pytest.mark.parametrize(("handlers", "prefetch"), [({}, 20), ({"concurrency": 15}, 30), ({"prefetch": 3}, 3)])
async def test_prefetch_is_twice_the_concurrency_and_20_at_least_unless_said_otherwise(
    url: str, handlers: dict[str, int], prefetch: int
) -> None:
    settings = Settings(url=url, handlers={"consumer.numbers": handlers})
    async with unimsg.connect(Work(numbers).service, settings=settings):
        assert the_receiver().prefetch == prefetch


# -- draining epochs, as a rebalance makes them


@CHANNELS
async def test_when_an_epoch_drains_what_runs_may_end_and_the_rest_is_given_back(url: str, channel: Queue[int]) -> None:
    work, epoch = Work(channel, concurrency=2), Epoch()
    async with unimsg.connect(work.service, url=url):
        receiver = the_receiver()
        for name in "abcd":
            receiver.give(f"{name}1", f"{name}2", epoch=epoch, key=name)
        await until(lambda: len(work.started) == 2, "two handlers")
        epoch.drain()
        rest = sorted({f"{name}{number}" for name in "abcd" for number in (1, 2)} - set(work.started))
        await came(receiver.released, rest)
        work.go.set()
        await came(receiver.acked, work.started)
        assert len(work.started) == 2, "nothing of a draining epoch is started"
        receiver.give("e1", epoch=Epoch(), key="a")
        await until(lambda: "e1" in receiver.acked, "a message of the next epoch")
    assert work.cancelled == []
    all_right()


@CHANNELS
async def test_what_is_late_in_a_draining_epoch_is_cancelled_given_back_and_no_failure(
    url: str, channel: Queue[int]
) -> None:
    work, epoch = Work(channel, grace=0.1), Epoch()
    async with unimsg.connect(work.service, url=url) as bus:
        the_receiver().give("1", epoch=epoch, key="a")
        await until(lambda: work.started, "the handler")
        begin = monotonic()
        epoch.drain()
        await came(the_receiver().released, ["1"])
        assert monotonic() - begin >= 0.1
        assert (await bus.health()).problems == []
    assert work.cancelled == ["1"]
    all_right()


@CHANNELS
async def test_of_a_lost_connection_what_runs_may_end_too(url: str, channel: Queue[int]) -> None:
    work, epoch = Work(channel, grace=0.1), Epoch()
    async with unimsg.connect(work.service, url=url):
        the_receiver().give("1", "2", epoch=epoch, key="a")
        await until(lambda: work.started, "the handler")
        epoch.end()
        the_receiver().give("3", epoch=Epoch(), key="b")
        await until(lambda: "3" in work.started, "a message of the next connection")
        work.go.set()
        await until(lambda: "3" in the_receiver().acked, "its acknowledgement")
    assert work.cancelled == []
    all_right()


async def test_a_key_never_runs_twice_in_one_process_over_a_lost_connection(url: str) -> None:
    work, first = Work(ordered), Epoch()
    async with unimsg.connect(work.service, url=url):
        the_receiver().give("1", epoch=first, key="a")
        await until(lambda: work.started, "the handler")
        first.end()
        the_receiver().give("1", "2", epoch=Epoch(), key="a")
        the_receiver().give("3", epoch=Epoch(), key="b")
        await until(lambda: "3" in work.started, "another key")
        assert work.started.count("1") == 1, "its first handling still runs here"
        work.go.set()
        await came(the_receiver().acked, ["1", "2", "3"])
    assert [id for id in work.started if id != "3"] == ["1", "1", "2"]
    all_right()


@CHANNELS
async def test_a_failed_message_that_waits_in_here_is_given_back_when_its_epoch_drains(
    url: str, channel: Queue[int]
) -> None:
    """An ordered one waits for its next attempt, another for room where its copy goes to."""
    service, epoch, tried = Service("shop", retry=Retry(30)), Epoch(), list[str]()
    Scripted.refuses = True

    @service.handler(channel)
    async def handle(body: int, context: Context) -> None:
        tried.append(context.message.id)
        if len(tried) == 1:
            raise ValueError

    async with unimsg.connect(service, url=url):
        the_receiver().give("1", "2" if channel.ordered else "1b", epoch=epoch, key="a")
        await until(lambda: tried, "the failure")
        await asyncio.sleep(0.01)
        assert the_receiver().acked in ([], ["1b"])
        epoch.drain()
        await until(lambda: "1" in the_receiver().released, "given back, at once and not after 30 seconds")
        assert "1" not in the_receiver().acked
        the_receiver().give("1", epoch=Epoch(), key="a")
        await until(lambda: "1" in the_receiver().acked, "handled in its next epoch")
    all_right()


async def test_so_is_one_without_a_key_on_an_ordered_channel(url: str) -> None:
    service, epoch, tried = Service("shop", retry=Retry(30)), Epoch(), list[str]()

    @service.handler(ordered)
    async def handle(body: int, context: Context) -> None:
        tried.append(context.message.id)
        raise ValueError

    async with unimsg.connect(service, url=url):
        the_receiver().give("1", epoch=epoch)
        await until(lambda: tried, "the failure")
        await asyncio.sleep(0)
        epoch.drain()
        await until(lambda: the_receiver().released == ["1"], "given back")
    all_right()


async def test_epochs_that_are_over_do_not_stay_in_memory(url: str) -> None:
    work = Work(numbers)
    work.go.set()

    def alive() -> int:
        gc.collect()
        return sum(isinstance(value, Epoch) for value in gc.get_objects())

    async with unimsg.connect(work.service, url=url):
        before = alive()
        for number in range(100):
            epoch = Epoch()
            the_receiver().give(f"{number}", epoch=epoch)
            await until(lambda number=number: len(the_receiver().acked) == number + 1, "acknowledged")  # type: ignore[misc]  # a default binds it now
            epoch.end()
        del epoch
        assert alive() - before < 10


async def test_many_epochs_at_once_are_told_apart(url: str) -> None:
    """As the partitions of Kafka, each with an epoch of its own."""
    work = Work(ordered, concurrency=10)
    epochs = [Epoch() for _ in range(5)]
    async with unimsg.connect(work.service, url=url):
        for turn in range(3):
            for number, epoch in enumerate(epochs):
                the_receiver().give(f"{number}-{turn}", epoch=epoch, key=f"{number}")
        await until(lambda: len(work.started) == 5, "one of each key")
        epochs[2].drain()
        await came(the_receiver().released, ["2-1", "2-2"])
        work.go.set()
        await until(lambda: len(the_receiver().acked) == 13, "all others")
    all_right()


@pytest.mark.parametrize("seed", range(12))
@CHANNELS
async def test_whatever_happens_each_delivery_is_settled_exactly_once(url: str, channel: Queue[int], seed: int) -> None:
    pace = random.Random(seed)
    service = Service("shop", grace=pace.choice([0, 0.005, 0.05]))
    running: dict[str | None, int] = {}
    wrong: list[str] = []

    @service.handler(channel, concurrency=pace.choice([1, 2, 7]), timeout=0.03)
    async def handle(body: int, context: Context) -> None:
        message = context.message
        if epoch_of[message.id].draining:
            wrong.append(f"{message.id} started, and its epoch drains")
        if channel.ordered:
            running[message.key] = running.get(message.key, 0) + 1
            if running[message.key] > 1:
                wrong.append(f"{message.key} twice at once")
        try:
            await asyncio.sleep(pace.choice([0, 0, 0.001, 0.004, 0.02, 1]))
            if pace.random() < 0.2:
                raise ValueError
        finally:
            if channel.ordered:
                running[message.key] -= 1

    epoch_of: dict[str, Epoch] = {}
    async with unimsg.connect(service, url=url):
        receiver, epochs = the_receiver(), [Epoch()]
        for number in range(150):
            epoch_of[f"{number}"] = pace.choice(epochs)
            receiver.give(f"{number}", epoch=epoch_of[f"{number}"], key=pace.choice("abcd"))
            what = pace.random()
            if what < 0.1:
                epochs.append(Epoch())
            elif what < 0.2 and len(epochs) > 1:
                epoch = epochs.pop(pace.randrange(len(epochs)))
                epoch.drain() if pace.random() < 0.5 else epoch.end()
            if pace.random() < 0.3:
                await asyncio.sleep(pace.choice([0, 0.001, 0.005]))
    all_right()
    assert wrong == []
    left = receiver.mailbox.handed_out()
    if channel.ordered:  # closing gives these back, keys in order
        assert [delivery.wire.id for delivery in left if delivery.epoch.draining] == [], "of draining epochs"
    else:
        assert [delivery.wire.id for delivery in left] == [], "never settled"
    assert receiver.closed


# -- health


@pytest.fixture
def idle() -> Service[None]:
    return Work(numbers).service


async def problems(bus: Bus) -> list[str]:
    health = await bus.health()
    assert health.live
    assert health.ready == (not health.problems)
    return list(health.problems)


async def test_health_says_what_the_adapter_says(url: str, idle: Service[None]) -> None:
    async with unimsg.connect(idle, url=url) as bus:
        assert await problems(bus) == []
        Scripted.problems.append("the broker blocks publishing: memory alarm")
        assert await problems(bus) == ["default (memory): the broker blocks publishing: memory alarm"]


async def test_a_lost_connection_is_a_problem_while_it_lasts(url: str, idle: Service[None]) -> None:
    async with unimsg.connect(idle, url=url) as bus:
        Scripted.lost_connection = True
        assert await problems(bus) == ["default (memory): not connected"]
        Scripted.lost_connection = False
        assert await problems(bus) == []


async def test_a_receiver_without_its_broker_is_a_problem_after_ten_seconds(url: str, idle: Service[None]) -> None:
    async with unimsg.connect(idle, url=url) as bus:
        Scripted.consuming_since = monotonic() - 5
        assert await problems(bus) == [], "a rebalance"
        Scripted.consuming_since = monotonic() - 11
        assert await problems(bus) == ["default (memory): consumer.numbers: receives nothing since 11 s"]


async def test_health_is_plain_data_for_json(url: str, idle: Service[None]) -> None:
    async with unimsg.connect(idle, url=url) as bus:
        counts = {"expired": 0, "late_replies": 0, "duplicate_replies": 0, "unknown_replies": 0}
        wanted = {"live": True, "ready": True, "problems": [], "counts": counts}
        assert json.loads(json.dumps((await bus.health()).as_dict())) == wanted
