"""What operators ask of Kafka. Nothing here joins a group, commits or creates."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime

from unimsg.adapter import Address, Difference, Kind, Operations, Wanted, Wire
from unimsg_kafka import positions
from unimsg_kafka.browsing import browse, waiting
from unimsg_kafka.derived import compared_with, is_dead_letters, origin
from unimsg_kafka.history import read
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

    async def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        places = await persist(lambda: waiting(self._topics, address), "browse", address.name, timeout=timeout)
        async with aclosing(browse(self._topics, places, limit, address.name, timeout)) as pages:
            async for page in pages:
                yield page

    def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        return read(self._topics, topic, since, timeout)

    async def _inspect(self, address: Address, wanted: Wanted) -> list[Difference]:
        options = options_of(wanted)
        self._remember(address, options)
        topic = await self._topics.find(address.channel)
        if topic is None:
            partitions = 1 if is_dead_letters(address) else wanted_partitions(address, options) or DEFAULT_PARTITIONS
            return [Difference(f"topic {address.channel}", f"{partitions} partitions", None)]
        if origin(address) is not None:
            options = compared_with(address, options)
        differences = await self._topics.differences(topic, address, options, wanted.history)
        if address.subscription and not await positions.read(self._topics.admin, address.name, topic):
            differences.append(Difference(f"consumer group {address.name}", "a committed position", None))
        return differences

    async def _backlog(self, address: Address) -> int:
        return sum(place.count for place in (await waiting(self._topics, address)).values())


def options_of(wanted: Wanted) -> KafkaOptions:
    """This broker's options; what holds on every broker is taken over from any other kind."""
    if isinstance(wanted.options, KafkaOptions):
        return wanted.options
    return KafkaOptions(max_body=wanted.options.max_body) if wanted.options is not None else KafkaOptions()
