"""What becomes of a message that failed: one decision, the same on every broker."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg import ConfigurationError, Reject, Retry, RetryAfter
from unimsg.retry import Again, Dead, decide

seconds = st.floats(0, 86400)
policies = st.lists(seconds, max_size=5).map(lambda delays: Retry(*delays))


class Broken(Exception): ...


class Worse(Broken): ...


@given(policies, st.integers(1, 10))
def test_each_delay_is_for_one_attempt_and_after_the_last_it_is_dead(policy: Retry, attempt: int) -> None:
    decision = decide(policy, ValueError(), attempt)
    if attempt <= len(policy.delays):
        assert decision == Again(policy.delays[attempt - 1])
    else:
        assert decision == Dead("failed")


@given(policies, st.integers(1, 10), seconds)
def test_a_handler_may_choose_the_delay_but_not_the_number_of_attempts(
    policy: Retry, attempt: int, delay: float
) -> None:
    decision = decide(policy, RetryAfter(delay), attempt)
    assert decision == (Again(delay) if attempt < policy.attempts else Dead("failed"))


@given(policies, st.integers(1, 10))
def test_a_rejected_message_is_dead_at_once(policy: Retry, attempt: int) -> None:
    assert decide(policy, Reject("no such order"), attempt) == Dead("rejected")


@given(st.lists(seconds, max_size=3), st.integers(1, 5))
def test_a_final_error_and_its_subclasses_are_dead_at_once(delays: list[float], attempt: int) -> None:
    policy = Retry(*delays, final=(Broken, KeyError))
    assert decide(policy, Worse(), attempt) == decide(policy, KeyError(), attempt) == Dead("failed")
    wanted = Again(delays[attempt - 1]) if attempt <= len(delays) else Dead("failed")
    assert decide(policy, LookupError(), attempt) == wanted


@given(policies, st.integers(1, 10), seconds)
def test_a_handler_that_asks_for_another_try_gets_it_even_where_every_exception_is_final(
    policy: Retry, attempt: int, delay: float
) -> None:
    strict = Retry(*policy.delays, final=(Exception,))
    assert decide(strict, ValueError(), attempt) == Dead("failed")
    assert decide(strict, RetryAfter(delay), attempt) == decide(policy, RetryAfter(delay), attempt)


@given(policies, st.integers(1, 10), st.sampled_from([BaseException, KeyboardInterrupt, TimeoutError, StopIteration]))
def test_whatever_is_raised_there_is_a_decision(policy: Retry, attempt: int, error: type[BaseException]) -> None:
    assert isinstance(decide(policy, error(), attempt), Again | Dead)


def test_the_policy_says_how_often_and_shows_itself() -> None:
    assert Retry().attempts == 1
    assert Retry(1, 10, 60).attempts == 4
    assert repr(Retry(1, 0.5, 60.0)) == "Retry(1, 0.5, 60)"
    assert repr(Retry(final=(KeyError,))).startswith("Retry(")


@pytest.mark.parametrize("delay", [-1, 86400.5, float("nan"), float("inf"), "1", None, True, [1], (1, 2)])
def test_a_delay_that_makes_no_sense_is_refused_and_shown(delay: Any) -> None:
    with pytest.raises(ConfigurationError, match="Retry: a delay must be a number of 0 to 86400 seconds, not "):
        Retry(1, delay)


@pytest.mark.parametrize("final", [KeyError, [KeyError], (KeyError(),), ("KeyError",), (BaseException,), (int,), None])
def test_final_holds_exceptions(final: Any) -> None:
    with pytest.raises(ConfigurationError, match="Retry: final must be a tuple of exception classes"):
        Retry(1, final=final)


@pytest.mark.parametrize("delay", [-0.1, 86401, float("nan"), float("inf")])
def test_a_wait_that_makes_no_sense_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match="RetryAfter: a number of 0 to 86400 seconds"):
        RetryAfter(delay)


def test_what_handlers_raise_says_what_it_is_for() -> None:
    assert (str(RetryAfter(5)), RetryAfter(5).seconds) == ("again in 5 s", 5.0)
    assert str(RetryAfter(5, "the shop is closed")) == "the shop is closed"
    assert (str(Reject("no such order")), Reject("no").code, Reject("no", code="gone").code) == (
        "no such order",
        "rejected",
        "gone",
    )
