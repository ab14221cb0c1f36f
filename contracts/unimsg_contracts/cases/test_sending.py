"""G1: a send that returns was taken by the broker; anything else says what happened, within its deadline."""

import asyncio

from unimsg.adapter import Address, Kind, Wanted, Wire
from unimsg.errors import MessageTooLarge, PublishError, PublishRejected, Unroutable
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import difference, ids
from unimsg_contracts.stage import Stage


@guarantee("G1")
async def test_what_was_confirmed_is_stored(stage: Stage) -> None:
    """A confirmed message waits for whoever receives later, also when its sender is gone by then."""
    sender = await stage.adapter()
    queue = await stage.queue(sender)
    wires = stage.wires(20)
    await stage.send(sender, queue, wires)
    await sender.aclose(timeout=stage.patience)

    receiver = await stage.receiver(await stage.adapter(), queue)
    await stage.take(receiver, wires)


@guarantee("G1")
async def test_a_large_batch_is_stored_whole(stage: Stage) -> None:
    """Every message of a batch that is larger than any broker's own limit of one request is stored."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    wires = [stage.wire(b"x" * 2048) for _ in range(1200)]
    await stage.send(adapter, queue, wires)
    reader = await stage.reader(adapter, queue, prefetch=200)
    await stage.exactly(adapter, queue, wires, reader)


@guarantee("G1")
async def test_a_missing_channel_is_unroutable_and_stays_missing(stage: Stage) -> None:
    """A send to a queue or topic that does not exist is `Unroutable`, names its message, and creates nothing."""
    adapter = await stage.adapter()
    for address in (stage.queue_address(), stage.topic_address(), stage.queue_address(partitions=2)):
        wires = stage.wires(3, keys=["a", "b"])
        outcomes = await stage.outcomes(adapter, address, wires)
        assert [type(outcome) for outcome in outcomes] == [Unroutable] * 3
        assert [outcome.message_id for outcome in outcomes if outcome is not None] == ids(wires)
        assert all(address.channel in str(outcome) for outcome in outcomes)
        missing = await adapter.operations().inspect(address, Wanted(), timeout=stage.recovery)
        assert missing, f"sending created {address}"


@guarantee("G1")
async def test_a_missing_channel_harms_no_neighbour(stage: Stage) -> None:
    """Messages to a good channel are stored while others of the same moment go to a missing one."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    good = stage.wires(60)
    bad = [stage.outcomes(adapter, stage.topic_address(), stage.wires(3)) for _ in range(3)]
    bad += [stage.outcomes(adapter, stage.queue_address(), stage.wires(3)) for _ in range(3)]
    sends = [stage.send(adapter, queue, good[n : n + 10]) for n in range(0, len(good), 10)]
    await asyncio.gather(*[act for pair in zip(bad, sends, strict=True) for act in pair])
    reader = await stage.reader(adapter, queue)
    await stage.exactly(adapter, queue, good, reader)


@guarantee("G1", needs=("delete",))
async def test_a_deleted_queue_is_unroutable(stage: Stage) -> None:
    """A queue is deleted while it is in use: no send to it counts as stored, and soon each is `Unroutable`."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    await stage.send(adapter, queue, stage.wires(3))
    await stage.harness.delete(queue)

    deadline = asyncio.get_running_loop().time() + stage.recovery
    while True:
        (outcome,) = await stage.outcomes(adapter, queue, stage.wires(1))
        assert outcome is not None, "a message to a deleted queue was reported as stored"
        if isinstance(outcome, Unroutable):
            break
        assert asyncio.get_running_loop().time() < deadline, f"still {outcome!r}"

    await stage.ensure(adapter, queue)
    wires = stage.wires(3)
    await stage.send(adapter, queue, wires)
    await stage.arrive(wires, await stage.reader(adapter, queue))


@guarantee("G1", needs=("refuse",))
async def test_what_was_refused_never_shows_up(stage: Stage) -> None:
    """What the broker refuses is `PublishRejected` and is never received; what it took beside it is."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, wanted=stage.harness.refusing())
    stored: list[Wire] = []
    refused: list[Wire] = []
    for _ in range(20):
        batch = [stage.wire(b"", key="k"), stage.wire(stage.harness.refused_body, key="k"), stage.wire(b"", key="k")]
        outcomes = await stage.outcomes(adapter, queue, batch)
        for wire, outcome in zip(batch, outcomes, strict=True):
            assert outcome is None or isinstance(outcome, PublishRejected), repr(outcome)
            (stored if outcome is None else refused).append(wire)
        if len(refused) >= 3:
            break
    assert refused, "the broker refused nothing"
    assert stored, "the broker took nothing"

    reader = await stage.reader(adapter, queue)
    await stage.arrive(stored, reader)
    marker = stage.wire(b"", key="k")
    await stage.send(adapter, queue, [marker])
    await stage.arrive([marker], reader)
    assert not difference(ids([*stored, marker]), reader.ids), difference(ids([*stored, marker]), reader.ids)


