"""What becomes of each message on a publishing channel, as the broker's answers come in."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from unimsg_rabbitmq.connection import Link
from unimsg_rabbitmq.publisher import Call, PublishChannel

from unimsg.adapter import Address, Kind, Wire
from unimsg.errors import (
    MessageTooLarge,
    PublishError,
    PublishForbidden,
    PublishRejected,
    PublishUnconfirmed,
    Refused,
    Unroutable,
)

QUEUE, TOPIC = Address("q", Kind.QUEUE), Address("t", Kind.TOPIC)
MAX = 1000


def channel(exchange: str = "") -> PublishChannel:
    link: Any = SimpleNamespace(frame_max=4096, transport=SimpleNamespace(write=lambda _: None))  # all that it uses
    made = PublishChannel(cast("Link", link), exchange)  # stands in for one
    made.opened(cast("AbstractChannel", SimpleNamespace(number=1)))  # likewise
    return made


def call(count: int, address: Address = QUEUE, route: str = "q", **wire: Any) -> Call:
    """Any: what a Wire takes."""
    wires = [Wire(**{"id": f"m{index}", "body": b"", **wire}) for index in range(count)]
    return Call(address, [(route, wire) for wire in wires], mandatory=address is QUEUE)


def kinds(call: Call) -> list[type[PublishError] | None]:
    return [None if outcome is None else type(outcome) for outcome in call.result("unsent", "unanswered")]


def give_back(made: PublishChannel, id: str, route: str = "q") -> None:
    header = ContentHeader(properties=Basic.Properties(message_id=id))
    made.on_return(Basic.Return(312, "NO_ROUTE", "", route), header)


async def test_confirms_in_any_order() -> None:
    made, sent = channel(), call(5)
    assert made.write(sent, MAX)
    made.on_confirm(4, False, True)
    made.on_confirm(2, True, True)
    made.on_confirm(5, False, False)
    assert not sent.done.done()
    made.on_confirm(3, False, True)
    assert sent.done.done()
    assert kinds(sent) == [None, None, None, None, Refused]


async def test_a_returned_message_is_told_from_its_neighbours() -> None:
    made, sent = channel(), call(3)
    made.write(sent, MAX)
    made.on_confirm(1, False, True)
    give_back(made, "m1")
    made.on_confirm(3, False, True)
    made.on_confirm(2, False, True)
    assert kinds(sent) == [None, Unroutable, None]


async def test_the_same_message_is_never_on_its_way_twice() -> None:
    """The second waits for the answer to the first, so that a return is never the other's; another route is free."""
    made, first, second, elsewhere = channel(), call(1), call(1), call(1, route="other")
    assert made.write(first, MAX)
    assert not made.write(second, MAX)
    assert made.write(elsewhere, MAX)
    give_back(made, "m0", "other")
    made.on_confirm(2, True, True)
    await made.answer_to(("m0", "q"))
    assert made.write(second, MAX)
    made.on_confirm(3, False, True)
    assert [kinds(first), kinds(second), kinds(elsewhere)] == [[None], [None], [Unroutable]]


async def test_a_refusal_by_one_subscription_is_unconfirmed() -> None:
    made, sent = channel("t"), call(1, TOPIC)
    made.write(sent, MAX)
    made.on_confirm(1, False, False)
    assert kinds(sent) == [PublishUnconfirmed]


@pytest.mark.parametrize(
    ("code", "count", "kind"),
    [
        (403, 2, PublishForbidden),
        (404, 1, Unroutable),
        (404, 2, PublishUnconfirmed),  # the exchange may have been there for the first
        (0, 1, PublishUnconfirmed),
    ],
)
async def test_the_channel_is_lost(code: int, count: int, kind: type[PublishError]) -> None:
    made, sent = channel("t"), call(count, TOPIC)
    made.write(sent, MAX)
    made.on_close(code, "why")
    assert made.closed
    assert kinds(sent) == [kind] * count


async def test_what_cannot_travel_hurts_no_neighbour() -> None:
    made = channel()
    too_large, too_many, unnameable = call(1, body=bytes(MAX + 1)), call(1, headers={"a": "x" * 5000}), call(1)
    unnameable.messages = [("q", Wire("m", b"", {"n" * 129: ""}))]
    good = call(1, id="good")
    for each in (too_large, too_many, unnameable, good):
        assert made.write(each, MAX)
    made.on_confirm(1, False, True)
    assert [kinds(each) for each in (too_large, too_many, unnameable, good)] == [
        [MessageTooLarge],
        [MessageTooLarge],
        [Refused],
        [None],
    ]


async def test_sent_and_unsent_are_told_apart_at_the_deadline() -> None:
    written, waiting, repeated = call(2), call(2), call(1)
    written.written, repeated.repeated = 2, 0
    assert kinds(written) == [PublishUnconfirmed] * 2
    assert kinds(waiting) == [PublishRejected] * 2
    assert kinds(repeated) == [PublishUnconfirmed]
