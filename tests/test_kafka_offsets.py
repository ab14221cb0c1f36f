"""What the Kafka adapter commits: nothing that is open is ever skipped, nothing that is done comes again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unimsg_kafka.offsets import METADATA_LIMIT, Run, Watermark, done_above, log_of, written

LOG = "id"
offset_lists = st.lists(st.integers(0, 400), unique=True, max_size=80).map(sorted)


def committed(mark: Watermark) -> tuple[int, str]:
    assert mark.mark is not None
    return mark.mark, mark.metadata()


@given(offset_lists.filter(bool), st.data())
def test_the_next_owner_gets_exactly_what_was_open(offsets: list[int], data: st.DataObject) -> None:
    done = data.draw(st.lists(st.sampled_from(offsets), unique=True))
    mark = Watermark(LOG)
    assert all(mark.arrived(offset) for offset in offsets)
    for offset in done:
        mark.done(offset)

    at, metadata = committed(mark)
    again = Watermark(LOG, at, done_above(at, metadata))
    handed_out = [offset for offset in offsets if offset >= at and again.arrived(offset)]

    assert handed_out == [offset for offset in offsets if offset not in done]


@given(st.lists(st.integers(0, 60), max_size=8), st.randoms(use_true_random=False))
def test_nothing_done_comes_again_over_any_number_of_owners(reads: list[int], random: object) -> None:
    """Each owner reads a part of the log, settles some of it in any order, commits and leaves."""
    done: set[int] = set()
    at, metadata = 0, ""
    for read in reads:
        mark = Watermark(LOG, at, done_above(at, metadata))
        for offset in range(at, at + read):
            if mark.arrived(offset):
                assert offset not in done, f"{offset} comes again"
            else:
                assert offset in done, f"{offset} was skipped"
        for offset in list(mark.open):
            if random.random() < 0.5:  # type: ignore[attr-defined]  # hypothesis gives a random.Random
                mark.done(offset)
                done.add(offset)
        if mark.mark is not None:
            at, metadata = committed(mark)
        assert all(offset in done for offset in range(at)), "a commit beyond what is open"


@given(st.integers(0, 3000), st.integers(0, 10**12))
def test_the_metadata_always_fits_and_says_nothing_wrong(count: int, start: int) -> None:
    mark = Watermark(LOG)
    for offset in range(start, start + 2 * count + 1):
        mark.arrived(offset)
    for offset in range(start + 1, start + 2 * count, 2):
        mark.done(offset)

    at, metadata = committed(mark)

    assert len(metadata) <= METADATA_LIMIT
    assert at == start
    for run in done_above(at, metadata):
        assert not any(offset in mark.open for offset in range(run.start, run.end))


@pytest.mark.parametrize("share_done", [0.1, 1 / 3, 0.5, 0.9])
def test_ten_thousand_offsets_done_by_chance_fit(share_done: float) -> None:
    """As after a redrive of what was chosen from the middle of many dead letters."""
    mark, chance = Watermark("x" * 22, 10**6), random.Random(1)
    offsets = range(10**6, 10**6 + 10_000)
    assert all(mark.arrived(offset) for offset in offsets)
    for offset in offsets[1:]:
        if chance.random() < share_done:
            mark.done(offset)

    at, metadata = committed(mark)
    again = Watermark("x" * 22, at, done_above(at, metadata))

    assert len(metadata) <= METADATA_LIMIT
    assert [offset for offset in offsets if again.arrived(offset)] == list(mark.open)


def test_a_long_distance_behind_one_open_message_stays_a_short_text() -> None:
    mark = Watermark(LOG)
    for offset in range(100_000):
        mark.arrived(offset)
    for offset in range(1, 100_000):
        mark.done(offset)
    assert committed(mark) == (0, "u2:id:1,99999")


def test_knowledge_beyond_what_was_read_is_passed_on() -> None:
    mark = Watermark(LOG, 0, [Run(5, 7), Run(9, 10)])
    assert [offset for offset in range(4) if mark.arrived(offset)] == [0, 1, 2, 3]
    mark.done(2)
    assert done_above(*committed(mark)) == [Run(2, 3), Run(5, 7), Run(9, 10)]


def test_offsets_that_never_arrive_count_as_done() -> None:
    mark = Watermark(LOG)
    for offset in (10, 15, 30):
        mark.arrived(offset)
    mark.done(10)
    mark.done(15)
    assert mark.mark == 30
    mark.done(30)
    assert committed(mark) == (31, "u2:id:")


def test_nothing_is_committed_before_the_first_record() -> None:
    assert Watermark(LOG, 0, [Run(1, 2)]).mark is None


@given(
    st.lists(st.one_of(st.integers(0, 30).map(lambda n: ("arrives", n)), st.integers(0, 30).map(lambda n: ("done", n))))
)
def test_nothing_open_is_ever_jumped_over(events: list[tuple[str, int]]) -> None:
    """Offsets arrive and are settled in any order, as from a log that is made anew now and then."""
    mark, open_ones = Watermark(LOG), set[int]()
    for what, offset in events:
        if what == "arrives" and mark.arrived(offset):
            open_ones.add(offset)
        elif what == "done":
            mark.done(offset)
            open_ones.discard(offset)
        if mark.mark is not None:
            assert not any(offset < mark.mark for offset in open_ones)
            assert not any(
                run.start <= offset < run.end for run in done_above(*committed(mark)) for offset in open_ones
            )


def test_a_log_that_goes_back_ends_what_is_committed_of_it() -> None:
    mark = Watermark(LOG)
    assert mark.arrived(500)
    assert not mark.arrived(0), "it belongs to the log that is there now"
    mark.done(500)
    assert not mark.arrived(501)
    assert (mark.lost, mark.mark) == (True, None)


def test_what_was_known_of_the_old_log_is_forgotten() -> None:
    """The commit is of a log that is gone: the first record is below it."""
    mark = Watermark(LOG, 500, [Run(501, 600)])
    assert [offset for offset in (0, 1, 501, 502) if mark.arrived(offset)] == [0, 1, 501, 502]
    assert (mark.lost, mark.mark) == (False, 0)


@given(st.text())
def test_metadata_of_others_is_ignored(text: str) -> None:
    runs = done_above(7, text)
    assert all(isinstance(run, Run) for run in runs)
    assert (
        done_above(7, "u2:id:") == done_above(7, "u2:id:1,x") == done_above(7, "u1:id:1,2") == done_above(7, "") == []
    )


def test_a_commit_says_which_topic_it_is_for() -> None:
    mark = Watermark("b0-_", 3)
    mark.arrived(3)
    assert log_of(mark.metadata()) == log_of(written("b0-_")) == "b0-_"
    assert log_of("") is None
    assert log_of("of somebody else: x") is None
