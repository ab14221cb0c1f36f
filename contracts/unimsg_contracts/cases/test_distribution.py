"""G2: a queue's message goes to one receiver, a topic's to every subscription that existed when it was sent."""

import asyncio

from unimsg.adapter import Address, Kind
from unimsg.errors import Unroutable
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import difference, eventually, ids
from unimsg_contracts.stage import Stage


@guarantee("G2")
async def test_competing_receivers_share_a_queue(stage: Stage) -> None:
    """Each message goes to one of the receivers, each receiver gets some, and none comes twice."""
    sender = await stage.adapter()
    queue = await stage.queue(sender)
    readers = [await stage.reader(await stage.adapter(), queue, prefetch=5) for _ in range(2)]
    sent = []
    deadline = asyncio.get_running_loop().time() + stage.recovery
    while not all(reader.got for reader in readers):  # until the broker has shared it out: Kafka rebalances first
        assert asyncio.get_running_loop().time() < deadline, "one of two receivers gets nothing"
        batch = stage.wires(16, keys=[f"k{n}" for n in range(16)])
        sent += batch
        await stage.send(sender, queue, batch)
        await stage.arrive(batch, *readers, patience=stage.recovery)
    await stage.exactly(sender, queue, sent, *readers)


@guarantee("G2")
async def test_every_subscription_gets_every_message(stage: Stage) -> None:
    """Three subscriptions of a topic: each gets all, once."""
    adapter = await stage.adapter()
    topic, *subscriptions = await stage.topic(adapter, "billing", "kitchen", "stock")
    wires = stage.wires(20)
    await stage.send(adapter, topic, wires)
    markers = stage.markers()
    await stage.send(adapter, topic, markers)
    for subscription in subscriptions:
        reader = await stage.reader(adapter, subscription)
        await stage.arrive([*wires, *markers], reader)
        assert not difference(ids([*wires, *markers]), reader.ids), difference(ids([*wires, *markers]), reader.ids)


@guarantee("G2")
async def test_receivers_of_one_subscription_compete(stage: Stage) -> None:
    """Of two receivers of one subscription, one gets each message."""
    adapter = await stage.adapter()
    topic, subscription = await stage.topic(adapter, "billing")
    readers = [await stage.reader(await stage.adapter(), subscription, prefetch=5) for _ in range(2)]
    wires = stage.wires(40, keys=[f"k{n}" for n in range(16)])
    await stage.send(adapter, topic, wires)
    await stage.exactly(adapter, topic, wires, *readers, patience=stage.recovery)


@guarantee("G2")
async def test_a_new_subscription_starts_now(stage: Stage) -> None:
    """A subscription gets all that is sent after it was made, and nothing that was sent before."""
    adapter = await stage.adapter()
    topic, old = await stage.topic(adapter, "old")
    before = stage.wires(10, keys=["a", "b", "c", "d"])
    await stage.send(adapter, topic, before)
    new = await stage.subscription(adapter, topic, "new")
    after = stage.wires(10, keys=["a", "b", "c", "d"])
    await stage.send(adapter, topic, after)

    await stage.exactly(adapter, topic, after, await stage.reader(adapter, new))
    await stage.arrive([*before, *after], await stage.reader(adapter, old))


@guarantee("G2")
async def test_ensuring_again_moves_nothing(stage: Stage) -> None:
    """What waits in a queue or subscription is still there after somebody ensured it again, what is done stays done."""
    adapter = await stage.adapter()
    topic, subscription = await stage.topic(adapter, "billing")
    queue = await stage.queue(adapter)
    for target, source in ((topic, subscription), (queue, queue)):
        done, waiting = stage.wires(5, keys=["a", "b"]), stage.wires(5, keys=["a", "b"])
        await stage.send(adapter, target, done)
        first = await stage.reader(adapter, source)
        await stage.arrive(done, first)
        await first.leave()
        await first.receiver.aclose()
        await stage.send(adapter, target, waiting)
        await stage.ensure(await stage.adapter(), source)
        await stage.exactly(adapter, target, waiting, await stage.reader(adapter, source))


