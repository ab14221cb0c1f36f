"""What operators do: finding channels that they have no declaration of, deleting, asking what is allowed."""

import pytest

from unimsg.adapter import Adapter, Address, ChannelMissing, Kind, Right, Wanted
from unimsg.errors import TopologyError
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

TEMPORARY = Wanted(temporary=True)


@guarantee("G16")
async def test_a_channel_is_found_as_it_is(stage: Stage) -> None:
    """Who knows its name only finds out how to use it: what is sent to what was found arrives, keys in order."""
    adapter = await stage.adapter()
    find = adapter.operations().find
    topic, subscription = await stage.topic(adapter, "billing", partitions=2)
    plain, plain_subscription = await stage.topic(adapter, "billing")
    queues = [await stage.queue(adapter), await stage.queue(adapter, partitions=2)]
    pairs = [(topic, subscription), (plain, plain_subscription), *((queue, queue) for queue in queues)]
    for target, source in pairs:
        found = await find(Address(target.channel, target.kind), timeout=stage.recovery)
        known = await find(Address(source.channel, source.kind, source.subscription), timeout=stage.recovery)
        assert (found.channel, found.kind, known.name) == (target.channel, target.kind, source.name)
        wires = stage.wires(8, keys=["a", "b"])
        await stage.send(adapter, found, wires)
        reader = await stage.reader(adapter, source)
        await stage.exactly(adapter, found, wires, reader)
        for key in ("a", "b"):
            came = [delivery.wire.id for delivery in reader.got if delivery.wire.key == key]
            assert came == [wire.id for wire in wires if wire.key == key]
    for missing in (stage.queue_address(), stage.topic_address(), Address(topic.channel, Kind.TOPIC, "nobody")):
        with pytest.raises(ChannelMissing, match=missing.channel):
            await find(missing, timeout=stage.recovery)


@guarantee("G16", needs=("declared_order",))
async def test_a_queue_is_no_topic(stage: Stage) -> None:
    """Where the broker knows which of them a channel is, it says so to who takes it for the other."""
    adapter = await stage.adapter()
    (topic,) = await stage.topic(adapter)
    for known in (topic, await stage.queue(adapter), await stage.queue(adapter, partitions=2)):
        other = Kind.QUEUE if known.kind is Kind.TOPIC else Kind.TOPIC
        with pytest.raises(TopologyError, match=known.channel):
            await adapter.operations().find(Address(known.channel, other), timeout=stage.recovery)


async def is_gone(stage: Stage, adapter: Adapter, address: Address) -> None:
    """Nobody finds it any more, and nobody can receive from it."""

    async def missing() -> bool:
        try:
            await adapter.operations().find(address, timeout=stage.recovery)
        except ChannelMissing:
            return True
        return False

    await eventually(missing, stage.recovery, lambda: f"{address.name} was deleted, and is found")
    with pytest.raises(ChannelMissing, match=address.channel):
        await stage.within(adapter.receiver(address, prefetch=1, timeout=stage.recovery), "receiver")


@guarantee("G2")
async def test_a_deleted_subscription_gets_nothing_and_others_all(stage: Stage) -> None:
    """Deleting ends one subscription, or one queue, with what waits in it. It may be done twice."""
    adapter = await stage.adapter()
    operations = adapter.operations()
    for partitions in (0, 2):
        topic, one, two = await stage.topic(adapter, "one", "two", partitions=partitions)
        queue = await stage.queue(adapter, partitions=partitions)
        dead = await stage.ensure(adapter, Address(f"{queue.name}..dead", Kind.QUEUE))
        before = stage.wires(4, keys=["k"])
        await stage.send(adapter, topic, before)
        await stage.send(adapter, queue, stage.wires(4, keys=["k"]))
        for doomed in (one, queue):
            for _ in range(2):
                await stage.within(operations.delete(doomed, Wanted(), timeout=stage.recovery), "delete")
            await is_gone(stage, adapter, doomed)
        await is_gone(stage, adapter, dead)
        after = stage.wires(4, keys=["k"])
        await stage.send(adapter, topic, after)
        await stage.exactly(adapter, topic, [*before, *after], await stage.reader(adapter, two))
        with pytest.raises(ValueError, match=topic.channel):
            await operations.delete(topic, Wanted(), timeout=stage.recovery)


