"""Sending: what comes back, what is refused before anything is sent, pipelines, and the end."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, ClassVar

import pytest
from memory_like import Tea
from waiting import came, until

import unimsg
from unimsg import (
    BusClosed,
    Context,
    EncodeError,
    MessageTooLarge,
    PublishError,
    PublishRejected,
    PublishUnconfirmed,
    Queue,
    Refused,
    Service,
    Settings,
    Topic,
    TopologyError,
    Unroutable,
)
from unimsg._publisher import MAX_IN_FLIGHT
from unimsg.adapter import Adapter, Address, Wanted, Wire
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

Serve = Callable[[str, type[Adapter]], str]
numbers = Queue("bus.numbers", int)
events = Topic("bus.events", int)
ordered = Queue("bus.ordered", int, ordered=True)
keyed = Queue("bus.keyed", str, key=lambda text: text[:1])


@pytest.fixture
def tea(serve: Serve) -> str:
    Tea.forget()
    return serve("tea", Tea)


def wires() -> list[Wire]:
    return [wire for _, wire in Tea.sent]


# -- one message


async def test_a_send_returns_the_id_of_the_message_that_is_stored(tea: str) -> None:
    async with unimsg.connect(url=tea) as bus:
        id = await bus.send(numbers, 7)
        assert uuid.UUID(id).version == 7
        assert [(wire.id, wire.body) for wire in wires()] == [(id, b"7")]
        assert MemoryBroker.current().queues["bus.numbers"].waiting == 1


async def test_an_id_of_the_callers_own_is_kept(tea: str) -> None:
    async with unimsg.connect(url=tea) as bus:
        assert await bus.send(numbers, 7, id="saga-1") == "saga-1"
        assert await bus.publish(events, 7, id="saga-1") == "saga-1"
    assert [wire.id for wire in wires()] == ["saga-1", "saga-1"]


async def test_what_travels_is_a_cloud_event(tea: str) -> None:
    service = Service("shop")
    async with unimsg.connect(service, url=tea) as bus:
        await bus.publish(events, 7, headers={"tenant": "acme"}, key="k")
    [wire] = wires()
    time = wire.headers["ce-time"]
    assert time.endswith("Z")
    assert wire.headers == {
        "ce-specversion": "1.0",
        "ce-source": "shop",
        "ce-type": "bus.events",
        "ce-messagekind": "event",
        "ce-time": time,
        "content-type": "application/json",
        "tenant": "acme",
    }
    assert wire.key == "k"


async def test_a_client_is_no_service_and_several_services_share_one_source(tea: str) -> None:
    async with unimsg.connect(url=tea) as client, unimsg.connect(Service("aa"), Service("bb"), url=tea) as both:
        await client.send(numbers, 1)
        await both.send(numbers, 1)
    assert [wire.headers["ce-source"] for wire in wires()] == ["client", "client"]


async def test_publishing_to_nobody_is_a_success() -> None:
    async with unimsg.connect(url="memory://") as bus:
        assert await bus.publish(events, 7)


async def test_a_send_before_any_receiver_waits_for_it() -> None:
    got: list[int] = []
    service = Service("shop")

    @service.handler(numbers)
    async def collect(body: int) -> None:
        got.append(body)

    async with unimsg.connect(url="memory://") as bus:
        await bus.send(numbers, 7)
    async with unimsg.connect(service, url="memory://"):
        await came(got, [7])


# -- what is refused before anything is sent


@pytest.mark.parametrize(
    ("channel", "body", "more"),
    [
        (numbers, "7", {}),
        (numbers, None, {}),
        (numbers, 7, {"key": ""}),
        (numbers, 7, {"key": 7}),
        (numbers, 7, {"id": ""}),
        (numbers, 7, {"id": 7}),
        (numbers, 7, {"id": "x" * 129}),
        (numbers, 7, {"headers": {"x-tenant": "acme"}}),
        (numbers, 7, {"headers": {"tenant": 5}}),
        (numbers, 7, {"headers": {"Tenant": "acme"}}),
        (numbers, 7, {"headers": [("tenant", "acme")]}),
        (numbers, 7, {"headers": "tenant"}),
        (ordered, 7, {}),
        (keyed, "", {}),
        (Queue("bus.bytes", bytes), bytes(1_000_001), {}),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.parametrize("through", ["bus", "pipeline"])
async def test_what_is_invalid_is_an_encode_error_and_nothing_is_sent_or_made(
    tea: str, channel: Queue[Any], body: Any, more: dict[str, Any], through: str
) -> None:
    async with unimsg.connect(url=tea) as bus, bus.pipeline() as pipeline:
        sender = bus if through == "bus" else pipeline
        with pytest.raises(EncodeError):
            await sender.send(channel, body, **more)
        assert (Tea.sent, Tea.ensured) == ([], [])


async def test_an_ordered_channel_says_that_it_wants_a_key(tea: str) -> None:
    async with unimsg.connect(url=tea) as bus:
        with pytest.raises(EncodeError, match=r"bus\.ordered is ordered: pass key=, or declare the channel with key="):
            await bus.send(ordered, 7)


async def test_a_declared_key_is_derived_from_the_body_unless_the_call_says_another(tea: str) -> None:
    async with unimsg.connect(url=tea) as bus:
        await bus.send(keyed, "ann")
        await bus.send(keyed, "bob", key="a")
        await bus.send(numbers, 7, key="k")
        await bus.send(numbers, 7)
    assert [wire.key for wire in wires()] == ["a", "a", "k", None]


async def test_a_key_function_that_returns_no_text_is_an_encode_error(tea: str) -> None:
    wrong: Any = lambda body: body  # noqa: E731
    async with unimsg.connect(url=tea) as bus:
        with pytest.raises(EncodeError, match="a key must be a str, not a int"):
            await bus.send(Queue("bus.wrong", int, key=wrong), 7)


async def test_the_verbs_are_for_their_kind_of_channel_and_say_which_other_to_use(tea: str) -> None:
    queue: Any = numbers
    topic: Any = events
    name: Any = "bus.numbers"
    async with unimsg.connect(url=tea) as bus:
        with pytest.raises(
            TypeError, match=r"publish\(\) takes a Topic, not Queue\('bus.numbers'\): send\(\) to a Queue"
        ):
            await bus.publish(queue, 7)
        with pytest.raises(
            TypeError, match=r"send\(\) takes a Queue, not Topic\('bus.events'\): publish\(\) to a Topic"
        ):
            await bus.send(topic, 7)
        with pytest.raises(TypeError, match="send"):
            await bus.send(name, 7)
    assert Tea.sent == []


@pytest.mark.parametrize("what", ["reply_to"])
async def test_what_does_not_exist_yet_is_never_accepted_and_ignored(tea: str, what: str) -> None:
    more: Any = {what: 5}
    async with unimsg.connect(url=tea) as bus:
        with pytest.raises((TypeError, unimsg.CapabilityError), match=what):
            await bus.send(numbers, 7, **more)
    assert Tea.sent == []


# -- what the broker refuses


async def test_a_full_queue_refuses_and_the_error_names_channel_and_message() -> None:
    small = Queue("bus.small", int, options=[MemoryOptions(max_length=1)])
    async with unimsg.connect(url="memory://") as bus:
        await bus.send(small, 1)
        with pytest.raises(Refused, match=r"bus\.small is full") as caught:
            await bus.send(small, 2, id="second")
        assert (caught.value.channel, caught.value.message_id) == ("bus.small", "second")


async def test_a_deleted_queue_is_unroutable() -> None:
    async with unimsg.connect(url="memory://") as bus:
        await bus.send(numbers, 1)
        MemoryBroker.current().delete("bus.numbers")
        with pytest.raises(Unroutable, match=r"bus\.numbers does not exist"):
            await bus.send(numbers, 2)


class Choosy(MemoryAdapter):
    """Refuses what has an odd body."""

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        outcomes = await super().send(address, messages, timeout=timeout)
        return [
            MessageTooLarge("too large", channel=address.name, message_id=wire.id) if int(wire.body) % 2 else outcome
            for wire, outcome in zip(messages, outcomes, strict=True)
        ]


async def test_one_bad_message_does_not_fail_its_neighbours(serve: Serve) -> None:
    async with unimsg.connect(url=serve("choosy", Choosy)) as bus:
        results = await asyncio.gather(
            *(bus.send(numbers, number, id=str(number)) for number in range(6)), return_exceptions=True
        )
    assert [result if isinstance(result, str) else type(result) for result in results] == [
        *("0", MessageTooLarge, "2", MessageTooLarge, "4", MessageTooLarge)
    ]
    assert [result.message_id for result in results if isinstance(result, PublishError)] == ["1", "3", "5"]


class Broken(MemoryAdapter):
    """An adapter with a bug."""

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if messages[0].body == b"0":
            raise RuntimeError("a bug")
        return []


@pytest.mark.parametrize("body", [0, 1], ids=["raises", "too few outcomes"])
async def test_a_bug_of_an_adapter_is_an_unconfirmed_message_not_a_hanging_caller(serve: Serve, body: int) -> None:
    async with unimsg.connect(url=serve("broken", Broken)) as bus:
        with pytest.raises(PublishUnconfirmed, match=r"bus\.numbers") as caught:
            async with asyncio.timeout(3):
                await bus.send(numbers, body, id="7", timeout=1)
        assert caught.value.message_id == "7"


# -- deadlines


class Stuck(MemoryAdapter):
    """A broker that confirms nothing."""

    calls = 0

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        Stuck.calls += 1
        await asyncio.sleep(timeout)
        return [PublishUnconfirmed("no answer", channel=address.name, message_id=wire.id) for wire in messages]


async def test_a_send_that_nobody_confirms_is_unconfirmed_at_its_deadline(serve: Serve) -> None:
    async with unimsg.connect(url=serve("stuck", Stuck)) as bus:
        begin = monotonic()
        with pytest.raises(PublishUnconfirmed):
            await bus.send(numbers, 1, timeout=0.2)
        assert 0.15 < monotonic() - begin < 1


async def test_a_send_behind_others_that_are_stuck_ends_at_its_own_deadline(serve: Serve) -> None:
    async with unimsg.connect(url=serve("stuck", Stuck)) as bus:
        Stuck.calls = 0
        stuck = []
        for number in range(MAX_IN_FLIGHT):
            stuck.append(asyncio.create_task(bus.send(numbers, number, timeout=1.5 + number / 10)))
            await until(lambda wanted=number + 1: wanted == Stuck.calls, "a batch of its own")  # type: ignore[misc]  # a default binds it now
        begin = monotonic()
        with pytest.raises(PublishRejected, match="not sent before its deadline") as caught:
            await bus.send(numbers, 99, id="late", timeout=0.2)
        assert monotonic() - begin < 1
        assert caught.value.message_id == "late"
        assert Stuck.calls == MAX_IN_FLIGHT, "it never left this process"
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_each_of_many_concurrent_sends_has_its_own_deadline(serve: Serve) -> None:
    async with unimsg.connect(url=serve("stuck", Stuck)) as bus:
        begin = monotonic()
        patient = asyncio.create_task(bus.send(numbers, 1, timeout=1.5))
        hasty = asyncio.create_task(bus.send(numbers, 2, timeout=0.2))
        with pytest.raises(PublishUnconfirmed):
            await hasty
        assert monotonic() - begin < 1
        with pytest.raises(PublishUnconfirmed):
            await patient
        assert monotonic() - begin > 1.4


async def test_so_has_each_of_more_than_go_out_at_once(serve: Serve) -> None:
    """More batches than may be in flight, all sent in one turn: what stays behind has its deadline too."""
    async with unimsg.connect(url=serve("stuck", Stuck)) as bus:
        begin = monotonic()
        patient = [
            asyncio.create_task(bus.send(numbers, number, timeout=1 + number / 10)) for number in range(MAX_IN_FLIGHT)
        ]
        hasty = asyncio.create_task(bus.send(numbers, 99, timeout=0.2))
        with pytest.raises(PublishRejected, match="not sent before its deadline"):
            await hasty
        assert monotonic() - begin < 0.8
        await asyncio.gather(*patient, return_exceptions=True)


class SlowToMake(MemoryAdapter):
    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await asyncio.sleep(1.5)
        await super().ensure(address, wanted, timeout=timeout)


async def test_the_deadline_covers_the_making_of_the_channel(serve: Serve) -> None:
    async with unimsg.connect(url=serve("slow", SlowToMake)) as bus:
        begin = monotonic()
        with pytest.raises(PublishRejected, match=r"bus\.numbers: not sent: its broker did not answer in time"):
            await bus.send(numbers, 1, timeout=0.1)
        assert monotonic() - begin < 1
        await bus.send(numbers, 2, timeout=5)
        assert MemoryBroker.current().queues["bus.numbers"].waiting == 1


async def test_a_cancelled_send_frees_its_caller_at_once_and_the_next_works(serve: Serve) -> None:
    async with unimsg.connect(url=serve("slow", SlowToMake)) as bus:
        waiting = asyncio.create_task(bus.send(numbers, 1))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await bus.send(numbers, 2)


# -- order


async def test_concurrent_sends_keep_the_order_of_their_calls() -> None:
    got: list[int] = []
    service = Service("shop")

    @service.handler(ordered)
    async def collect(body: int) -> None:
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await asyncio.gather(*(bus.send(ordered, number, key="k", timeout=5 + number % 3) for number in range(100)))
        await until(lambda: len(got) == 100, "100 messages")
    assert got == list(range(100))


# -- a send that finds its channel idle


class Gated(MemoryAdapter):
    """Knows what it was given, and in whose task; stores it when its gate is open."""

    given: ClassVar[list[tuple[list[int], "asyncio.Task[Any] | None"]]] = []
    gate: ClassVar[asyncio.Event]

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        self.given.append(([int(wire.body) for wire in messages], asyncio.current_task()))
        await self.gate.wait()
        return await super().send(address, messages, timeout=timeout)


@pytest.fixture
async def gated(serve: Serve) -> str:
    Gated.given.clear()
    Gated.gate = asyncio.Event()
    Gated.gate.set()
    return serve("gated", Gated)


async def test_it_goes_out_in_its_own_task_and_what_is_sent_meanwhile_together_behind_it(gated: str) -> None:
    async with unimsg.connect(url=gated) as bus:
        await bus.send(numbers, 0)
        await bus.send(numbers, 1)
        assert [task is asyncio.current_task() for _, task in Gated.given] == [False, True]
        Gated.gate.clear()
        sends = [asyncio.create_task(bus.send(numbers, number)) for number in range(2, 6)]
        await until(lambda: len(Gated.given) == 4, "what was sent meanwhile")
        Gated.gate.set()
        await asyncio.gather(*sends)
        await bus.send(numbers, 6)
    assert [numbers for numbers, _ in Gated.given] == [[0], [1], [2], [3, 4, 5], [6]]
    assert Gated.given[-1][1] is not asyncio.current_task(), "many were sent at once just before"


async def test_cancelling_it_frees_its_caller_and_hurts_nobody_behind_it(gated: str) -> None:
    async with unimsg.connect(url=gated) as bus:
        await bus.send(numbers, 0)
        Gated.gate.clear()
        sends = [asyncio.create_task(bus.send(numbers, number)) for number in (1, 2)]
        await until(lambda: len(Gated.given) == 3, "both")
        sends[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(sends[0], 1)
        Gated.gate.set()
        await sends[1]
        await bus.send(numbers, 3)


async def test_a_task_that_is_being_cancelled_sends_through_another(gated: str) -> None:
    """Adapters tell by the task that they run in whether they are cancelled."""

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await bus.send(numbers, 2)

    async with unimsg.connect(url=gated) as bus:
        await bus.send(numbers, 0)
        await bus.send(numbers, 1)
        cancelled = asyncio.create_task(clean_up())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert Gated.given[-1][0] == [2]
        assert Gated.given[-1][1] is not cancelled


async def test_the_end_of_the_block_waits_for_it(gated: str) -> None:
    async with unimsg.connect(url=gated) as bus:
        await bus.send(numbers, 0)
        Gated.gate.clear()
        send = asyncio.create_task(bus.send(numbers, 1))
        await until(lambda: len(Gated.given) == 2, "the message alone")
        asyncio.get_running_loop().call_later(0.1, Gated.gate.set)
    assert send.done()
    await send
    assert MemoryBroker.current().queues["bus.numbers"].waiting == 2


# -- pipelines


async def test_a_pipeline_sends_everything_and_leaving_it_waits_for_all(tea: str) -> None:
    async with unimsg.connect(url=tea) as bus:
        async with bus.pipeline() as pipeline:
            ids = [await pipeline.send(numbers, number) for number in range(2500)]
            await pipeline.publish(events, 1)
        assert [wire.id for wire in wires()[:2500]] == ids
        assert MemoryBroker.current().queues["bus.numbers"].waiting == 2500


class Counting(MemoryAdapter):
    """Confirms slowly; knows how many messages were unconfirmed at once."""

    now = 0
    most = 0

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        Counting.now += len(messages)
        Counting.most = max(Counting.most, Counting.now)
        await asyncio.sleep(0.005)
        Counting.now -= len(messages)
        return await super().send(address, messages, timeout=timeout)


@pytest.mark.parametrize("window", [1, 7])
async def test_its_window_is_never_exceeded_by_however_many_senders(serve: Serve, window: int) -> None:
    Counting.now = Counting.most = 0
    async with unimsg.connect(url=serve("counting", Counting)) as bus:
        async with bus.pipeline(in_flight=window) as pipeline:
            await asyncio.gather(*(pipeline.send(numbers, number) for number in range(60)))
        assert Counting.most == window
        assert MemoryBroker.current().queues["bus.numbers"].waiting == 60


async def test_what_was_not_confirmed_is_raised_as_a_group_at_its_end(serve: Serve) -> None:
    async with unimsg.connect(url=serve("choosy", Choosy)) as bus:
        pipeline = bus.pipeline()
        sender = await pipeline.__aenter__()
        for number in range(6):
            await sender.send(numbers, number, id=str(number))
        with pytest.raises(ExceptionGroup, match="3 messages were not confirmed") as caught:
            await pipeline.__aexit__(None, None, None)
        errors = caught.value.exceptions
        assert [error.message_id for error in errors if isinstance(error, MessageTooLarge)] == ["1", "3", "5"]


async def test_the_blocks_own_error_goes_first_and_what_was_accepted_is_sent_all_the_same(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with unimsg.connect(url=serve("choosy", Choosy)) as bus:

        async def block() -> None:
            async with bus.pipeline() as pipeline:
                await pipeline.send(numbers, 1)
                await pipeline.send(numbers, 2)
                raise KeyError

        with pytest.raises(KeyError):
            await block()
        assert MemoryBroker.current().queues["bus.numbers"].waiting == 2
        assert "1 messages of a pipeline were not confirmed" in caplog.text


async def test_a_pipeline_whose_channel_cannot_be_made_fails_each_send_and_hangs_nobody(serve: Serve) -> None:
    class Never(MemoryAdapter):
        async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
            await asyncio.sleep(0)
            raise TopologyError("it differs")

    async with unimsg.connect(url=serve("never", Never)) as bus, asyncio.timeout(3):
        async with bus.pipeline(in_flight=1) as pipeline:
            results = await asyncio.gather(
                *(pipeline.send(numbers, number) for number in range(5)), return_exceptions=True
            )
        assert [type(result) for result in results] == [TopologyError] * 5


async def test_a_sender_that_waits_for_room_when_the_bus_closes_is_told_so(gated: str) -> None:
    async with unimsg.connect(url=gated) as bus:
        await bus.send(numbers, 0)
        Gated.gate.clear()
        pipeline = bus.pipeline(in_flight=1)
        sender = await pipeline.__aenter__()
        await sender.send(numbers, 1)
        waits = asyncio.create_task(sender.send(numbers, 2))
        await until(lambda: len(Gated.given) == 2, "the first")
        asyncio.get_running_loop().call_later(0.1, Gated.gate.set)
    with pytest.raises(BusClosed):
        await asyncio.wait_for(waits, 3)
    await asyncio.wait_for(pipeline.__aexit__(None, None, None), 3)


async def test_a_window_is_one_message_at_least() -> None:
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(ValueError, match="in_flight must be 1 or more"):
            bus.pipeline(in_flight=0)


# -- the end


async def test_a_bus_whose_block_ended_refuses_everything() -> None:
    async with unimsg.connect(url="memory://") as bus, bus.pipeline() as pipeline:
        pass
    for call in (bus.send(numbers, 1), bus.publish(events, 1), pipeline.send(numbers, 1)):
        with pytest.raises(
            BusClosed, match=r"bus\.(numbers|events): the bus was closed: use it inside its `async with`"
        ):
            await call
    assert not (await bus.health()).ready


async def test_so_does_a_context_whose_handler_ended() -> None:
    service, kept = Service("shop"), list[Context]()

    @service.handler(numbers)
    async def keep(body: int, context: Context) -> None:
        kept.append(context)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 1)
        await until(lambda: kept, "the context")
        await until(lambda: not MemoryBroker.current().queues["bus.numbers"].length, "the acknowledgement")
        with pytest.raises(BusClosed, match=r"bus\.events: the handler has ended, .* use context\.bus"):
            await kept[0].publish(events, 1)
        await kept[0].bus.publish(events, 1)


async def test_what_is_on_its_way_when_the_block_ends_still_has_an_outcome(serve: Serve) -> None:
    class Slow(MemoryAdapter):
        async def send(
            self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
        ) -> Sequence[PublishError | None]:
            await asyncio.sleep(0.1)
            return await super().send(address, messages, timeout=timeout)

    async with unimsg.connect(url=serve("slow", Slow)) as bus:
        sends = [asyncio.create_task(bus.send(numbers, number)) for number in range(30)]
        await asyncio.sleep(0)
    assert len(await asyncio.gather(*sends)) == 30
    assert MemoryBroker.current().queues["bus.numbers"].waiting == 30


async def test_a_send_that_waits_for_its_channel_when_the_block_ends_is_told_so(serve: Serve) -> None:
    async with unimsg.connect(url=serve("slow", SlowToMake)) as bus:
        send = asyncio.create_task(bus.send(numbers, 1))
        await asyncio.sleep(0.05)
    with pytest.raises((BusClosed, PublishRejected)):
        await asyncio.wait_for(send, 3)


async def test_the_block_may_raise_and_everything_is_closed_all_the_same() -> None:
    with pytest.raises(KeyError):
        async with unimsg.connect(url="memory://") as bus:
            raise KeyError
    with pytest.raises(BusClosed):
        await bus.send(numbers, 1)


# -- nothing configured


async def test_without_configuration_messages_stay_in_the_process_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    got: list[int] = []
    service = Service("shop")

    @service.handler(numbers)
    async def collect(body: int) -> None:
        got.append(body)

    async with unimsg.connect(service) as bus:
        await bus.send(numbers, 7)
        await came(got, [7])
        health = await bus.health()
    assert (health.live, health.ready) == (True, False)
    assert "not durable: no broker is configured" in health.problems[0]
    assert [record.levelname for record in caplog.records if "no broker is configured" in record.message] == ["WARNING"]
    assert "UNIMSG_URL" in caplog.text


@pytest.mark.parametrize("how", ["url", "settings", "environment"])
async def test_memory_that_was_chosen_is_no_reason_to_warn(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {"url": "memory://"} if how == "url" else {}
    if how == "settings":
        more = {"settings": Settings(url="memory://")}
    if how == "environment":
        monkeypatch.setenv("UNIMSG_URL", "memory://")
    async with unimsg.connect(**more) as bus:
        assert await bus.health() == unimsg.Health(live=True, ready=True, problems=[])
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.parametrize("timeout", [0, -1.0])
async def test_a_timeout_that_leaves_no_time_is_refused(timeout: float) -> None:
    async with unimsg.connect(url="memory://") as bus:
        with pytest.raises(ValueError, match="timeout must be more than 0 seconds"):
            await bus.send(numbers, 1, timeout=timeout)


class SlowToStore(MemoryAdapter):
    """Takes a while to make a channel, and confirms nothing in time; keeps what it was given, in order."""

    given: ClassVar[list[int]] = []
    confirms = True

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        await asyncio.sleep(0.4)
        await super().ensure(address, wanted, timeout=timeout)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        self.given.extend(int(wire.body) for wire in messages)
        if self.confirms:
            return await super().send(address, messages, timeout=timeout)
        await asyncio.sleep(timeout)
        return [PublishUnconfirmed("no answer", channel=address.name, message_id=wire.id) for wire in messages]


async def test_what_is_sent_while_a_channel_is_being_made_keeps_its_order(serve: Serve) -> None:
    SlowToStore.given.clear()
    async with unimsg.connect(url=serve("storing", SlowToStore)) as bus:
        sends = []
        made = monotonic() + 0.6
        while monotonic() < made:  # a send in each turn of the loop, before, at and after the moment of its making
            sends.append(asyncio.create_task(bus.send(ordered, len(sends), key="k")))
            await asyncio.sleep(0)
        await asyncio.gather(*sends)
    assert SlowToStore.given == list(range(len(sends)))


async def test_making_the_channel_and_sending_share_one_deadline(serve: Serve) -> None:
    class NeverConfirms(SlowToStore):
        confirms = False

    async with unimsg.connect(url=serve("storing", NeverConfirms)) as bus:
        begin = monotonic()
        with pytest.raises(PublishUnconfirmed):
            await bus.send(numbers, 1, timeout=0.6)
        assert monotonic() - begin < 0.9


async def test_a_pipeline_that_outlives_its_bus_sends_nothing_and_says_so() -> None:
    async with unimsg.connect(url="memory://") as bus:
        await bus.send(numbers, 1)
        pipeline = bus.pipeline()
        sender = await pipeline.__aenter__()
        route = bus._route(numbers)
        wire = route.wire(2, source="client")
    with pytest.raises(BusClosed):
        await sender.send(numbers, 3)
    assert isinstance(await route.publisher.submit(wire, 1.0), BusClosed)
    await pipeline.__aexit__(None, None, None)
