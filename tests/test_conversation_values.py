"""Conversations with values that no type checker saw: they are somebody's error, and hold up nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import unimsg
from unimsg import Bus, MemoryStore, Queue, Reject, RemoteError, ReplyQueue, Retry, RetryAfter, Service, Topic, _survey
from unimsg._answers import REFUSALS, FailureTold
from unimsg._return import address_of
from unimsg.adapter import Wire
from unimsg.errors import Refused

PLACES = {"north": 1}


class Offer(BaseModel):
    place: str

    @field_validator("place")
    @classmethod
    def known(cls, place: str) -> str:
        PLACES[place]  # a KeyError, which pydantic lets pass
        return place


class Anything(BaseModel):
    place: str


@asynccontextmanager
async def serving(*handled: tuple[Any, Any]) -> AsyncIterator[Bus]:
    service = Service("shop", retry=Retry())
    for channel, handler in handled:
        service.handler(channel, concurrency=1)(handler)
    async with unimsg.connect(service, url="memory://"), unimsg.connect(url="memory://") as bus:
        yield bus


async def offer(place: str) -> Anything:
    return Anything(place=place)


async def test_a_validator_that_raises_anything_is_a_decode_error() -> None:
    asked = Queue("offers.ask", str, replies=Offer)
    async with serving((Queue("offers.ask", str, replies=Anything), offer)) as bus:
        with pytest.raises(unimsg.DecodeError, match=r"offers\.ask: KeyError"):
            await bus.request(asked, "south", timeout=5)
        assert (await bus.request(asked, "north", timeout=5)).place == "north"


async def test_a_reply_that_cannot_be_decoded_does_not_end_the_inbox() -> None:
    asked, other = Topic("offers.wanted", str, replies=Offer), Queue("offers.ask", str, replies=Offer)
    handled = Topic("offers.wanted", str, replies=Anything), Queue("offers.ask", str, replies=Anything)
    async with serving((handled[0], offer), (handled[1], offer)) as bus:
        async with bus.survey(asked, "south", timeout=0.3) as survey:
            assert [reply async for reply in survey] == []
        assert [failure.code for failure in survey.failures] == ["undecodable"]
        assert (await bus.request(other, "north", timeout=5)).place == "north"


class Bare(Reject):
    def __init__(self) -> None:  # and not that of Reject
        pass


@pytest.mark.parametrize(
    ("error", "code"),
    [(Reject("no", code=5), "5"), (Reject({"no": 1}), "rejected"), (Bare(), "rejected")],  # type: ignore[arg-type]  # programs without types
)
async def test_a_rejection_of_any_values_is_told(error: Reject, code: str) -> None:
    queue = Queue("orders.check", str, replies=str)

    async def check(body: str) -> str:
        if body == "bad":
            raise error
        return body

    async with serving((queue, check)) as bus:
        with pytest.raises(RemoteError) as told:
            await bus.request(queue, "bad", timeout=2)
        assert told.value.code == code
        assert await bus.request(queue, "good", timeout=2) == "good"


@pytest.mark.parametrize("address", ["unimsg.inbox." + "0" * 32, "unimsg.reply.full"])
async def test_a_return_address_that_refuses_holds_nothing(address: str) -> None:
    """Who may make queues can make one that takes nothing, and name it in as many messages as they like."""
    refused = Refused("it is full", channel=address, message_id="m")
    publisher = SimpleNamespace(submit=lambda *_: _done(refused))
    to = address_of(address, "")
    assert to is not None
    told = FailureTold(Wire("m", b"", {}, None), publisher, to, None)  # type: ignore[arg-type]  # as far as it is used
    for _ in range(REFUSALS - 1):
        assert await told.send() is refused
    assert await told.send() is None, "given up in the end"


async def _done(error: Refused) -> Refused:
    return error


async def test_a_wait_that_is_rounded_up_past_the_deadline_is_not_begun() -> None:
    """RabbitMQ and memory make 5 seconds of 3: the request would expire meanwhile, and nobody would be told why."""
    queue = Queue("orders.check", str, replies=str)
    service = Service("shop", retry=Retry(1, 1))

    @service.handler(queue)
    async def check(body: str) -> str:
        raise RetryAfter(3, "busy")

    async with unimsg.connect(service, url="memory://") as bus:
        with pytest.raises(RemoteError, match="internal"):
            await bus.request(queue, "a", timeout=4)


async def test_a_rejection_in_a_task_group_is_told_as_it_is() -> None:
    queue = Queue("orders.check", str, replies=str)

    async def refuse() -> None:
        raise Reject("no flour", code="sold-out")

    async def check(body: str) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())
        return body

    async with serving((queue, check)) as bus:
        with pytest.raises(RemoteError) as told:
            await bus.request(queue, "a", timeout=2)
    assert (told.value.code, told.value.text) == ("sold-out", "no flour")


async def test_a_survey_holds_only_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_survey, "MAX_WAITING_BYTES", 250)
    topic = Topic("offers.wanted", str, replies=str)
    service = Service("shop")
    for number in range(5):

        async def offer(_: str) -> str:
            return "x" * 100

        service.handler(topic, subscription=f"shop-{number}")(offer)
    async with unimsg.connect(service, url="memory://") as bus, bus.survey(topic, "a", timeout=0.5) as survey:
        await asyncio.sleep(0.3)
        assert len([reply async for reply in survey]) == 2


async def test_a_stored_reply_goes_to_who_got_it_before_and_to_nobody_else() -> None:
    queue = Queue("orders.check", str, replies=str)
    alice, mallory = ReplyQueue("answers.alice", str), ReplyQueue("answers.mallory", str)
    got: list[tuple[str, object]] = []
    service = Service("shop")

    @service.handler(queue, store=MemoryStore())
    async def check(body: str) -> str:
        return f"for {body} only"

    @service.handler(alice)
    async def to_alice(body: object) -> None:
        got.append(("alice", body))

    @service.handler(mallory)
    async def to_mallory(body: object) -> None:
        got.append(("mallory", body))

    async with unimsg.connect(service, url="memory://") as bus:
        for body, back in (("alice", alice), ("mallory", mallory), ("alice", alice)):
            await bus.send(queue, body, id="order-1", reply_to=back)
            await asyncio.sleep(0.1)
    assert got == [("alice", "for alice only"), ("alice", "for alice only")]
