"""Expiry: G15 as users see it."""

import asyncio

from unimsg import Context, Retry, Service
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


@guarantee("G15")
async def test_an_expired_message_is_dropped(stage: Stage) -> None:
    """What waited longer than its `ttl` is not handled, is no dead letter, and does not come again."""
    queue = stage.declare_queue(str, ttl=60)
    handled = Handled[str]()

    def service() -> Service:
        made = Service("orders", grace=2.0)

        @made.handler(queue)
        async def handle(body: str, context: Context) -> None:
            handled.note(body, context)

        return made

    async with stage.bus() as client:
        await client.send(queue, "short", ttl=0.3)
        await client.send(queue, "long")
    await asyncio.sleep(0.4)  # nobody can wait for what must not happen
    async with stage.bus(service()) as bus:
        await eventually(lambda: bool(handled.seen), stage.recovery, lambda: "nothing came")
        await stage.breathe(await stage.adapter())
        assert [letter async for letter in bus.dead_letters(queue)] == []
    async with stage.bus(service()) as bus:
        await bus.send(queue, "next")
        await eventually(lambda: bool(handled.of("next")), stage.recovery, lambda: "nothing came")
    assert handled.bodies == ["long", "next"]


@guarantee("G15")
async def test_a_message_expires_while_it_waits_for_a_retry(stage: Stage) -> None:
    """Its time ends between two attempts: no second attempt, no dead letter."""
    topic = stage.declare_topic(str)
    handled = Handled[str]()
    service = Service("billing", grace=2.0, retry=Retry(1.0))

    @service.handler(topic)
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        raise RuntimeError("on purpose")

    async with stage.bus(service) as bus:
        await bus.publish(topic, "short", ttl=0.9)
        await bus.publish(topic, "long")

        async def dead() -> bool:
            return bool([letter async for letter in bus.dead_letters(topic, "billing")])

        await eventually(dead, stage.recovery + 1, lambda: f"no dead letter of {handled.bodies}")
        letters = [letter.message.body async for letter in bus.dead_letters(topic, "billing")]
    assert letters == [b"long"]
    assert handled.attempts("long") == [1, 2]
    assert handled.attempts("short") == [1]
