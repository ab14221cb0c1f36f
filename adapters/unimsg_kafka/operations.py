"""What operators ask of Kafka. Nothing here joins a group, commits or creates; one deletes."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version

from aiokafka.protocol.admin import ApiVersionRequest  # type: ignore[import-untyped]  # aiokafka has no py.typed

from unimsg.adapter import (
    About,
    Address,
    ChannelMissing,
    Difference,
    Kind,
    Missing,
    Operations,
    Right,
    Wanted,
    Wire,
)
from unimsg.errors import ConnectError, TopologyError
from unimsg_kafka import positions, rights
from unimsg_kafka.browsing import browse, waiting
from unimsg_kafka.deleting import HasMembers, delete_group, delete_topics
from unimsg_kafka.derived import compared_with, dead_letters_of, is_dead_letters, origin
from unimsg_kafka.history import read
from unimsg_kafka.keeping import forgetting
from unimsg_kafka.options import DEFAULT_PARTITIONS, KafkaOptions
from unimsg_kafka.topics import Topics, persist, wanted_partitions

_FETCH = 1
"""The number of Kafka's request for records."""


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

    async def find(self, address: Address, *, timeout: float) -> Address:
        """A topic of Kafka's may be a queue, a topic, ordered or not: it is as it is used."""
        return await persist(lambda: self._find(address), "look for", address.name, timeout=timeout)

    async def delete(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        if address.kind is Kind.TOPIC and address.subscription is None:
            raise ValueError(f"kafka: {address.name} is a topic: only queues and subscriptions are deleted")
        last: list[HasMembers] = []
        try:
            await persist(lambda: self._delete(address, wanted, last), "delete", address.name, timeout=timeout)
        except ConnectError as error:
            if not last:
                raise
            raise TopologyError(f"kafka: group {address.name} has members: stop its receivers first") from error

    async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
        if address.kind is Kind.INBOX and right is Right.MAKE:
            return []
        admin, what = self._topics.admin, "ask for the rights on"
        return await persist(lambda: rights.missing(admin, address, right), what, address.name, timeout=timeout)

    async def about(self, *, timeout: float) -> About:
        """Kafka tells neither its version nor its time."""
        reply = await persist(
            lambda: self._topics.admin._send_request(ApiVersionRequest()), "ask", "the versions", timeout=timeout
        )
        fetch = max((newest for key, _, newest in reply.api_versions if key == _FETCH), default=0)
        broker = f"Kafka, which tells no version; its newest Fetch is version {fetch}"
        return About(broker, f"aiokafka {version('aiokafka')}", problems=await forgetting(self._topics.admin))

    async def _find(self, address: Address) -> Address:
        topic = await self._topics.get(address.channel)
        if address.subscription and not await positions.read(self._topics.admin, address.name, topic):
            raise ChannelMissing(f"kafka: consumer group {address.name} has no position on {address.channel}")
        return replace(address, partitions=0)

    async def _delete(self, address: Address, wanted: Wanted, last: list[HasMembers]) -> None:
        last.clear()
        try:
            await delete_group(self._topics.admin, address.name)
        except HasMembers as error:
            last.append(error)
            raise
        dead = dead_letters_of(address).channel
        doomed = ([address.channel] if address.kind is Kind.QUEUE else []) + ([] if wanted.temporary else [dead])
        if doomed:
            await delete_topics(self._topics.admin, doomed)
            await delete_group(self._topics.admin, dead)

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
