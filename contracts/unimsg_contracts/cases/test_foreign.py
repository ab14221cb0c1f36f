"""G14: messages of other programs are received, and other programs can read what unimsg sends."""

from unimsg_contracts.harness import Foreign
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import ids
from unimsg_contracts.stage import Stage


@guarantee("G14", needs=("foreign",))
async def test_foreign_messages_are_received(stage: Stage) -> None:
    """A plain client puts in messages without anything of ours: body, headers, key and content type arrive, and each
    gets an id of its own."""
    adapter = await stage.adapter()
    topic, subscription = await stage.topic(adapter, "billing")
    queue = await stage.queue(adapter)
    plain = Foreign(b"\x00plain", {"x-from": "elsewhere", "Colour": "grün"}, content_type="text/plain")
    bare = Foreign(b"bare")
    for target, source in ((queue, queue), (topic, subscription)):
        for message in (plain, bare):
            await stage.harness.put(target, message)
        reader = await stage.reader(adapter, source)
        await stage.count(2, reader)
        got = {delivery.wire.body: delivery.wire for delivery in reader.got}
        assert set(got) == {plain.body, bare.body}
        assert got[plain.body].headers.get("Colour") == "grün"
        assert got[plain.body].headers.get("content-type") == "text/plain"
        assert all(got[body].id for body in got)
        assert len({wire.id for wire in got.values()}) == 2, "two messages, one id"


@guarantee("G14", needs=("foreign",))
async def test_odd_foreign_messages_block_nothing(stage: Stage) -> None:
    """What a plain client can put into headers that is no text becomes text or is dropped, and what comes behind it
    arrives."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    reader = await stage.reader(adapter, queue)
    await stage.harness.put_odd(queue)
    await stage.send(adapter, queue, wires := stage.wires(1))
    await stage.arrive(wires, reader)
    await stage.count(2, reader)
    for delivery in reader.got:
        odd = [name for name, value in delivery.wire.headers.items() if not isinstance(value, str)]
        assert not odd, f"headers that are no text: {odd}"
        assert isinstance(delivery.wire.id, str)
        assert delivery.wire.id


@guarantee("G14", needs=("foreign",))
async def test_others_read_valid_cloudevents(stage: Stage) -> None:
    """A plain client finds the body untouched, the CloudEvents attributes under the names of the broker's binding, and
    the content type and the key where the broker has a place for them."""
    adapter = await stage.adapter()
    topic, subscription = await stage.topic(adapter, "billing")
    queue = await stage.queue(adapter)
    prefix = stage.adapter_type.attribute_prefix
    for target, source in ((queue, queue), (topic, subscription)):
        wires = [stage.wire(b"\xffbody", key="k", headers={"colour": "grün"}), stage.wire(b"2", key="k")]
        await stage.send(adapter, target, wires)
        found = await stage.within(stage.harness.read(source, 2), "reading with the plain client", stage.recovery)
        by_id = {message.attributes.get(f"{prefix}id", ""): message for message in found}
        assert sorted(by_id) == sorted(ids(wires))
        message = by_id[wires[0].id]
        assert message.body == b"\xffbody"
        attributes = {name: message.attributes.get(f"{prefix}{name}") for name in ("specversion", "source", "type")}
        assert attributes == {"specversion": "1.0", "source": "contracts", "type": "contract"}
        assert message.attributes.get("colour") == "grün"
        assert message.attributes.get(f"{prefix}partitionkey") == "k"
        assert message.content_type == "application/json"