@guarantee("G1", needs=("refuse",))
async def test_a_partly_refused_event_may_be_stored(stage: Stage) -> None:
    """One of two subscriptions refuses an event: it is called rejected only if the other one did not get it either."""
    adapter = await stage.adapter()
    channel = stage.name()
    full = await stage.ensure(adapter, Address(channel, Kind.TOPIC, "full"), stage.harness.refusing())
    free = await stage.ensure(adapter, Address(channel, Kind.TOPIC, "free"))
    topic = Address(channel, Kind.TOPIC)
    readers = [await stage.reader(adapter, free)]
    rejected: list[Wire] = []
    stored: list[Wire] = []
    unclear = 0
    for _ in range(50):
        wire = stage.wire(stage.harness.refused_body, key="k")
        (outcome,) = await stage.outcomes(adapter, topic, [wire])
        if isinstance(outcome, PublishRejected):
            rejected.append(wire)
        elif outcome is None:
            stored.append(wire)
        else:
            unclear += 1
        if len(rejected) + unclear >= 3:
            break
    assert rejected or unclear, "nothing was refused"
    readers.append(await stage.reader(adapter, full))
    for reader in readers:
        await stage.arrive(stored, reader)
    last = stage.wire(b"", key="k")
    await stage.send(adapter, topic, [last])
    for reader in readers:
        await stage.arrive([last], reader)
        wrong = set(ids(rejected)) & set(reader.ids)
        assert not wrong, f"rejected, and received all the same: {sorted(wrong)}"


@guarantee("G1", needs=("too_large",))
async def test_one_bad_message_fails_alone(stage: Stage) -> None:
    """A message that is too large is `MessageTooLarge`; those before and behind it, and later ones, are stored."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=2)
    good = []
    for _ in range(2):
        batch = stage.wires(9, keys=["a", "b", "c"])
        batch[4] = stage.wire(bytes(stage.harness.too_large), key="b")
        outcomes = await stage.outcomes(adapter, queue, batch)
        assert isinstance(outcomes[4], MessageTooLarge), repr(outcomes[4])
        assert [outcome for n, outcome in enumerate(outcomes) if n != 4] == [None] * 8
        good += batch[:4] + batch[5:]
    reader = await stage.reader(adapter, queue)
    await stage.exactly(adapter, queue, good, reader)


@guarantee("G1")
async def test_a_topic_without_subscriptions_takes_messages(stage: Stage) -> None:
    """An event that nobody subscribed to yet is no error."""
    adapter = await stage.adapter()
    (topic,) = await stage.topic(adapter)
    assert topic.kind is Kind.TOPIC
    await stage.send(adapter, topic, stage.wires(3))


@guarantee("G1", needs=("stall",))
async def test_a_send_keeps_its_deadline(stage: Stage) -> None:
    """With the network standing still a send returns in time, and what it calls rejected never shows up."""
    network = await stage.network()
    adapter = await stage.adapter(url=network.url)
    queue = await stage.queue(adapter)
    before = stage.wires(2)
    await stage.send(adapter, queue, before)

    network.stall()
    wires = stage.wires(5)
    outcomes = await stage.outcomes(adapter, queue, wires, timeout=1.0)
    assert all(isinstance(outcome, PublishError) for outcome in outcomes), repr(outcomes)
    network.flow()

    reader = await stage.reader(await stage.adapter(), queue)
    after = stage.markers()
    confirmed = await stage.outcomes(adapter, queue, after, timeout=stage.recovery)
    assert list(confirmed) == [None] * len(after)
    await stage.arrive([*before, *after], reader, patience=stage.recovery)
    rejected = {o.message_id for o in outcomes if isinstance(o, PublishRejected)}
    assert not rejected & set(reader.ids), f"rejected, and stored all the same: {sorted(rejected & set(reader.ids))}"


@guarantee("G1", needs=("away",))
async def test_a_send_waits_for_reconnection(stage: Stage) -> None:
    """A send that begins while the network is away succeeds if it comes back within the send's deadline."""
    network = await stage.network()
    adapter = await stage.adapter(url=network.url)
    queue = await stage.queue(adapter)
    await stage.send(adapter, queue, stage.wires(1))
    await network.leave()
    (lost,) = await stage.outcomes(adapter, queue, stage.wires(1), timeout=0.3)
    assert lost is not None, "confirmed without a network"

    wires = stage.wires(3)
    sending = asyncio.create_task(stage.send(adapter, queue, wires))
    (lost,) = await stage.outcomes(adapter, queue, stage.wires(1), timeout=0.5)
    assert lost is not None, "confirmed without a network"
    assert not sending.done(), "gave up before its deadline"
    await network.back()
    await sending
    reader = await stage.reader(await stage.adapter(), queue)
    await stage.arrive(wires, reader)
