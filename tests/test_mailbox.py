"""The hand-over between an adapter and the core: never more than the limit, nothing lost, nothing settled twice."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import difference

from unimsg.adapter import Delivery, Epoch, ReceiverClosed, Wire
from unimsg.mailbox import Mailbox


def deliveries(*names: str, epoch: Epoch | None = None, body: bytes = b"") -> list[Delivery]:
    epoch = epoch or Epoch()
    return [Delivery(Wire(name, body), epoch, token=None) for name in names]


def ids(some: object) -> list[str]:
    assert isinstance(some, list | tuple)
    return [delivery.wire.id for delivery in some]


async def test_it_hands_out_what_was_put_in_its_order() -> None:
    mailbox = Mailbox(10)
    mailbox.put(deliveries("1", "2"))
    mailbox.put(deliveries("3"))
    assert ids(await mailbox.get()) == ["1", "2", "3"]


async def test_it_hands_out_no_more_than_its_limit_until_some_are_settled() -> None:
    mailbox = Mailbox(2)
    mailbox.put(deliveries("1", "2", "3"))
    first = await mailbox.get()
    assert ids(first) == ["1", "2"]
    assert (len(mailbox), mailbox.unsettled) == (1, 2)
    waiting = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    assert not waiting.done(), "a third while two are unsettled"
    mailbox.settle(first[:1])
    assert ids(await waiting) == ["3"]


async def test_it_waits_for_a_message_without_being_asked_again() -> None:
    mailbox = Mailbox(1)
    waiting = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(deliveries("1"))
    assert ids(await waiting) == ["1"]


async def test_large_bodies_fill_it_before_its_limit_but_one_always_passes() -> None:
    mailbox = Mailbox(10, max_bytes=100)
    mailbox.put(deliveries("big", body=bytes(1000)) + deliveries("2", "3", body=bytes(60)))
    big = await mailbox.get()
    assert ids(big) == ["big"]
    mailbox.settle(big)
    assert ids(await mailbox.get()) == ["2", "3"], "the bytes of what was settled do not count any more"


async def test_a_cancelled_wait_loses_nothing() -> None:
    mailbox = Mailbox(10)
    waiting = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(deliveries("1", "2"))
    waiting.cancel()  # in the same turn in which its messages came
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ids(await mailbox.get()) == ["1", "2"]


async def test_what_is_settled_counts_once() -> None:
    mailbox = Mailbox(10)
    mailbox.put(deliveries("1", "2"))
    one, two = await mailbox.get()
    assert ids(mailbox.settle([one, one])) == ["1"]
    assert mailbox.settle([one]) == []
    assert ids(mailbox.settle([one, two])) == ["2"]
    assert mailbox.unsettled == 0


async def test_what_was_never_handed_out_cannot_be_settled() -> None:
    mailbox = Mailbox(10)
    [stranger] = deliveries("stranger")
    mailbox.put(deliveries("1"))
    assert mailbox.settle([stranger]) == []
    assert len(mailbox) == 1


async def test_equal_looking_deliveries_are_two() -> None:
    """A broker may deliver the same message twice; each delivery is settled for itself."""
    mailbox = Mailbox(10)
    mailbox.put(deliveries("1") + deliveries("1"))
    first, second = await mailbox.get()
    assert mailbox.settle([second]) == [second]
    assert mailbox.handed_out() == [first]


async def test_what_waits_of_a_draining_epoch_is_never_handed_out() -> None:
    mailbox, draining = Mailbox(10), Epoch()
    mailbox.put(deliveries("1", epoch=draining) + deliveries("2"))
    draining.drain()
    assert ids(await mailbox.get()) == ["2"]


async def test_if_all_that_waits_drains_it_goes_on_waiting() -> None:
    mailbox, draining = Mailbox(10), Epoch()
    mailbox.put(deliveries("1", epoch=draining))
    draining.drain()
    waiting = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    mailbox.put(deliveries("2"))
    assert ids(await waiting) == ["2"]


async def test_what_was_handed_out_before_its_epoch_drains_can_still_be_settled() -> None:
    mailbox, epoch = Mailbox(10), Epoch()
    mailbox.put(deliveries("1", epoch=epoch))
    got = await mailbox.get()
    epoch.drain()
    assert ids(mailbox.settle(got)) == ["1"]


async def test_closing_returns_what_waited_and_ends_the_wait() -> None:
    mailbox = Mailbox(1)
    mailbox.put(deliveries("1", "2", "3"))
    got = await mailbox.get()
    waiting = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    assert ids(mailbox.close()) == ["2", "3"]
    with pytest.raises(ReceiverClosed):
        await waiting
    assert mailbox.closed
    assert ids(mailbox.settle(got)) == ["1"], "what was handed out stays settleable"
    mailbox.put(deliveries("4"))
    assert (len(mailbox), mailbox.close()) == (0, [])


async def test_closing_with_a_failure_raises_that_for_ever() -> None:
    mailbox = Mailbox(1)
    mailbox.close(OSError("its channel is gone"))
    for _ in range(2):
        with pytest.raises(OSError, match="its channel is gone"):
            await mailbox.get()
    mailbox.close()  # the first word holds
    with pytest.raises(OSError, match="its channel is gone"):
        await mailbox.get()


@given(
    limit=st.integers(1, 5),
    sizes=st.lists(st.integers(0, 60), max_size=30),
    settled=st.lists(st.integers(0, 5), max_size=40),
)
def test_whatever_the_pace_all_are_handed_out_once_in_order_and_never_more_than_the_limit(
    limit: int, sizes: list[int], settled: list[int]
) -> None:
    async def run() -> list[str]:
        mailbox = Mailbox(limit, max_bytes=100)
        for number, size in enumerate(sizes):
            mailbox.put(deliveries(str(number), body=bytes(size)))
        got: list[str] = []
        paces = iter(settled)
        while len(got) < len(sizes):
            got += ids(await asyncio.wait_for(mailbox.get(), 1))
            assert 0 < mailbox.unsettled <= limit
            mailbox.settle(mailbox.handed_out()[: next(paces, limit) or 1])
            if mailbox.unsettled == limit or mailbox.unsettled:
                mailbox.settle(mailbox.handed_out())
        return got

    wanted = [str(number) for number in range(len(sizes))]
    got = asyncio.run(run())
    assert got == wanted, difference(got, wanted)


# -- epochs


def test_an_epoch_goes_from_live_to_draining_to_over_and_says_so_once() -> None:
    epoch, told = Epoch(), []
    epoch.on_drain(lambda: told.append("first"))
    assert (epoch.draining, epoch.over, told) == (False, False, [])
    epoch.drain()
    epoch.drain()
    assert (epoch.draining, epoch.over, told) == (True, False, ["first"])
    epoch.end()
    assert (epoch.draining, epoch.over, told) == (True, True, ["first"])


def test_a_lost_connection_ends_an_epoch_at_once() -> None:
    epoch, told = Epoch(), []
    epoch.on_drain(lambda: told.append(epoch.over))
    epoch.end()
    assert told == [True], "who is told of the drain sees that it is over"


def test_who_asks_late_is_told_at_once() -> None:
    epoch, told = Epoch(), []
    epoch.drain()
    epoch.on_drain(lambda: told.append("late"))
    assert told == ["late"]
