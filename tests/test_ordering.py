"""The judge of what several processes did with the keys of a queue: it sees what is wrong, and nothing else."""

from collections.abc import Sequence

from unimsg_contracts.ordering import Attempt, Outcome, Verdict, judge


def attempt(
    number: int,
    begun: float,
    ended: float | None = None,
    *,
    process: str = "one",
    outcome: Outcome | None = "done",
    count: int = 1,
    lost: bool = False,
) -> Attempt:
    """Of key "k", a tenth of a second long."""
    if outcome is not None and ended is None:
        ended = begun + 0.1
    return Attempt(process, "k", number, count, begun, ended, outcome, lost)


def judged(attempts: Sequence[Attempt], sent: int, **killed: float) -> Verdict:
    return judge(attempts, {"k": sent}, killed)


def test_one_after_the_other_is_perfect() -> None:
    verdict = judged([attempt(0, 0.0), attempt(1, 1.0, process="two"), attempt(2, 2.0)], 3)
    assert verdict.perfect
    assert str(verdict) == "nothing wrong"


def test_a_failed_one_that_is_handled_again_is_perfect() -> None:
    verdict = judged([attempt(0, 0.0, outcome="failed"), attempt(0, 1.0, count=2), attempt(1, 2.0)], 2)
    assert verdict.perfect


def test_the_order_in_which_attempts_are_heard_of_does_not_matter() -> None:
    assert judged([attempt(1, 1.0), attempt(0, 0.0)], 2).perfect


def test_what_nobody_did_is_missing() -> None:
    verdict = judged([attempt(0, 0.0), attempt(1, 1.0, outcome="failed")], 3)
    assert verdict.missing == ["k-1", "k-2"]
    assert not verdict.perfect


def test_a_key_that_nobody_touched_is_missing() -> None:
    assert judge([], {"k": 1, "l": 0}, {}).missing == ["k-0"]


def test_a_first_delivery_out_of_order_is_seen() -> None:
    verdict = judged([attempt(1, 0.0), attempt(0, 1.0)], 2)
    assert verdict.broken == {"k"}
    assert verdict.disorder == ["k-1 in one before 0 was done", "k-0 in one after 1 was done in one"]


def test_who_does_not_wait_for_a_failed_one_is_seen() -> None:
    verdict = judged([attempt(0, 0.0, outcome="failed"), attempt(1, 1.0), attempt(0, 2.0, count=2)], 2)
    assert "k-1 in one before 0 was done" in verdict.disorder


def test_two_at_once_are_seen() -> None:
    verdict = judged([attempt(0, 0.0, 2.0), attempt(1, 1.0, process="two")], 2)
    assert verdict.overlaps == ["k-1 in two while k-0 in one ran"]


def test_another_begins_at_once_where_a_connection_is_lost() -> None:
    verdict = judged([attempt(0, 0.0, 2.0, lost=True), attempt(0, 1.0, process="two"), attempt(1, 3.0)], 2)
    assert verdict.perfect


def test_a_repeat_without_a_crash_is_seen() -> None:
    verdict = judged([attempt(0, 0.0), attempt(0, 1.0, process="two")], 1)
    assert verdict.repeats == ["k-0 in two, done in one"]


def test_a_killed_process_excuses_its_repeats() -> None:
    seen = [attempt(0, 0.0), attempt(1, 0.2), attempt(0, 1.0, process="two"), attempt(1, 1.2, process="two")]
    verdict = judged(seen, 2, one=0.9)
    assert verdict.perfect
    assert verdict.after_crashes == 2


def test_it_excuses_nobody_elses() -> None:
    seen = [attempt(0, 0.0, process="three"), attempt(1, 0.2), attempt(0, 1.0, process="two")]
    assert judged(seen, 2, one=0.9).repeats == ["k-0 in two, done in three"]


def test_it_excuses_no_repeat_from_before_its_death() -> None:
    seen = [attempt(0, 0.0), attempt(0, 0.5, process="two")]
    assert judged(seen, 1, one=0.9).repeats


def test_it_excuses_no_older_one_after_what_others_did() -> None:
    """Its own message comes again, but behind a newer one that is done and settled elsewhere."""
    seen = [attempt(0, 0.0), attempt(1, 1.0, process="two"), attempt(0, 2.0, process="two")]
    assert judged(seen, 2, one=0.9).disorder == ["k-0 in two after 1 was done in two"]


def test_what_dies_in_the_middle_runs_until_then() -> None:
    dying = attempt(0, 0.0, outcome=None)
    assert judged([dying, attempt(0, 1.0, process="two")], 1, one=0.9).perfect
    assert judged([dying, attempt(0, 0.5, process="two")], 1, one=0.9).overlaps
    assert judged([dying, attempt(0, 0.5, process="two")], 1).overlaps


def test_who_counts_what_did_not_fail_is_seen() -> None:
    """Shutdown, and what failed in another process, count as nothing."""
    seen = [attempt(0, 0.0, outcome="cancelled"), attempt(0, 1.0, process="two", count=2)]
    assert judged(seen, 1).miscounted == ["k-0 in two is attempt 2"]