@guarantee("G2")
async def test_concurrent_ensures_of_one_adapter_lose_nothing(stage: Stage) -> None:
    """Several parts of a program make one new subscription at once; whatever each then sends arrives."""
    adapter = await stage.adapter()
    (topic,) = await stage.topic(adapter)
    subscription = Address(topic.channel, Kind.TOPIC, "new")
    sent = [stage.wires(8) for _ in range(4)]

    async def ensure_and_send(n: int) -> None:
        await stage.ensure(adapter, subscription)
        await stage.send(adapter, topic, sent[n])

    await asyncio.gather(*[ensure_and_send(n) for n in range(len(sent))])
    reader = await stage.reader(adapter, subscription)
    await stage.exactly(adapter, topic, [wire for wires in sent for wire in wires], reader)


@guarantee("G2", needs=("racing",))
async def test_concurrent_ensures_lose_nothing(stage: Stage) -> None:
    """Many make one new subscription at once; whatever each of them sends after its own call returned arrives."""
    adapters = [await stage.adapter() for _ in range(4)]
    (topic,) = await stage.topic(adapters[0])
    old = stage.wires(4)
    await stage.send(adapters[0], topic, old)
    subscription = Address(topic.channel, Kind.TOPIC, "new")
    sent = [stage.wires(8, keys=[f"k{n}" for n in range(8)]) for _ in adapters]

    async def ensure_and_send(n: int) -> None:
        await stage.ensure(adapters[n], subscription)
        await stage.send(adapters[n], topic, sent[n])

    await asyncio.gather(*[ensure_and_send(n) for n in range(len(adapters))])
    reader = await stage.reader(adapters[0], subscription)
    await stage.exactly(adapters[0], topic, [wire for wires in sent for wire in wires], reader)


@guarantee("G2", needs=("processes", "racing"))
async def test_racing_processes_lose_nothing(stage: Stage) -> None:
    """As above, with the calls in four processes that begin at one signal."""
    adapter = await stage.adapter()
    (topic,) = await stage.topic(adapter)
    subscription = Address(topic.channel, Kind.TOPIC, "new")
    sent = [stage.wires(8, keys=[f"k{n}" for n in range(8)]) for _ in range(4)]
    async with asyncio.timeout(stage.limit):
        children = [await stage.child() for _ in sent]
        for child, wires in zip(children, sent, strict=True):
            await child.tell("ensure", subscription, topic=topic, wires=wires)
        await asyncio.gather(*[child.says("done") for child in children])
    reader = await stage.reader(adapter, subscription)
    await stage.exactly(adapter, topic, [wire for wires in sent for wire in wires], reader)


@guarantee("G2")
async def test_an_inbox_receives_from_the_first_moment(stage: Stage) -> None:
    """A message that is sent right after `receiver` returned arrives in the inbox, from any process, and only there."""
    owner, other = await stage.adapter(), await stage.adapter()
    inboxes = [stage.inbox_address() for _ in range(3)]
    for inbox in inboxes:
        await stage.ensure(owner, inbox)
        receiver = await stage.receiver(owner, inbox)
        wires = stage.wires(3)
        await stage.send(other, inbox, wires)
        await stage.exactly(other, inbox, wires, stage.read(receiver))


@guarantee("G2")
async def test_an_inbox_is_gone_after_close(stage: Stage) -> None:
    """A closed inbox gets nothing any more; where the broker notices, a send to it is `Unroutable`."""
    owner, other = await stage.adapter(), await stage.adapter()
    inbox = stage.inbox_address()
    receiver = await stage.receiver(owner, inbox)
    await stage.send(other, inbox, stage.wires(1))
    await receiver.aclose()

    if other.capabilities.notices_missing_inbox:

        async def unroutable() -> bool:
            (outcome,) = await stage.outcomes(other, inbox, stage.wires(1))
            return isinstance(outcome, Unroutable)

        await eventually(unroutable, stage.patience, lambda: "a send to a closed inbox is not Unroutable")
    else:
        await stage.outcomes(other, inbox, stage.wires(1))
    again = await stage.reader(owner, inbox)
    await stage.exactly(other, inbox, [], again)
