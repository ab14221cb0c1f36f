"""Surveys: G18 of one question to all subscriptions of a topic."""

import asyncio
from time import monotonic

from unimsg import Reject, Service, Survey, Topic
from unimsg.adapter import Address, Kind
from unimsg_contracts.asking import dropped
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

Price = Topic[str, str]


def courier(topic: Price, name: str, answer: str | Exception | None, when: asyncio.Event | None = None) -> Service:
    """A service with a subscription of its own. `when`: it waits for that before it answers."""
    service = Service(name, grace=2.0)

    @service.handler(topic)
    async def handle(body: str) -> str | None:
        if when is not None:
            await when.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return service


def seconds(stage: Stage) -> float:
    """For a survey: long enough for whoever replies at once."""
    return stage.patience / 4


@guarantee("G18")
async def test_a_survey_collects_every_reply(stage: Stage) -> None:
    """Until its deadline: the replies of all subscriptions, failures apart; None is no reply. Nothing is dead."""
    topic: Price = stage.declare_topic(str, replies=str)
    couriers = [courier(topic, "red", "10"), courier(topic, "blue", "12"), courier(topic, "idle", None)]
    couriers.append(courier(topic, "broken", Reject("no van", code="no-van")))
    async with stage.bus(*couriers) as bus:
        async with bus.survey(topic, "to open the inbox", timeout=stage.recovery, at_most=2) as first:
            assert len([reply.body async for reply in first]) == 2
        began = monotonic()
        async with bus.survey(topic, "to Rome", timeout=seconds(stage)) as survey:
            replies = {reply.source: reply async for reply in survey}
        assert monotonic() - began >= 0.9 * seconds(stage)
        assert {source: reply.body for source, reply in replies.items()} == {"red": "10", "blue": "12"}
        assert len({reply.causation_id for reply in replies.values()}) == 1
        assert [(failure.code, failure.text) for failure in survey.failures] == [("no-van", "no van")]
        assert [letter async for letter in bus.dead_letters(topic, "broken")] == []


@guarantee("G18")
async def test_a_survey_ends_with_its_count(stage: Stage) -> None:
    """After so many replies it waits no longer, and takes no more."""
    topic: Price = stage.declare_topic(str, replies=str)
    couriers = [courier(topic, name, name) for name in ("red", "blue", "green")]
    async with stage.bus(*couriers) as bus, bus.survey(topic, "to Rome", timeout=3600, at_most=2) as survey:
        replies = await stage.within(_all(survey), "two replies", 2 * stage.patience)
        await dropped(stage, bus, late=1)
    assert len(set(replies)) == 2
    assert set(replies) <= {"red", "blue", "green"}


@guarantee("G18")
async def test_replies_come_as_they_are_given(stage: Stage) -> None:
    """One that is there is given while another is still awaited."""
    topic: Price = stage.declare_topic(str, replies=str)
    go_on = asyncio.Event()
    couriers = [courier(topic, "fast", "fast"), courier(topic, "slow", "slow", go_on)]
    async with stage.bus(*couriers) as bus, bus.survey(topic, "to Rome", timeout=3600, at_most=2) as survey:
        first = await stage.within(anext(survey, None), "the first reply", 2 * stage.patience)
        assert getattr(first, "body", None) == "fast", "no reply came while another was awaited"
        go_on.set()
        second = await stage.within(anext(survey, None), "the second reply", 2 * stage.patience)
        assert getattr(second, "body", None) == "slow", "the second reply did not come"
        assert [reply async for reply in survey] == []


@guarantee("G18")
async def test_each_subscription_replies_once(stage: Stage) -> None:
    """A reply that comes again, as after a repeated delivery, is dropped and counted."""
    topic: Price = stage.declare_topic(str, replies=str)
    adapter = await stage.adapter()
    subscription = await stage.subscription(adapter, Address(topic.name, Kind.TOPIC), "by-hand")
    reader = await stage.reader(adapter, subscription)
    async with stage.bus() as bus, bus.survey(topic, "to Rome", timeout=stage.recovery, at_most=2) as survey:
        await stage.count(1, reader)
        asked, prefix = reader.got[0].wire, adapter.attribute_prefix
        inbox = Address(asked.headers[f"{prefix}replyto"], Kind.INBOX)
        replies = [
            stage.wire(body.encode(), headers={"content-type": "text/plain", f"{prefix}causationid": asked.id})
            for body in ("a", "b")
        ]
        await stage.send(adapter, inbox, [replies[0], replies[0], replies[0], replies[1]])
        assert await stage.answer(_all(survey)) == ["a", "b"]
        await dropped(stage, bus, duplicate=2, unknown=0)


@guarantee("G18")
async def test_leaving_a_survey_stops_it(stage: Stage) -> None:
    """What comes after its block was left is dropped and counted, and the next survey is not disturbed."""
    topic: Price = stage.declare_topic(str, replies=str)
    go_on = asyncio.Event()
    async with stage.bus(courier(topic, "fast", "fast"), courier(topic, "slow", "slow", go_on)) as bus:
        async with bus.survey(topic, "to Rome", timeout=stage.recovery) as survey:
            async for reply in survey:
                assert reply.body == "fast"
                break
        go_on.set()
        await dropped(stage, bus, late=1, unknown=0)
        async with bus.survey(topic, "to Oslo", timeout=stage.recovery, at_most=2) as survey:
            assert sorted(await stage.answer(_all(survey))) == ["fast", "slow"]


@guarantee("G18")
async def test_nobody_is_asked_after_the_end(stage: Stage) -> None:
    """A survey expires with its deadline: a subscription that comes to it later does not handle it."""
    topic: Price = stage.declare_topic(str, replies=str)
    asked: list[str] = []
    service = Service("late", grace=2.0)

    @service.handler(topic)
    async def handle(body: str) -> str:
        asked.append(body)
        return body

    adapter = await stage.adapter()
    await stage.subscription(adapter, Address(topic.name, Kind.TOPIC), "late")
    async with stage.bus() as bus:
        async with bus.survey(topic, "too late", timeout=seconds(stage)) as survey:
            assert await stage.answer(_all(survey)) == []
        async with stage.bus(service):
            async with bus.survey(topic, "in time", timeout=stage.recovery, at_most=1) as survey:
                assert await stage.answer(_all(survey)) == ["in time"]
            await stage.breathe(adapter)
    assert asked == ["in time"]


@guarantee("G18")
async def test_surveys_leave_nothing_behind(stage: Stage) -> None:
    """After a hundred of them, some left early, nothing runs that did not run before."""
    topic: Price = stage.declare_topic(str, replies=str)
    async with stage.bus(courier(topic, "red", "red"), courier(topic, "blue", "blue")) as bus:

        async def ask(count: int) -> None:
            for number in range(count):
                async with bus.survey(topic, "to Rome", timeout=stage.recovery, at_most=2) as survey:
                    async for _ in survey:
                        if number % 2:
                            break

        await stage.within(ask(5), "the first surveys", stage.limit)
        before = len(asyncio.all_tasks())
        await stage.within(ask(100), "a hundred surveys", stage.limit)
        await eventually(
            lambda: len(asyncio.all_tasks()) <= before + 5,
            stage.patience,
            lambda: f"{len(asyncio.all_tasks())} tasks, {before} before",
        )


async def _all(survey: Survey[str]) -> list[str]:
    return [reply.body async for reply in survey]
