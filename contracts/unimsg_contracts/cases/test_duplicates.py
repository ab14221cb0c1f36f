"""Duplicates: G12 as users see it."""

from unimsg import Context, MemoryStore, Retry, Service
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


@guarantee("G12")
async def test_a_repeated_message_has_one_effect(stage: Stage) -> None:
    """A message that was sent twice with one id is handled once, also when its first attempt failed."""
    queue = stage.declare_queue(str)
    handled = Handled[str]()
    effects: list[str] = []
    service = Service("orders", grace=2.0, retry=Retry(0.2))

    @service.handler(queue, store=MemoryStore())
    async def handle(body: str, context: Context) -> None:
        handled.note(body, context)
        if body == "fails" and context.attempt == 1:
            raise RuntimeError("on purpose")
        effects.append(body)

    async with stage.bus(service) as bus:
        for body in ("fine", "fails"):
            await bus.send(queue, body, id=f"{queue.name}-{body}")
        await eventually(
            lambda: {"fine", "fails"} <= set(effects), stage.recovery, lambda: f"effects {effects}, {handled.bodies}"
        )
        for body in ("fine", "fails"):
            await bus.send(queue, body, id=f"{queue.name}-{body}")
        await bus.send(queue, "last")
        await eventually(lambda: "last" in effects, stage.recovery, lambda: f"effects {effects}")
        await stage.breathe(await stage.adapter())
        assert [letter async for letter in bus.dead_letters(queue)] == []
    assert sorted(effects) == ["fails", "fine", "last"]


@guarantee("G12")
async def test_each_subscription_has_its_own_effect(stage: Stage) -> None:
    """One store for two handlers of one topic: the event is handled by both."""
    topic = stage.declare_topic(str)
    store = MemoryStore()
    effects: list[str] = []
    one, two = Service("one", grace=2.0), Service("two", grace=2.0)

    @one.handler(topic, store=store)
    async def handle_first(body: str) -> None:
        effects.append("one")

    @two.handler(topic, store=store)
    async def handle_second(body: str) -> None:
        effects.append("two")

    async with stage.bus(one, two) as bus:
        await bus.publish(topic, "placed")
        await eventually(lambda: len(effects) >= 2, stage.recovery, lambda: f"effects {effects}")
    assert sorted(effects) == ["one", "two"]
