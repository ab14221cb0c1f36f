"""The whole library, sending: G1, G2, G13, G14 and G16 as users see them."""

from datetime import UTC, datetime, timedelta

import pytest

from unimsg import Context, Message, PublishError, Service, TopologyError, UnimsgError, Unroutable
from unimsg.adapter import Address, Kind, Wanted
from unimsg_contracts.harness import Foreign
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import difference, eventually
from unimsg_contracts.stage import Stage


@guarantee("G2")
async def test_send_reaches_one_service_and_publish_every_one(stage: Stage) -> None:
    """Two processes of one service and another service: a command goes to one, an event to each service once."""
    queue, topic = stage.declare_queue(str), stage.declare_topic(str)
    commands: list[str] = []
    events: dict[str, list[str]] = {"billing": [], "kitchen": []}

    def service(name: str) -> Service:
        made = Service(name, grace=2.0)

        @made.handler(topic)
        async def on_event(body: str) -> None:
            events[name].append(body)

        if name == "billing":

            @made.handler(queue)
            async def on_command(body: str) -> None:
                commands.append(body)

        return made

    async with (
        stage.bus(service("billing")),
        stage.bus(service("billing")),
        stage.bus(service("kitchen")),
        stage.bus() as client,
    ):
        names = [f"m{n}" for n in range(20)]
        for name in names:
            await client.send(queue, name)
            await client.publish(topic, name)
        done = (commands, *events.values())
        await eventually(
            lambda: all(len(set(seen)) >= len(names) for seen in done),
            stage.recovery,
            lambda: "; ".join(difference(names, seen) or "all" for seen in done),
        )
    for seen in done:
        assert not difference(names, seen), difference(names, seen)


@guarantee("G1")
async def test_a_refused_send_raises_what_happened(stage: Stage) -> None:
    """`send` and `publish` to what nobody made raise `Unroutable` with channel and message id, and make nothing."""
    queue, topic = stage.declare_queue(str), stage.declare_topic(str)
    async with stage.bus(topology="off") as bus:
        with pytest.raises(Unroutable) as sent:
            await bus.send(queue, "x", id="the-id", timeout=stage.recovery)
        with pytest.raises(Unroutable):
            await bus.publish(topic, "x", timeout=stage.recovery)
    assert (sent.value.channel, sent.value.message_id) == (queue.name, "the-id")
    address = Address(queue.name, Kind.QUEUE)
    found = await (await stage.adapter()).operations().inspect(address, Wanted(), timeout=stage.recovery)
    assert found, "the queue was made"


@guarantee("G1")
async def test_a_pipeline_tells_each_failure(stage: Stage) -> None:
    """Many messages through a window, one of them to nowhere: the block's end raises for it, the rest is stored."""
    good, nowhere = stage.declare_queue(int), stage.declare_queue(int)
    adapter = await stage.adapter()
    address = await stage.ensure(adapter, Address(good.name, Kind.QUEUE))
    names: list[str] = []

    async def send_all() -> None:
        async with stage.bus(topology="off") as bus, bus.pipeline(in_flight=50) as pipeline:
            names.extend([await pipeline.send(good, n) for n in range(200)])
            names.append(await pipeline.send(nowhere, 1))

    with pytest.raises(ExceptionGroup) as raised:
        await send_all()
    lost = names.pop()
    errors = [error for error in raised.value.exceptions if isinstance(error, PublishError)]
    assert [error.message_id for error in errors] == [lost]
    reader = await stage.reader(adapter, address)
    await eventually(
        lambda: len(set(reader.ids)) >= len(names), stage.patience, lambda: difference(names, set(reader.ids))
    )
    assert not difference(names, reader.ids), difference(names, reader.ids)


@guarantee("G13")
async def test_a_message_arrives_with_all_that_it_is(stage: Stage) -> None:
    """Id, type, kind, source, time, key, headers and content type arrive; what follows from it names its cause."""
    queue = stage.declare_queue(dict[str, str], key=lambda body: body["customer"])
    follow = stage.declare_topic(str, ordered=True)
    seen: list[Message[object]] = []
    service, witness = Service("orders", grace=2.0), Service("witness", grace=2.0)

    @service.handler(queue)
    async def handle(body: dict[str, str], context: Context) -> None:
        seen.append(context.message)
        await context.publish(follow, "placed", key="ключ", headers={"step": "2"})

    @witness.handler(follow)
    async def watch(body: str, context: Context) -> None:
        seen.append(context.message)

    before = datetime.now(UTC) - timedelta(seconds=1)
    async with stage.bus(service), stage.bus(witness), stage.bus() as client:
        id = await client.send(queue, {"customer": "Ann"}, headers={"trace": "ä€😀", "empty": ""})
        await eventually(lambda: len(seen) >= 2, stage.recovery, lambda: f"{len(seen)} of 2 messages came")
    first, second = seen[:2]
    assert (first.body, first.id, first.type, first.kind) == ({"customer": "Ann"}, id, queue.name, "command")
    assert (first.source, first.key, first.content_type) == ("client", "Ann", "application/json")
    assert dict(first.headers) == {"trace": "ä€😀", "empty": ""}
    assert before < first.time < datetime.now(UTC) + timedelta(seconds=1)
    assert first.causation_id is None
    assert first.raw is not None
    assert (second.body, second.type, second.kind, second.source) == ("placed", follow.name, "event", "orders")
    assert (second.key, dict(second.headers)) == ("ключ", {"step": "2"})
    assert (second.causation_id, second.conversation_id) == (id, first.conversation_id)


