"""Which attempt it is: counted by the library, on the copy, so that no restart and no broker counts along."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import SOON, held, letters, put, waiting
from waiting import until

import unimsg
from unimsg import Context, Queue, Retry, Service, Topic
from unimsg.adapter import Wire
from unimsg.dead_letters import attempt_of
from unimsg.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("attempts.numbers", int)
ordered = Queue("attempts.ordered", int, ordered=True)
events = Topic("attempts.events", int)


def failing(seen: list[tuple[int, bool]], retry: Retry, *, until_attempt: int = 100) -> Service[None]:
    """Fails until its attempt `until_attempt`, and tells each."""
    service = Service("shop", retry=retry)

    async def handle(body: int, context: Context) -> None:
        seen.append((context.attempt, context.last_attempt))
        if context.attempt < until_attempt:
            raise ValueError

    service.handler(numbers)(handle)
    service.handler(ordered)(handle)
    service.handler(events)(handle)
    return service


async def test_the_context_tells_the_attempt_and_whether_it_is_the_last(either: str) -> None:
    seen: list[tuple[int, bool]] = []
    async with unimsg.connect(failing(seen, Retry(0.01, 0.01)), url=either) as bus:
        await bus.send(numbers, 7)
        await until(lambda: held("attempts.numbers..dead"), "the dead letter")
    assert seen == [(1, False), (2, False), (3, True)]


async def test_so_it_does_on_an_ordered_channel_and_a_topic(either: str) -> None:
    seen: list[tuple[int, bool]] = []
    async with unimsg.connect(failing(seen, Retry(0.01, 0.01)), url=either) as bus:
        await bus.send(ordered, 7, key="k")
        await until(lambda: held("attempts.ordered..dead"), "the dead letter of the queue")
        await bus.publish(events, 7)
        await until(lambda: held("attempts.events..shop..dead"), "the dead letter of the subscription")
    assert seen == [(1, False), (2, False), (3, True)] * 2


async def test_without_retries_the_first_attempt_is_the_last() -> None:
    seen: list[tuple[int, bool]] = []
    async with unimsg.connect(failing(seen, Retry()), url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: held("attempts.numbers..dead"), "the dead letter")
    assert seen == [(1, True)]


async def test_the_count_goes_on_in_the_next_process(either: str) -> None:
    seen: list[tuple[int, bool]] = []
    service = failing(seen, Retry(0.1, 0.1, 0.1))
    for process in range(1, 5):
        async with unimsg.connect(service, url=either) as bus:
            if process == 1:
                await bus.send(numbers, 7)
            await until(lambda process=process: len(seen) == process, f"attempt {process}")  # type: ignore[misc]  # a default binds it now
            await until(lambda: held("attempts.numbers") == 0, "its copy")
    assert seen == [(1, False), (2, False), (3, False), (4, True)]
    assert held("attempts.numbers..dead") == 1


async def test_of_an_ordered_channel_it_begins_anew_where_another_process_takes_the_key() -> None:
    seen: list[tuple[int, bool]] = []
    service = failing(seen, Retry(0, 30))
    for process in range(1, 3):
        async with unimsg.connect(service, url="memory://") as bus:
            if process == 1:
                await bus.send(ordered, 7, key="k")
            await until(lambda process=process: len(seen) == 2 * process, "two attempts")  # type: ignore[misc]  # as above
    assert seen == [(1, False), (2, False)] * 2


async def test_deliveries_that_the_broker_repeats_are_no_attempts() -> None:
    seen: list[tuple[int, bool]] = []
    service = Service("shop", retry=Retry(0.01))
    lost = 0

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        nonlocal lost
        seen.append((context.attempt, context.last_attempt))
        if lost < 5:
            lost += 1
            MemoryBroker.current().cut()
        elif context.attempt == 1:
            raise ValueError

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7)
        await until(lambda: (2, True) in seen, "the second attempt")
        await until(lambda: held("attempts.numbers") == 0, "its acknowledgement")
    assert seen == [(1, False)] * 6 + [(2, True)]


async def test_a_message_of_another_keeps_its_own_count(either: str) -> None:
    seen: dict[object, list[int]] = {}
    service = Service("shop", retry=SOON)

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        seen.setdefault(body, []).append(context.attempt)
        if context.attempt <= body:
            raise ValueError

    async with unimsg.connect(service, url=either) as bus:
        for number in range(6):
            await bus.send(numbers, number)
        await until(lambda: sum(map(len, seen.values())) == 21, "all attempts")
    assert seen == {number: list(range(1, number + 2)) for number in range(6)}


@pytest.mark.parametrize("said", ["0", "000000", "-1", "", "1.5", "x", "٣", "9" * 5000, " 1"])
@pytest.mark.parametrize("retry", [Retry(), Retry(0, 0)], ids=["no retry", "two retries"])
async def test_whatever_a_stranger_says_about_attempts_its_message_is_handled_and_holds_nobody(
    said: str, retry: Retry
) -> None:
    seen: list[tuple[int, bool]] = []
    async with unimsg.connect(failing(seen, retry), url="memory://") as bus:
        await put("attempts.numbers", Wire("bad", b"7", {"unimsg-attempt": said}))
        await put("attempts.numbers", Wire("good", b"7"))
        await until(lambda: len(waiting("attempts.numbers..dead")) == 2, "two dead letters")
        assert {letter.attempts for letter in await letters(bus, numbers)} == {retry.attempts}
    assert sorted(seen) == sorted([(n, n == retry.attempts) for n in range(1, retry.attempts + 1)] * 2)


@given(st.one_of(st.none(), st.text(max_size=20), st.integers().map(str)))
def test_the_attempt_is_a_sane_number_whatever_the_header_says(text: str | None) -> None:
    headers = {} if text is None else {"unimsg-attempt": text}
    assert 1 <= attempt_of(Wire("id", b"", headers)) < 10**6


@given(st.integers(1, 999_999))
def test_what_was_said_is_read(number: int) -> None:
    assert attempt_of(Wire("id", b"", {"unimsg-attempt": str(number)})) == number
