"""Where a message waits, and for how long: names and steps."""

from collections.abc import Callable, Iterator
from time import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from policies import Held, held, put, waiting
from waiting import until

import unimsg
from unimsg import Context, Queue, Retry, Service
from unimsg._waiting import (
    FIRST_ROOM,
    MAX_DELAY,
    ROOMS,
    STEPS,
    TOLERANCE,
    delay_room,
    due_of,
    place_for,
    retry_room,
    step_for,
    until_of,
)
from unimsg._waiting import waiting as made_to_wait
from unimsg.adapter import Adapter, Address, Kind, Wire

pytestmark = pytest.mark.usefixtures("elsewhere")

moments = st.floats(1.7e9, 2e9)
delays = st.one_of(st.floats(0, MAX_DELAY), st.sampled_from([0.0, *STEPS, *ROOMS]))
headers = st.one_of(st.text(max_size=40), st.floats().map(str), st.integers().map(str))


def hops(due: float, now: float) -> Iterator[tuple[str, float, float]]:
    """Each room, when it is entered and when it is left."""
    while now < due:
        place = place_for(due, now)
        yield place.suffix, now, place.until
        now = place.until


# -- steps of brokers that delay by themselves


@given(delays)
def test_a_step_is_never_shorter_than_the_delay(delay: float) -> None:
    assert step_for(delay) >= delay
    assert [step for step in STEPS if delay <= step < step_for(delay)] == [], "and the smallest of those"


# -- rooms of the others


@given(moments, delays)
def test_the_hops_end_exactly_when_it_is_due_and_are_few(now: float, delay: float) -> None:
    due = now + delay
    assume(due > now)
    taken = list(hops(due, now))
    assert taken[-1][2] == due
    assert all(begin < end <= due for _, begin, end in taken)
    assert len(taken) <= 30


@given(moments, delays)
@example(1_700_000_000.0, 2699.0)
def test_each_room_but_the_first_lets_all_wait_equally_long(now: float, delay: float) -> None:
    length_of = {suffix: length for length, suffix in ROOMS.items()}
    for suffix, begin, end in hops(now + delay, now):
        if suffix:
            assert -TOLERANCE - 1e-6 <= end - begin - length_of[suffix] <= 1e-6
        else:
            assert end - begin <= FIRST_ROOM + 1e-6


@given(moments, st.floats(-MAX_DELAY, 0))
def test_what_is_due_waits_no_more(now: float, delay: float) -> None:
    assert place_for(now + delay, now).until <= now


def test_the_names_of_rooms_can_be_no_users_and_keep_the_subscriptions_apart() -> None:
    mail = Address("orders.placed", Kind.TOPIC, "mail")
    assert retry_room(mail) == Address("orders.placed..mail..retry", Kind.QUEUE)
    assert retry_room(mail, ".1h") == Address("orders.placed..mail..retry.1h", Kind.QUEUE)
    ordered = Address("orders.placed", Kind.TOPIC, "mail", partitions=8)
    assert retry_room(ordered) == Address("orders.placed..mail..retry", Kind.QUEUE, partitions=8)
    assert delay_room(Address("orders.placed", Kind.TOPIC)) == Address("orders.placed..delay", Kind.QUEUE)


# -- what a message says about it


@given(st.floats(0, MAX_DELAY), st.floats(0, MAX_DELAY))
def test_what_it_says_is_read_never_too_early_and_hardly_later(due: float, until: float) -> None:
    now = time()
    wire = made_to_wait(Wire("id", b"", {"tenant": "acme"}, "k"), now + due, now + until)
    assert 0 <= due_of(wire) - (now + due) <= 0.002
    assert 0 <= until_of(wire) - (now + until) <= 0.002
    assert (wire.id, wire.body, wire.key, wire.headers["tenant"]) == ("id", b"", "k", "acme")


def test_it_is_said_anew_in_each_room() -> None:
    now = time()
    wire = made_to_wait(made_to_wait(Wire("id", b""), now + 7, now + 6), now + 9, now + 8)
    assert (round(due_of(wire) - now), round(until_of(wire) - now)) == (9, 8)


@given(headers)
def test_whatever_a_stranger_says_nobody_waits_for_ever(text: str) -> None:
    for name, read in (("unimsg-due", due_of), ("unimsg-until", until_of)):
        moment = read(Wire("id", b"", {name: text}))
        assert 0 <= moment < time() + MAX_DELAY + 3700
        assert moment == moment, "a number"


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-inf", "-5", "1e400", "soon", "0x10", "9" * 4000, "1_0", "٣", "\0"]
)
def test_what_is_no_moment_counts_as_not_said(text: str) -> None:
    assert due_of(Wire("id", b"", {"unimsg-due": text})) < 100
    assert due_of(Wire("id", b"")) == 0


@pytest.mark.parametrize("said", [{}, {"unimsg-due": "nan"}, {"unimsg-until": "1e300", "unimsg-due": "1e300"}])
async def test_what_a_stranger_puts_into_a_room_is_handled(
    said: dict[str, str], serve: Callable[[str, type[Adapter]], str]
) -> None:
    got: list[int] = []
    service = Service("shop", retry=Retry(0.01))

    @service.handler(Queue("waiting.numbers", int))
    async def handle(body: int, context: Context) -> None:
        got.append(context.attempt)

    async with unimsg.connect(service, url=serve("held", Held)):
        await put("waiting.numbers..retry", Wire("x", b"7", said))
        await until(lambda: got == [1], "it")
        await until(lambda: held("waiting.numbers..retry") == 0, "its acknowledgement")


async def test_a_room_left_too_soon_is_followed_by_another(serve: Callable[[str, type[Adapter]], str]) -> None:
    """As each longer wait does; here a stranger set `until` too low."""
    got: list[float] = []
    service = Service("shop", retry=Retry(0.01))

    @service.handler(Queue("waiting.numbers", int))
    async def handle(body: int) -> None:
        got.append(time())

    async with unimsg.connect(service, url=serve("held", Held)) as bus:
        due = time() + 0.3
        await put("waiting.numbers..retry", made_to_wait(Wire("x", b"7"), due, time()))
        await until(lambda: got, "it")
        assert got[0] >= due
        await put("waiting.numbers..retry", made_to_wait(Wire("y", b"7"), time() + 4000, time()))
        await until(lambda: waiting("waiting.numbers..retry.1h"), "the next room")
        assert (await bus.health()).problems == []
    assert len(got) == 1