@guarantee("G14", needs=("foreign",))
async def test_what_unimsg_publishes_is_a_cloudevent(stage: Stage) -> None:
    """A plain client reads a published message as a valid CloudEvent 1.0 in binary mode."""
    topic = stage.declare_topic(dict[str, int])
    adapter = await stage.adapter()
    subscription = await stage.subscription(
        adapter, await stage.ensure(adapter, Address(topic.name, Kind.TOPIC)), "other"
    )
    async with stage.bus() as bus:
        id = await bus.publish(topic, {"n": 7}, headers={"colour": "grün"})
    (found,) = await stage.within(stage.harness.read(subscription, 1), "reading with the plain client")
    prefix = stage.adapter_type.attribute_prefix
    event = {name.removeprefix(prefix): value for name, value in found.attributes.items() if name.startswith(prefix)}
    assert found.body == b'{"n":7}'
    assert found.content_type == "application/json"
    assert tuple(event.get(name) for name in ("specversion", "id", "source", "type")) == (
        "1.0",
        id,
        "client",
        topic.name,
    )
    assert datetime.fromisoformat(event["time"]).tzinfo is not None
    assert all(name.isascii() and name.isalnum() and name.islower() for name in event), sorted(event)
    assert found.attributes.get("colour") == "grün"


@guarantee("G14", needs=("foreign",))
async def test_a_handler_gets_foreign_messages(stage: Stage) -> None:
    """What another program wrote without anything of ours reaches a handler, decoded by its content type."""
    queue = stage.declare_queue(dict[str, int])
    seen: list[tuple[dict[str, int], Message[object]]] = []
    service = Service("orders", grace=2.0)

    @service.handler(queue)
    async def handle(body: dict[str, int], context: Context) -> None:
        seen.append((body, context.message))

    address = await stage.ensure(await stage.adapter(), Address(queue.name, Kind.QUEUE))
    async with stage.bus(service):
        await stage.harness.put(address, Foreign(b'{"n": 1}', {"from": "elsewhere"}, content_type="application/json"))
        await stage.harness.put(address, Foreign(b'{"n": 2}'))
        await eventually(lambda: len(seen) >= 2, stage.patience, lambda: f"{len(seen)} of 2 foreign messages came")
    assert sorted(body["n"] for body, _ in seen) == [1, 2]
    assert all(message.type == queue.name and message.id for _, message in seen)
    assert [message.headers.get("from") for body, message in seen if body["n"] == 1] == ["elsewhere"]


@guarantee("G16")
async def test_verify_makes_nothing(stage: Stage) -> None:
    """With `topology = "verify"` a service whose channels are missing does not start, the error names the channel, and
    nothing was made; when they exist it starts."""
    queue, topic = stage.declare_queue(str), stage.declare_topic(str)
    seen: list[str] = []

    def service() -> Service:
        made = Service("orders", grace=2.0)

        @made.handler(queue)
        async def handle(body: str) -> None:
            seen.append(body)

        @made.handler(topic)
        async def watch(body: str) -> None:
            seen.append(body)

        return made

    for _ in range(2):
        with pytest.raises(TopologyError, match=rf"({queue.name}|{topic.name})"):
            async with stage.bus(service(), topology="verify"):
                pytest.fail("started without its channels")
    async with stage.bus(service()):
        pass
    async with stage.bus(service(), topology="verify") as bus:
        await bus.send(queue, "command")
        await bus.publish(topic, "event")
        await eventually(lambda: len(seen) >= 2, stage.recovery, lambda: f"only {seen} came")
    missing = stage.declare_queue(str)
    with pytest.raises(UnimsgError, match=missing.name) as raised:
        async with stage.bus(topology="verify") as bus:
            await bus.send(missing, "x")
    assert isinstance(raised.value, TopologyError)
