"""What operators ask of Kafka. Nothing here joins a group, commits or creates."""

from collections.abc import Callable, Sequence

from unimsg.adapter import Address, ChannelMissing, Difference, Kind, Operations, Wanted
from unimsg_kafka import positions
from unimsg_kafka.offsets import done_above
from unimsg_kafka.options import DEFAULT_PARTITIONS, KafkaOptions
from unimsg_kafka.topics import Topics, persist, wanted_partitions


class KafkaOperations(Operations):
    def __init__(self, topics: Topics, remember: Callable[[Address, KafkaOptions], None]) -> None:
        """`remember`: takes note of how to send to a channel that is declared, created here or not."""
        self._topics = topics
        self._remember = remember

    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        if address.kind is Kind.INBOX:
            return []
        return await persist(lambda: self._inspect(address, wanted), "inspect", address.name, timeout=timeout)

    async def backlog(self, address: Address, *, timeout: float) -> int | None:
        if address.kind is Kind.INBOX or (address.kind is Kind.TOPIC and address.subscription is None):
            return None
        return await persist(lambda: self._backlog(address), "read the backlog of", address.name, timeout=timeout)

    async def _inspect(self, address: Address, wanted: Wanted) -> list[Difference]:
        options = options_of(wanted)
        self._remember(address, options)
        topic = await self._topics.find(address.channel)
        if topic is None:
            partitions = wanted_partitions(address, options) or DEFAULT_PARTITIONS
            return [Difference(f"topic {address.channel}", f"{partitions} partitions", None)]
        differences = await self._topics.differences(topic, address, options)
        if address.subscription and not await positions.read(self._topics.admin, address.name, topic):
            differences.append(Difference(f"consumer group {address.name}", "a committed position", None))
        return differences

    async def _backlog(self, address: Address) -> int:
        topic = await self._topics.get(address.channel)
        at = await positions.read(self._topics.admin, address.name, topic)
        if address.subscription and not at:
            raise ChannelMissing(f"kafka: consumer group {address.name} has no position on {address.channel}")
        first, end = await self._topics.beginnings(topic), await self._topics.ends(topic)
        waiting = 0
        for place in topic.all:
            position = at.get(place)
            start = first[place] if position is None else max(position.offset, first[place])
            done = done_above(position.offset, position.metadata) if position else []
            waiting += end[place] - start - sum(run.end - max(run.start, start) for run in done if run.end > start)
        return waiting


def options_of(wanted: Wanted) -> KafkaOptions:
    """This broker's options; what holds on every broker is taken over from any other kind."""
    if isinstance(wanted.options, KafkaOptions):
        return wanted.options
    return KafkaOptions(max_body=wanted.options.max_body) if wanted.options is not None else KafkaOptions()