@guarantee("G2")
async def test_a_temporary_subscription_leaves_nothing(stage: Stage) -> None:
    """It gets what is sent from now on, makes no topic and no dead-letter queue, and is gone when it is deleted."""
    adapter = await stage.adapter()
    operations = adapter.operations()
    nowhere = Address(stage.name(), Kind.TOPIC, "tail-1")
    with pytest.raises(ChannelMissing, match=nowhere.channel):
        await stage.within(adapter.ensure(nowhere, TEMPORARY, timeout=stage.recovery), "ensure")
    for partitions in (0, 2):
        topic, durable = await stage.topic(adapter, "billing", partitions=partitions)
        early, late = stage.wires(3, keys=["k"]), stage.wires(3, keys=["k"])
        await stage.send(adapter, topic, early)
        watching = await stage.ensure(adapter, Address(topic.channel, Kind.TOPIC, "tail-1", partitions), TEMPORARY)
        await stage.send(adapter, topic, late)
        reader = await stage.reader(adapter, watching)
        await stage.exactly(adapter, topic, late, reader)
        await reader.leave()
        await stage.within(reader.receiver.aclose(), "aclose")
        await stage.within(operations.delete(watching, TEMPORARY, timeout=stage.recovery), "delete")
        await is_gone(stage, adapter, watching)
        await is_gone(stage, adapter, Address(f"{watching.name}..dead", Kind.QUEUE))
        await stage.arrive([*early, *late], await stage.reader(adapter, durable))


@guarantee("G17")
async def test_asking_for_permissions_changes_nothing(stage: Stage) -> None:
    """Who may do all lacks nothing, of what exists and of what does not; nothing is made, taken or sent by asking."""
    adapter = await stage.adapter()
    operations = adapter.operations()
    topic, subscription = await stage.topic(adapter, "billing")
    queue, ordered = await stage.queue(adapter), await stage.queue(adapter, partitions=2)
    wires = stage.wires(4, keys=["a", "b"])
    for target in (topic, queue, ordered):
        await stage.send(adapter, target, wires)
    absent = [
        stage.queue_address(),
        stage.queue_address(partitions=2),
        stage.topic_address(),
        Address(topic.channel, Kind.TOPIC, "nobody"),
    ]
    for address in (topic, subscription, queue, ordered, stage.inbox_address(), *absent):
        for right in Right:
            lacking = await operations.permissions(address, right, timeout=stage.recovery)
            assert not [each for each in lacking if each.unknown is None], f"{address}: {lacking}"
    for address in absent:
        await is_gone(stage, adapter, address)
    for target, source in ((topic, subscription), (queue, queue), (ordered, ordered)):
        await stage.exactly(adapter, target, wires, await stage.reader(adapter, source))


@guarantee("G17", needs=("permissions",))
async def test_missing_permissions_are_told(stage: Stage) -> None:
    """A user that may do nothing with a channel is told what it lacks, by the channel's name, without trying."""
    owner = await stage.adapter()
    queue = await stage.queue(owner)
    url, options = await stage.harness.forbid(queue)
    nobody = await stage.adapter(url=url, options=options)
    for right in (Right.SEND, Right.RECEIVE):
        lacking = await nobody.operations().permissions(queue, right, timeout=stage.recovery)
        certain = [each.what for each in lacking if each.unknown is None]
        assert certain, f"{right}: forbidden, and nothing is told but {lacking}"
        assert right is Right.SEND or any(queue.channel in what for what in certain), certain
    wires = stage.wires(2)
    await stage.send(owner, queue, wires)
    await stage.exactly(owner, queue, wires, await stage.reader(owner, queue))


@guarantee("G17")
async def test_both_ends_say_what_they_are(stage: Stage) -> None:
    """The broker and the client are named, without a secret."""
    adapter = await stage.adapter()
    about = await adapter.operations().about(timeout=stage.recovery)
    assert about.broker
    assert about.client
    password = str(stage.harness.options.get("password", ""))
    assert len(password) < 6 or password not in f"{about}"
