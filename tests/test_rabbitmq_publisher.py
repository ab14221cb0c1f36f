"""What becomes of each message on a publishing channel, as the broker's answers come in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from unimsg_rabbitmq.connection import Connection, Link
from unimsg_rabbitmq.publisher import Call, PublishChannel, Publisher
from unimsg_rabbitmq.transport import ChannelEvents

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


class Broker:
    """A connection, its link and its channels in one: what a publisher asks of them. Blocked, it answers nothing."""

    number, frame_max, problem = 1, 4096, None

    def __init__(self) -> None:
        self.reader = SimpleNamespace(blocked=None, unblocked=asyncio.Event())
        self.reader.unblocked.set()
        self.transport = SimpleNamespace(write=self._confirm, drain=self.confirm_delivery)
        self.questions = 0
        self.events = ChannelEvents()

    @property
    def live(self) -> "Broker":
        return self

    async def get(self) -> "Broker":
        return self

    async def channel(self, events: ChannelEvents) -> "Broker":
        await self._answer()
        self.events = events
        return self

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator["Broker"]:
        await self._answer()
        yield self

    async def exchange_declare(self, *_: object, **__: object) -> None: ...

    async def confirm_delivery(self) -> None: ...

    def block(self, why: str | None) -> None:
        self.reader.blocked = why
        self.reader.unblocked.clear() if why else self.reader.unblocked.set()

    async def _answer(self) -> None:
        self.questions += 1
        await self.reader.unblocked.wait()

    def _confirm(self, frames: bytes) -> None:
        if frames:
            asyncio.get_running_loop().call_soon(self.events.on_confirm, 1, True, True)


@pytest.mark.parametrize("used_before", [False, True])
async def test_a_blocked_broker_is_asked_nothing_and_the_send_is_certainly_not_stored(used_before: bool) -> None:
    """It reads nothing then: each question would open another channel that is never answered."""
    broker = Broker()
    publisher = Publisher(cast("Connection", broker), "t", MAX)  # stands in for one
    now = asyncio.get_running_loop().time
    if used_before:
        assert await publisher.send(call(1, TOPIC), now() + 5) == [None]
    publisher._looked = float("-inf")  # long ago
    broker.block("low on memory")
    asked = broker.questions
    (outcome,) = await publisher.send(call(1, TOPIC), now() + 0.1)
    assert isinstance(outcome, PublishRejected)
    assert "low on memory" in str(outcome)
    assert broker.questions == asked


async def test_what_waits_for_a_blocked_broker_goes_out_when_it_is_well_again() -> None:
    broker = Broker()
    publisher = Publisher(cast("Connection", broker), "t", MAX)  # stands in for one
    broker.block("low on disk")
    sending = asyncio.create_task(publisher.send(call(1, TOPIC), asyncio.get_running_loop().time() + 5))
    await asyncio.sleep(0)
    broker.block(None)
    assert await sending == [None]
