"""A failing handler and a body that cannot be decoded: handled again or a dead letter, never lost, and told."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from policies import SOON, held, letters
from pydantic import BaseModel
from waiting import came, until

import unimsg
from unimsg import Bus, Context, Queue, Retry, Service, Topic, message
from unimsg._bodies import MAX_RECEIVED_BODY
from unimsg._failures import REMEMBERED
from unimsg.adapter import Address, Kind, Wire
from unimsg.memory import MemoryAdapter, MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("failures.numbers", int)
ordered = Queue("failures.ordered", int, ordered=True)
events = Topic("failures.events", int)


def unsettled(queue: str) -> int:
    """Messages that a queue holds, those handed out included."""
    return MemoryBroker.current().queues[queue].length


async def put(queue: str, *wires: Wire) -> None:
    """As a stranger does."""
    outcomes = await MemoryAdapter().send(Address(queue, Kind.QUEUE), wires, timeout=1)
    assert list(outcomes) == [None] * len(wires)


async def problems(bus: Bus) -> str:
    return "\n".join((await bus.health()).problems)


# -- a handler that raises


async def test_a_message_whose_handler_failed_comes_again_after_a_second_and_others_flow_meanwhile(either: str) -> None:
    when: list[float] = []
    others: list[int] = []
    service = Service("shop")

    @service.handler(numbers)
    async def handle(body: int) -> None:
        if body:
            others.append(body)
            return
        when.append(monotonic())
        if len(when) < 2:
            raise ValueError

    async with unimsg.connect(service, url=either) as bus:
        await bus.send(numbers, 0)
        await until(lambda: when, "the first attempt")
        for number in range(1, 50):
            await bus.send(numbers, number)
        await came(others, range(1, 50), within=0.8)
        assert len(when) == 1, "it came again before its second was over"
        await until(lambda: len(when) == 2, "two attempts")
        await until(lambda: unsettled("failures.numbers") == 0, "the acknowledgement of the second")
    waits = [later - earlier for earlier, later in pairwise(when)]
    assert [wait for wait in waits if not 1 <= wait <= 2.5] == [], f"seconds between its attempts: {waits}"


async def test_unless_said_otherwise_it_is_handled_four_times_with_1_10_and_60_seconds_between() -> None:
    assert Service("shop").retry.delays == (1, 10, 60)
    assert Service("shop").retry.final == ()


async def test_it_is_acknowledged_only_once_it_is_a_dead_letter(either: str) -> None:
    attempts = 0
    service = Service("shop", retry=Retry(*[0.01] * 14))

    @service.handler(numbers)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        raise ValueError

    async with unimsg.connect(service, url=either) as bus:
        id = await bus.send(numbers, 7)
        await until(lambda: held("failures.numbers..dead"), "the dead letter")
        await until(lambda: unsettled("failures.numbers") == 0, "the acknowledgement")
        assert attempts == 15
        [letter] = await letters(bus, numbers)
        assert (letter.message.id, letter.message.body, letter.attempts) == (id, b"7", 15)
    assert (unsettled("failures.numbers"), held("failures.numbers..retry")) == (0, 0), "once, and nowhere else"
    assert held("failures.numbers..dead") == 1, "after the end it stays"


async def test_each_failure_is_logged_with_the_messages_id_the_handler_and_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = 0
    service = Service("shop", retry=SOON)

    @service.handler(events)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ValueError("no such customer")

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.publish(events, 7, id="order-7", headers={"token": "canary"}, key="k")
        await until(lambda: attempts == 3, "three attempts")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == [
        "failures.events/shop: message order-7 failed, and is handled again in 0.02 s",
        "failures.events/shop: message order-7 failed 2 times, ValueError; it is handled again in 0.02 s",
    ]
    assert "no such customer" in str(errors[0].exc_info), "the cause, with its traceback"
    assert errors[1].exc_info is None, "once is enough"
    assert {record.name for record in errors} == {"unimsg"}
    assert "canary" not in caplog.text


async def test_of_many_that_fail_for_one_reason_the_first_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service("shop", retry=Retry())

    @service.handler(events, concurrency=1)
    async def handle(body: int) -> None:
        if body == 9:
            raise ValueError("from another place")
        raise ValueError(f"no such customer: {body}")

    async with unimsg.connect(service, url="memory://") as bus:
        for body in (1, 2, 9):
            await bus.publish(events, body, id=f"order-{body}", key="k")
        await until(lambda: len(caplog.records) >= 3, "three failures")
    first, second, other = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "no such customer: 1" in str(first.exc_info)
    assert second.exc_info is None, "the same line failed less than a second before"
    assert second.getMessage().endswith(
        "message order-2 failed as others do, ValueError; it is a dead letter: failed at attempt 1"
    )
    assert "from another place" in str(other.exc_info)


async def test_it_is_visible_in_health_until_it_is_handled() -> None:
    fail = True
    attempts = 0
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        if fail:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7, id="order-7")
        await until(lambda: attempts >= 2, "two attempts")
        health = await bus.health()
        assert (health.live, health.ready) == (True, True), "messages flow"
        [problem] = health.problems
        assert problem.startswith("failures.numbers: message order-7 failed ")
        assert "ValueError" in problem
        fail = False
        tried = attempts
        await until(lambda: attempts > tried, "the attempt that ends well")
        await until(lambda: unsettled("failures.numbers") == 0, "the acknowledgement")
        assert (await bus.health()).problems == []


async def test_health_shows_a_bounded_number_of_messages_and_counts_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "unimsg")
    attempts = 0
    service = Service("shop", retry=SOON)

    @service.handler(numbers, concurrency=50)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(60):
            await bus.send(numbers, number)
        await until(lambda: attempts >= 200, "some rounds")
        assert len((await bus.health()).problems) == 20
    assert REMEMBERED == 1000


async def test_what_is_remembered_of_failures_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "unimsg")
    monkeypatch.setattr("unimsg._failures.REMEMBERED", 5)
    service, failed = Service("shop", retry=SOON), set[int]()

    @service.handler(numbers, concurrency=50)
    async def handle(body: int) -> None:
        failed.add(body)
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(12):
            await bus.send(numbers, number)
        await until(lambda: len(failed) == 12, "twelve failures")
        assert len((await bus.health()).problems) == 5


async def test_a_handler_that_is_cancelled_from_within_has_failed() -> None:
    attempts = 0
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: attempts == 2, "the second attempt")
        await until(lambda: unsettled("failures.numbers") == 0, "its acknowledgement")
    assert attempts == 2


async def test_so_it_has_if_the_message_before_it_was_cancelled_by_its_timeout() -> None:
    """The same task handles both: what is left of the first cancellation must not be taken for the end of the task."""
    attempts: list[int] = []
    service = Service("shop", retry=SOON)

    @service.handler(numbers, concurrency=1, timeout=0.1)
    async def handle(body: int) -> None:
        attempts.append(body)
        if attempts.count(body) > 1:
            return
        if body == 0:
            await asyncio.sleep(60)
        raise asyncio.CancelledError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 0)
        await bus.send(numbers, 1)
        await until(lambda: sorted(attempts) == [0, 0, 1, 1], "the second attempts")
        await until(lambda: unsettled("failures.numbers") == 0, "their acknowledgements")
    assert sorted(attempts) == [0, 0, 1, 1]


async def test_a_failing_around_function_is_a_failure_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    attempts = 0

    async def around(context: Context[Any], handle: Callable[[], Coroutine[Any, Any, None]]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise PermissionError("no tenant")
        await handle()

    got: list[int] = []
    service = Service("shop", retry=SOON, around=[around])

    @service.handler(numbers)
    async def handle(body: int) -> None:
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await came(got, [7])
    assert caplog.text.count("PermissionError: no tenant") == 1
    assert "failed 2 times, PermissionError" in caplog.text


# -- order


async def test_on_an_ordered_channel_the_key_waits_in_place_and_other_keys_go_on() -> None:
    got: list[tuple[str | None, object, float]] = []
    service = Service("shop", retry=Retry(0.8, 0.2))

    @service.handler(ordered)
    async def handle(body: int, context: Context) -> None:
        got.append((context.message.key, body, monotonic()))
        if body == 1 and [item[:2] for item in got].count(("ann", 1)) < 3:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        for number in (1, 2, 3):
            await bus.send(ordered, number, key="ann")
        for number in (4, 5, 6):
            await bus.send(ordered, number, key="bob")
        await until(lambda: len(got) >= 4, "the first of ann, all of bob", within=2)
        assert [item[:2] for item in got] == [("ann", 1), ("bob", 4), ("bob", 5), ("bob", 6)]
        await until(lambda: unsettled("failures.ordered") == 0, "all acknowledged")
    ann = [(number, when) for key, number, when in got if key == "ann"]
    assert [number for number, _ in ann] == [1, 1, 1, 2, 3]
    waits = [ann[1][1] - ann[0][1], ann[2][1] - ann[1][1]]
    assert 0.8 <= waits[0] <= 4, f"seconds between its attempts: {waits}"
    assert 0.2 <= waits[1] <= 4, f"seconds between its attempts: {waits}"


async def test_a_key_keeps_its_order_however_its_messages_fail() -> None:
    tries: dict[object, int] = {}
    done: list[object] = []
    service = Service("shop", retry=SOON)

    @service.handler(ordered, concurrency=3)
    async def handle(body: int) -> None:
        tries[body] = tries.get(body, 0) + 1
        if tries[body] <= body % 3:
            raise ValueError
        done.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(24):
            await bus.send(ordered, number, key="abcd"[number % 4])
        await came(done, range(24))
    for key in range(4):
        of_key = [number for number in done if isinstance(number, int) and number % 4 == key]
        assert of_key == sorted(of_key)


async def test_a_message_without_a_key_on_an_ordered_channel_holds_nobody() -> None:
    got: list[int] = []
    service = Service("shop", retry=SOON)

    @service.handler(ordered)
    async def handle(body: int) -> None:
        got.append(body)
        if body == 0:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        address = Address("failures.ordered", Kind.QUEUE, partitions=8)
        await MemoryAdapter().send(address, [Wire("0", b"0")], timeout=1)
        await until(lambda: got.count(0) >= 3, "the message without a key, again and again")
        await bus.send(ordered, 1, key="k")
        await until(lambda: 1 in got, "the message of a key")


# -- a body that cannot be decoded


@message("com.acme.placed.v1")
class Placed(BaseModel): ...


@message("com.acme.cancelled.v1")
class Cancelled(BaseModel): ...


@pytest.mark.parametrize(
    ("channel", "wire", "says"),
    [
        (numbers, Wire("bad", b"seven"), "does not fit"),
        (numbers, Wire("bad", b""), "does not fit"),
        (numbers, Wire("bad", b"[" * 100_000), "does not fit"),
        (numbers, Wire("bad", b"7", {"content-type": "application/xml"}), "content type 'application/xml' is none of"),
        (numbers, Wire("bad", bytes(MAX_RECEIVED_BODY + 1)), "a body of 16777217 bytes, at most 16777216"),
        (Queue("failures.text", str), Wire("bad", b"\xff"), "UTF-8"),
        (
            Queue("failures.union", Placed | Cancelled),
            Wire("bad", b"{}", {"ce-type": "com.acme.other.v1"}),
            "message type 'com.acme.other.v1' is none of com.acme.cancelled.v1, com.acme.placed.v1",
        ),
    ],
    ids=["no JSON", "empty", "deep", "content type", "too large", "no text", "unknown type"],
)
async def test_an_undecodable_body_reaches_no_handler_and_is_a_dead_letter_at_once(
    channel: Queue[Any], wire: Wire, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[object] = []
    service = Service("shop")

    @service.handler(channel)
    async def handle(body: Any) -> None:
        got.append(body)

    good = {"failures.text": "fine", "failures.union": Placed()}.get(channel.name, 7)
    async with unimsg.connect(service, url="memory://") as bus:
        await put(channel.name, wire)
        await bus.send(channel, good)
        await until(lambda: got, "the good one, which flows")
        await until(lambda: held(f"{channel.name}..dead"), "the dead letter")
        [letter] = await letters(bus, channel)
    unknown = "message type" in says
    assert letter.reason == ("unknown-type" if unknown else "undecodable")
    assert letter.error_type == ("UnknownType" if unknown else "DecodeError")
    assert (letter.message.id, letter.message.body) == (wire.id, wire.body)
    assert got == [good]
    assert unsettled(channel.name) == 0
    assert says in caplog.text


async def test_on_an_ordered_channel_it_does_not_hold_its_key_any_longer() -> None:
    got: list[int] = []
    service = Service("shop")

    @service.handler(ordered)
    async def handle(body: int) -> None:
        got.append(body)

    async with unimsg.connect(service, url="memory://"):
        address = Address("failures.ordered", Kind.QUEUE, partitions=8)
        await MemoryAdapter().send(address, [Wire("bad", b"seven", key="ann"), Wire("1", b"1", key="ann")], timeout=1)
        await came(got, [1])
        assert held("failures.ordered..dead") == 1, "what follows comes after it is safe"


async def until_problem(bus: Bus, text: str) -> None:
    """Returns when health tells of it."""
    deadline = monotonic() + 5
    while text not in (found := await problems(bus)):
        assert monotonic() < deadline, f"health never said {text!r}, but {found!r}"
        await asyncio.sleep(0.01)


async def test_a_stranger_can_forge_no_line_of_the_log_or_of_health(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    async def handle(body: int) -> None:
        raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await put("failures.numbers", Wire("7\nCRITICAL forged \x1b[31m" + "x" * 5000, b"7"))
        await until(lambda: caplog.records, "the failure")
        for text in [*(record.getMessage() for record in caplog.records), *(await bus.health()).problems]:
            assert text.isprintable(), repr(text)
            assert len(text) < 500


# -- a handler that does not end


async def test_a_handler_that_does_not_end_is_cancelled_and_that_is_its_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts, cancelled = 0, 0
    service = Service("shop", retry=SOON)

    @service.handler(numbers, timeout=0.1)
    async def handle(body: int) -> None:
        nonlocal attempts, cancelled
        attempts += 1
        if attempts == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled += 1
                raise

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: attempts == 2, "the second attempt")
        await until(lambda: unsettled("failures.numbers") == 0, "its acknowledgement")
    assert (attempts, cancelled) == (2, 1)
    assert "TimeoutError: the handler did not end in 0.1 s" in caplog.text


async def test_the_configured_timeout_wins() -> None:
    attempts = 0
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.sleep(60)

    settings = unimsg.Settings(url="memory://", handlers={"failures.numbers": {"timeout": 0.1}})
    async with unimsg.connect(service, settings=settings) as bus:
        await bus.send(numbers, 7)
        await until(lambda: attempts == 2, "the second attempt")
        await until(lambda: unsettled("failures.numbers") == 0, "its acknowledgement")


async def test_a_handler_that_ends_well_in_spite_of_its_cancellation_has_done_its_work() -> None:
    attempts = 0
    service = Service("shop", retry=SOON)

    @service.handler(numbers, timeout=0.1)
    async def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await bus.send(numbers, 8)
        await until(lambda: unsettled("failures.numbers") == 0, "the acknowledgements")
    assert attempts == 2


async def test_after_a_timeout_the_next_message_is_handled_in_peace() -> None:
    """The cancellation of one message does not reach the next that the same task handles."""
    got: list[int] = []
    service = Service("shop", retry=SOON)

    @service.handler(numbers, concurrency=1, timeout=0.15)
    async def handle(body: int) -> None:
        if body == 0:
            await asyncio.sleep(60)
        await asyncio.sleep(0.02)
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(4):
            await bus.send(numbers, number)
        await until(lambda: {1, 2, 3} <= set(got), "the others")


# -- a thread that cannot be stopped


@pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])
async def test_a_plain_function_that_does_not_end_in_time_has_failed_and_its_message_comes_again(
    channel: Queue[int], caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[int] = []
    service, go = Service("shop", retry=SOON), threading.Event()

    @service.handler(channel, timeout=0.1)
    def handle(body: int) -> None:
        attempts.append(body)
        if attempts == [1]:
            assert go.wait(5)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(channel, 1, id="order-1", key="k")
        await until_problem(bus, "1 of 10 handlers do not end at their timeout")
        assert attempts == [1], "its slot and its key are held until the thread ends"
        go.set()
        await until(lambda: attempts == [1, 1], "the second attempt")
        await until(lambda: unsettled(channel.name) == 0, "its acknowledgement")
    assert attempts == [1, 1]
    assert "message order-1: its thread cannot be stopped and runs on" in caplog.text
    assert "TimeoutError: the handler did not end in 0.1 s" in caplog.text


async def test_its_key_stays_held_until_the_thread_ends_and_its_followers_come_after_it() -> None:
    got: list[tuple[str, int]] = []
    service, go = Service("shop", retry=SOON), threading.Event()
    running: set[str] = set()

    def handle(body: str) -> None:
        key = body[0]
        assert key not in running, f"{key} twice at once"
        running.add(key)
        got.append((key, int(body[1:])))
        if got.count(("a", 1)) == 1 and body == "a1":
            assert go.wait(5)
        running.discard(key)

    keyed = Queue("failures.keyed", str, key=lambda body: body[0])
    service.handler(keyed, timeout=0.1)(handle)
    async with unimsg.connect(service, url="memory://") as bus:
        for body in ("a1", "a2", "b1", "b2"):
            await bus.send(keyed, body)
        await until_problem(bus, "1 of 10 handlers do not end at their timeout")
        assert [item for item in got if item[0] == "a"] == [("a", 1)]
        assert [item for item in got if item[0] == "b"] == [("b", 1), ("b", 2)], "another key goes on"
        go.set()
        await until(lambda: unsettled("failures.keyed") == 0, "all acknowledged")
    assert [number for key, number in got if key == "a"] == [1, 1, 2]


async def test_an_around_function_does_not_take_a_running_thread_for_an_exception() -> None:
    """It could swallow it, and the message would be acknowledged while its thread still runs."""

    async def swallow(context: Context[Any], handle: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await handle()
        except Exception:  # noqa: BLE001  # the point
            swallowed.append(context.message.body)

    swallowed: list[object] = []
    service, go = Service("shop", retry=SOON, around=[swallow]), threading.Event()
    attempts = 0

    @service.handler(numbers, timeout=0.1)
    def handle(body: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            assert go.wait(5)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until_problem(bus, "1 of 10 handlers do not end at their timeout")
        assert unsettled("failures.numbers") == 1
        go.set()
        await until(lambda: attempts == 2, "the second attempt")
        await until(lambda: unsettled("failures.numbers") == 0, "its acknowledgement")
    assert swallowed == []
    assert attempts == 2


async def test_threads_are_as_many_as_the_concurrency_and_end_with_the_service() -> None:
    service, names = Service("shop"), set[str]()

    @service.handler(numbers, concurrency=3)
    def handle(body: int) -> None:
        names.add(threading.current_thread().name)
        time.sleep(0.002)

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(30):
            await bus.send(numbers, number)
        await until(lambda: unsettled("failures.numbers") == 0, "all")
    assert 1 <= len(names) <= 3
    await until(
        lambda: not [thread for thread in threading.enumerate() if thread.name in names], "the end of the threads"
    )


async def test_a_handler_that_cancels_its_own_task_fails_and_keeps_no_slot() -> None:
    got: list[int] = []
    cancels = True
    service = Service("shop", retry=SOON)

    @service.handler(numbers, concurrency=1)
    async def handle(body: int) -> None:
        nonlocal cancels
        if cancels:
            cancels = False
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        got.append(body)

    async with unimsg.connect(service, url="memory://") as bus:
        for number in range(3):
            await bus.send(numbers, number)
        await until(lambda: sorted(got) == [0, 1, 2], f"all three, not {got}")
