"""Headers that a service hands on from what it handles to what it sends because of it."""

from collections.abc import Sequence
from typing import Any

import pytest
from waiting import until

import unimsg
from unimsg import Context, Queue, Service
from unimsg._propagation import MOST, propagated
from unimsg.adapter import Wire
from unimsg.errors import ConfigurationError
from unimsg.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("elsewhere")

asked = Queue("propagation.asked", int, replies=int)
numbers = Queue("propagation.numbers", int)
results = Queue("propagation.results", int)
USER = {"tenant": "acme", "step": "1", "private": "x"}


def headers_sent() -> list[dict[str, str]]:
    """The user's, of what waits for the results."""
    line = MemoryBroker.current().queues.get(results.name)
    wires = line.waiting_wires() if line is not None else []
    return [{name: value for name, value in wire.headers.items() if name in USER} for wire in wires]


async def test_what_the_call_says_wins_and_what_is_missing_is_left_out() -> None:
    service = Service("shop", propagate=("tenant", "step", "missing"))

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        await context.send(results, body, headers={"step": "2"})
        await context.send(results, body)
        await context.bus.send(results, body)

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 7, headers=USER)
        await until(lambda: len(headers_sent()) == 3, "what is sent")
        at_once, *held = headers_sent()
    assert at_once == {}, "the bus hands on nothing"
    assert held == [{"tenant": "acme", "step": "2"}, {"tenant": "acme", "step": "1"}]


async def test_a_batch_hands_on_what_all_of_it_say() -> None:
    service = Service("shop", propagate=("tenant", "step", "private"))

    @service.batch_handler(numbers, size=2, within=30)
    async def handle(bodies: Sequence[int], context: Context) -> None:
        await context.send(results, sum(bodies))

    async with unimsg.connect(service, url="memory://") as bus:
        await bus.send(numbers, 1, headers={"tenant": "acme", "step": "1"})
        await bus.send(numbers, 2, headers={"tenant": "acme", "step": "2", "private": "x"})
        await until(lambda: bool(headers_sent()), "what is sent")
        assert headers_sent() == [{"tenant": "acme"}]


async def test_requests_and_replies_carry_them() -> None:
    service, other = Service("shop", propagate=["tenant"]), Service("other", propagate=["tenant"])
    replies: list[dict[str, str]] = []
    seen: list[str | None] = []

    @other.handler(asked)
    async def answer(body: int, context: Context) -> int:
        seen.append(context.message.headers.get("tenant"))
        return body

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        await context.request(asked, body)

    store = MemoryBroker.current()
    async with unimsg.connect(service, other, url="memory://") as bus:
        _watch_inboxes(store, replies)
        await bus.send(numbers, 1, headers=USER)
        await until(lambda: bool(replies), "the reply")
    assert seen == ["acme"]
    assert replies[0].get("tenant") == "acme"
    assert "private" not in replies[0]


def _watch_inboxes(broker: MemoryBroker, replies: list[dict[str, str]]) -> None:
    lines = broker.lines

    def watched(address: Any) -> Any:
        found = lines(address)
        for line in found if "inbox" in address.channel else ():
            put = line.put

            def note(wire: Wire, put: Any = put) -> None:
                replies.append(dict(wire.headers))
                put(wire)

            line.put = note  # type: ignore[method-assign]  # for this test
        return found

    broker.lines = watched  # type: ignore[method-assign]  # for this test


def test_a_strangers_value_that_no_broker_must_carry_is_left_out() -> None:
    wire = Wire("1", b"", {"long": "x" * 1025, "broken": "\ud800", "good": "ä"})
    assert propagated(("long", "broken", "good", "missing"), wire) == {"good": "ä"}


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("tenant", "must be names of headers"),
        (7, "must be names of headers"),
        (["Tenant"], "header name 'Tenant' must be"),
        (["unimsg-attempt"], "is reserved"),
        (["content-type"], "is reserved"),
        ([7], "must be a str"),
        ([f"n{number}" for number in range(MOST + 1)], "at most"),
    ],
)
def test_what_could_be_no_header_is_refused_where_it_is_declared(names: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"service shop: propagate.*{problem}"):
        Service("shop", propagate=names)
