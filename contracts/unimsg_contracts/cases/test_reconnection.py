"""G11, and G3 and G4 over a lost connection: the adapter comes back by itself, and nothing is lost on the way."""

import asyncio
from contextlib import suppress

import pytest

from unimsg.adapter import Adapter, Address, ChannelMissing, SettlementLost, Wire
from unimsg.errors import PublishRejected
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import Reader, eventually, ids
from unimsg_contracts.stage import Stage


class Load:
    """Sends all the time, one small batch after the other, and remembers what was confirmed."""

    def __init__(self, stage: Stage, adapter: Adapter, address: Address) -> None:
        self.confirmed: list[Wire] = []
        self.rejected: list[Wire] = []
        self._stage, self._adapter, self._address = stage, adapter, address
        self._ending = False
        self._task = asyncio.create_task(self._send())

    async def grown(self, by: int = 20) -> None:
        """Waits until that many more are confirmed."""
        target = len(self.confirmed) + by
        await eventually(
            lambda: len(self.confirmed) >= target or self._task.done(),
            self._stage.recovery,
            lambda: f"only {len(self.confirmed)} of {target} messages were confirmed: sending did not go on",
        )
        if self._task.done():
            await self._task

    async def end(self) -> None:
        self._ending = True
        await self._task

    async def _send(self) -> None:
        while not self._ending:
            wires = self._stage.wires(5, keys=["a", "b", "c"])
            outcomes = await self._stage.outcomes(self._adapter, self._address, wires, timeout=5.0)
            for wire, outcome in zip(wires, outcomes, strict=True):
                if outcome is None:
                    self.confirmed.append(wire)
                elif isinstance(outcome, PublishRejected):
                    self.rejected.append(wire)
            await asyncio.sleep(0.005)  # a modest load


async def all_arrived(stage: Stage, load: Load, *readers: Reader) -> None:
    await stage.arrive(load.confirmed, *readers, patience=stage.recovery)
    wrong = set(ids(load.rejected)) & {name for reader in readers for name in reader.ids}
    assert not wrong, f"rejected, and received all the same: {sorted(wrong)}"


@guarantee("G11", needs=("cut",))
async def test_a_cut_connection_loses_nothing_confirmed(stage: Stage) -> None:
    """All connections are reset twice under load: sending and receiving go on, and all that was confirmed arrives."""
    await cut_under_load(stage, partitions=0)


@guarantee("G11", needs=("cut", "cut_order"))
async def test_a_cut_connection_of_an_ordered_channel(stage: Stage) -> None:
    """The same on an ordered channel."""
    await cut_under_load(stage, partitions=2)


async def cut_under_load(stage: Stage, *, partitions: int) -> None:
    network = await stage.network()
    sender, consumer = await stage.adapter(url=network.url), await stage.adapter(url=network.url)
    queue = await stage.queue(sender, partitions=partitions)
    reader = await stage.reader(consumer, queue)
    load = Load(stage, sender, queue)
    for _ in range(2):
        await load.grown()
        await network.cut()
    await load.grown()
    await load.end()
    await all_arrived(stage, load, reader)


@guarantee("G11", needs=("restart",))
async def test_a_restarted_broker_loses_nothing_confirmed(stage: Stage) -> None:
    """The broker is stopped and started under load: sending and receiving go on, and all that was confirmed arrives."""
    sender, consumer = await stage.adapter(), await stage.adapter()
    queue = await stage.queue(sender)
    topic, subscription = await stage.topic(sender, "billing")
    readers = [await stage.reader(consumer, queue), await stage.reader(consumer, subscription)]
    loads = [Load(stage, sender, queue), Load(stage, sender, topic)]
    for load in loads:
        await load.grown()
    await stage.within(stage.harness.restart(), "the restart of the broker", 90.0)
    for load, reader in zip(loads, readers, strict=True):
        await load.grown()
        await load.end()
        await all_arrived(stage, load, reader)


@guarantee("G11", needs=("away",))
async def test_health_tells_of_a_lost_connection(stage: Stage) -> None:
    """`health` says that the broker is away while it is, and that all is well when it is back."""
    network = await stage.network()
    adapter = await stage.adapter(url=network.url)
    queue = await stage.queue(adapter)
    reader = await stage.reader(adapter, queue)
    await stage.send(adapter, queue, first := stage.wires(1))
    await stage.arrive(first, reader)

    def well() -> bool:
        health = adapter.health()
        return health.connected and all(receiver.consuming for receiver in health.receivers)

    await eventually(well, stage.patience, lambda: f"unwell at first: {adapter.health()}")
    assert [receiver.address for receiver in adapter.health().receivers] == [queue]
    await network.leave()
    await eventually(
        lambda: not adapter.health().connected, stage.recovery, lambda: f"connected to nothing: {adapter.health()}"
    )
    await network.back()
    await eventually(well, stage.recovery, lambda: f"unwell after the return: {adapter.health()}")


@guarantee("G3", needs=("cut",))
async def test_what_a_lost_connection_left_open_comes_again(stage: Stage) -> None:
    """After a cut each held message is either acknowledged, or `SettlementLost` is raised for it and it comes again;
    those that are not acknowledged come again."""
    network = await stage.network()
    adapter = await stage.adapter(url=network.url)
    queue = await stage.queue(adapter)
    wires = stage.wires(6)
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue)
    held = {delivery.wire.id: delivery for delivery in await stage.take(receiver, wires)}
    await network.cut()
    direct = await stage.adapter()
    await stage.breathe(direct)

    again = wires[3:]
    for wire in wires[:3]:
        try:
            await stage.within(receiver.ack([held[wire.id]]), "ack after a cut")
        except SettlementLost:
            again.append(wire)
    await stage.within(receiver.release([held[wire.id] for wire in wires[3:]]), "release after a cut")
    await stage.exactly(direct, queue, again, stage.read(receiver), patience=stage.recovery)


@guarantee("G4", needs=("cut",))
async def test_what_was_acknowledged_before_a_cut_stays_so(stage: Stage) -> None:
    """Acknowledged, and with the broker, before the connection is lost: not delivered again."""
    network = await stage.network()
    adapter = await stage.adapter(url=network.url)
    queue = await stage.queue(adapter)
    wires = stage.wires(20)
    await stage.send(adapter, queue, wires)
    receiver = await stage.receiver(adapter, queue)
    await receiver.ack(await stage.take(receiver, wires))
    other = await stage.receiver(adapter, queue)
    await receiver.aclose()  # with it, the broker has the acknowledgements
    await network.cut()
    await stage.exactly(await stage.adapter(), queue, [], stage.read(other), patience=stage.recovery)


@guarantee("G11", needs=("delete",))
async def test_a_deleted_channel_ends_its_receivers(stage: Stage) -> None:
    """A receiver whose channel is deleted says so by `ChannelMissing`; a new one on the channel made anew works."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    receiver = await stage.receiver(adapter, queue)
    await stage.send(adapter, queue, first := stage.wires(1))
    await receiver.ack(await stage.take(receiver, first))
    await stage.harness.delete(queue)
    with pytest.raises(ChannelMissing):
        await stage.within(receiver.receive(), "ChannelMissing", stage.recovery)
    with suppress(SettlementLost):
        await receiver.aclose()

    await stage.ensure(adapter, queue)
    wires = stage.wires(3)
    await stage.send(adapter, queue, wires)
    await stage.arrive(wires, await stage.reader(adapter, queue), patience=stage.recovery)
