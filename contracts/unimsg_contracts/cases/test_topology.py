"""G16: what a channel needs and the broker does not have is an error before anything is sent."""

import pytest

from unimsg.adapter import Adapter, Address, ChannelMissing, Kind, Wanted
from unimsg.errors import (
    ConfigurationError,
    PermissionDenied,
    PublishForbidden,
    PublishRejected,
    TopologyError,
)
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


@guarantee("G16")
async def test_inspecting_tells_what_is_missing(stage: Stage) -> None:
    """A channel that does not exist is a difference that names it, and looking makes nothing."""
    adapter = await stage.adapter()
    operations = adapter.operations()
    (topic,) = await stage.topic(adapter)
    missing = [
        stage.queue_address(),
        stage.queue_address(partitions=2),
        stage.topic_address(),
        Address(topic.channel, Kind.TOPIC, "nobody"),
    ]
    for address in [*missing, *missing]:
        differences = await operations.inspect(address, Wanted(), timeout=stage.recovery)
        assert differences, f"{address} does not exist, and inspect says that it is as wanted"
        assert all(difference.found is None for difference in differences), differences
        assert address.channel in differences[0].what, differences


@guarantee("G16")
async def test_inspecting_agrees_with_ensure(stage: Stage) -> None:
    """After `ensure` there is no difference."""
    adapter = await stage.adapter()
    topic, subscription = await stage.topic(adapter, "billing")
    ordered, ordered_subscription = await stage.topic(adapter, "billing", partitions=2)
    queues = [await stage.queue(adapter), await stage.queue(adapter, partitions=2)]
    for address in (topic, subscription, ordered, ordered_subscription, *queues):
        differences = await adapter.operations().inspect(address, Wanted(), timeout=stage.recovery)
        assert not differences, f"{address}: {differences}"


@guarantee("G16", needs=("declared_order",))
async def test_order_never_changes(stage: Stage) -> None:
    """Order by key on a channel that exists without it, or none where there is, is refused by name and told by
    `inspect`, and harms nothing that is stored."""
    adapter = await stage.adapter()
    ordered, plain = await stage.queue(adapter, partitions=2), await stage.queue(adapter)
    await refused(stage, adapter, Address(ordered.channel, Kind.QUEUE))
    await refused(stage, adapter, Address(plain.channel, Kind.QUEUE, partitions=2))
    wires = stage.wires(4, keys=["a", "b"])
    for queue in (ordered, plain):
        await stage.send(adapter, queue, wires)
        await stage.exactly(adapter, queue, wires, await stage.reader(adapter, queue))


@guarantee("G16", needs=("partitions",))
async def test_partitions_never_change(stage: Stage) -> None:
    """Another count of partitions would move keys: it is refused and told in the same way."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter, partitions=2)
    for partitions in (1, 3):
        await refused(stage, adapter, Address(queue.channel, Kind.QUEUE, partitions=partitions))
    wires = stage.wires(4, keys=["a", "b"])
    await stage.send(adapter, queue, wires)
    await stage.exactly(adapter, queue, wires, await stage.reader(adapter, queue))


async def refused(stage: Stage, adapter: Adapter, wrong: Address) -> None:
    with pytest.raises(TopologyError, match=wrong.channel):
        await stage.within(adapter.ensure(wrong, Wanted(), timeout=stage.recovery), "ensure")
    differences = await adapter.operations().inspect(wrong, Wanted(), timeout=stage.recovery)
    assert differences, f"{wrong}: ensure refuses it, and inspect finds no difference"


@guarantee("G16")
async def test_a_delay_beyond_the_broker_is_refused(stage: Stage) -> None:
    """`send` with a delay that the broker cannot do is an error, and nothing is sent early instead."""
    adapter = await stage.adapter()
    queue = await stage.queue(adapter)
    with pytest.raises(ValueError, match="delay"):
        await adapter.send(queue, stage.wires(1), timeout=stage.patience, delay=adapter.capabilities.max_delay + 1)
    await stage.exactly(adapter, queue, [], await stage.reader(adapter, queue))


@guarantee("G16")
async def test_a_misspelt_option_is_refused(stage: Stage) -> None:
    """An unknown option of the broker is an error that suggests the right one."""
    for options in ({"connect_timeot": 3}, {"no_such_thing": True}):
        with pytest.raises(ConfigurationError, match=next(iter(options))) as caught:
            stage.adapter_type.from_url(stage.harness.url, options)
        assert "connect_timeout" in str(caught.value)


@guarantee("G17")
async def test_receiving_from_nothing_is_an_error(stage: Stage) -> None:
    """A receiver of a queue or subscription that does not exist is `ChannelMissing`, and it makes nothing."""
    adapter = await stage.adapter()
    (topic,) = await stage.topic(adapter)
    for address in (stage.queue_address(), stage.queue_address(partitions=2), Address(topic.channel, Kind.TOPIC, "no")):
        with pytest.raises(ChannelMissing, match=address.channel):
            await stage.within(adapter.receiver(address, prefetch=1, timeout=stage.recovery), "receiver")
        assert await adapter.operations().inspect(address, Wanted(), timeout=stage.recovery), f"{address} was made"


@guarantee("G17", needs=("permissions",))
async def test_what_is_forbidden_is_told(stage: Stage) -> None:
    """Connected, but not allowed: each operation says so and names the channel; a send is certainly not stored, and
    the connection goes on."""
    owner = await stage.adapter()
    queue = await stage.queue(owner)
    url, options = await stage.harness.forbid(queue)
    nobody = await stage.adapter(url=url, options=options)
    with pytest.raises(PermissionDenied, match=queue.channel):
        await stage.within(nobody.receiver(queue, prefetch=1, timeout=stage.recovery), "receiver")
    for _ in range(2):
        outcomes = await stage.outcomes(nobody, queue, stage.wires(3))
        assert [type(outcome) for outcome in outcomes] == [PublishForbidden] * 3, repr(outcomes)
        assert all(queue.channel in str(outcome) for outcome in outcomes)
    other = stage.queue_address()
    (missing,) = await stage.outcomes(nobody, other, stage.wires(1))
    assert isinstance(missing, PublishRejected), repr(missing)
    await stage.exactly(owner, queue, [], await stage.reader(owner, queue))


@guarantee("G16")
async def test_the_backlog_is_counted(stage: Stage) -> None:
    """`backlog` counts what waits, takes nothing, follows what is acknowledged, and says when there is no channel."""
    adapter = await stage.adapter()
    backlog = adapter.operations().backlog
    topic, subscription = await stage.topic(adapter, "billing")
    queue = await stage.queue(adapter, partitions=2)
    for target, source in ((queue, queue), (topic, subscription)):
        counts: list[int | None] = []

        async def counted(wanted: int, source: Address = source, counts: list[int | None] = counts) -> bool:
            counts.append(await backlog(source, timeout=stage.recovery))
            return counts[-1] in (wanted, None)

        wires = stage.wires(8, keys=["a", "b", "c"])
        await stage.send(adapter, target, wires)
        await eventually(lambda: counted(8), stage.patience, lambda: f"8 wait, counted {counts[-1]}")  # noqa: B023
        reader = await stage.reader(adapter, source)
        await stage.arrive(wires, reader)
        await eventually(lambda: counted(0), stage.patience, lambda: f"0 wait, counted {counts[-1]}")  # noqa: B023
    for missing in (stage.queue_address(), Address(topic.channel, Kind.TOPIC, "nobody")):
        with pytest.raises(ChannelMissing, match=missing.channel):
            await backlog(missing, timeout=stage.recovery)
