"""The wait before the next try grows, has an upper bound, and differs between processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.backoff import Backoff

seconds = st.floats(0.001, 100)


@given(seconds, st.floats(1, 1000), st.integers(1, 40))
def test_a_wait_lies_between_half_and_the_whole_of_its_step(first: float, factor: float, tries: int) -> None:
    most = first * factor
    backoff = Backoff(first, most)
    for number in range(tries):
        step = min(first * 2**number, most)
        assert step / 2 <= backoff.next() <= step * (1 + 1e-9)


@given(st.integers(1, 20))
def test_after_a_success_it_begins_again(tries: int) -> None:
    backoff = Backoff(0.1, 1.0)
    for _ in range(tries):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.1


def test_processes_that_lost_a_broker_together_do_not_come_back_together() -> None:
    assert len({Backoff().next() for _ in range(50)}) > 40


def test_the_defaults_are_a_tenth_of_a_second_to_one_second() -> None:
    backoff = Backoff()
    waits = [backoff.next() for _ in range(12)]
    assert waits[0] <= 0.1
    assert waits[-1] == pytest.approx(0.75, abs=0.25)
