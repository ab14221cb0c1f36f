"""What topics there are, what they should be, and making them. Changes nothing that exists."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    TopicPartition,
)
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]

from unimsg.adapter import Address, ChannelMissing, Difference
from unimsg.backoff import Backoff
from unimsg.errors import TopologyError
from unimsg_kafka.clients import Clients, stop_consumer
from unimsg_kafka.errors import UNREACHABLE, operation_error
from unimsg_kafka.identity import TopicRequest
from unimsg_kafka.keeping import OF_KEEPING, forgets
from unimsg_kafka.options import KafkaOptions

Result = TypeVar("Result")
_ROOM_FOR_HEADERS = 64 * 1024
_USUAL_LIMIT = 1_048_588  # the broker's message.max.bytes, unless it is configured


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    partitions: int
    replication: int
    led: bool
    """Whether every partition has a leader, so that it can be written and read."""
    id: str = ""
    """What tells it from an earlier topic of its name."""

    @property
    def all(self) -> list[TopicPartition]:
        return [TopicPartition(self.name, number) for number in range(self.partitions)]


class Topics:
    """The topics of one cluster, through one admin client and one consumer that is in no group."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.admin: AIOKafkaAdminClient = clients.admin()
        self._reader: AIOKafkaConsumer | None = None
        self._reader_lock = asyncio.Lock()

    async def find(self, name: str) -> Topic | None:
        """The topic, or None if there is none; looking never creates it.

        Raises:
            KafkaError: the cluster does not answer, or does not say: not authorised, still being made.
        """
        (found,) = (await self.admin._send_request(TopicRequest(name))).to_object()["topics"]
        error = kafka.for_code(found["error_code"])
        if error is kafka.UnknownTopicOrPartitionError:
            return None
        if error is not kafka.NoError:
            raise error(name)
        partitions = found["partitions"]
        return Topic(
            name,
            partitions=len(partitions),
            replication=min((len(partition["replicas"]) for partition in partitions), default=0),
            led=bool(partitions) and all(partition["leader"] >= 0 for partition in partitions),
            id=found["id"],
        )

    async def is_gone(self, topic: Topic) -> bool:
        """Whether it was deleted, also if one of its name was made since."""
        async with asyncio.timeout(5.0):
            found = await self.find(topic.name)
        return found is None or found.id != topic.id

    async def get(self, name: str) -> Topic:
        """
        Raises:
            ChannelMissing: it does not exist.
        """
        topic = await self.find(name)
        if topic is None:
            raise ChannelMissing(f"kafka: topic {name} does not exist")
        return topic

    async def make(self, name: str, options: KafkaOptions, partitions: int) -> Topic:
        """The topic, created if it does not exist; returns when it can be used. Several processes may do it at once."""
        topic = await self.find(name)
        created = topic is None
        if created:
            # -1: as many copies as the cluster's own default says. aiokafka wants an assignment beside it, even empty.
            new = NewTopic(name, partitions, options.replication or -1, {} if options.replication is None else None)
            new.topic_configs = settings_for(options)
            reply = await self.admin.create_topics([new], timeout_ms=10_000)
            _, code, text = reply.topic_errors[0]
            error = kafka.for_code(code)
            if error is kafka.InvalidTopicError:
                raise TopologyError(
                    f"kafka: cannot create topic {name}: {text}: choose another name; "
                    "Kafka takes '.' and '_' for the same in names"
                )
            if error not in (kafka.NoError, kafka.TopicAlreadyExistsError):
                raise error(text or name)
        backoff = Backoff(0.02, 0.2)
        while topic is None or not topic.led:
            await asyncio.sleep(backoff.next())
            topic = await self.find(name)
        if created:  # a leader may not know yet that it is one; aiokafka's producer would try again, and log a warning
            await self.ends(topic)
        return topic

    async def differences(
        self, topic: Topic, address: Address, options: KafkaOptions, history: timedelta | None = None
    ) -> list[Difference]:
        """How a topic differs from what is wanted: in what was given explicitly, and in what order needs."""
        what, found = f"topic {topic.name}", []
        partitions = wanted_partitions(address, options)
        if partitions is not None and partitions != topic.partitions:
            found.append(Difference(f"{what} partitions", str(partitions), str(topic.partitions)))
        if options.replication is not None and options.replication != topic.replication:
            found.append(Difference(f"{what} replication", str(options.replication), str(topic.replication)))
        settings = settings_for(options)
        if settings:
            real = await self._settings_of(topic.name, settings)
            found += [
                Difference(f"{what} {name}", value, real[name])
                for name, value in settings.items()
                if real.get(name) != value and not (name not in options.config and int(real[name]) >= int(value))
            ]
        if history is not None:
            found += forgets(topic.name, await self._settings_of(topic.name, OF_KEEPING), history)
        return found

    async def limit(self, name: str) -> int:
        """Bytes of the largest batch that the topic takes; the usual limit where we may not ask."""
        try:
            real = await self._settings_of(name, ["max.message.bytes"])
            return int(real["max.message.bytes"])
        except (*UNREACHABLE, KeyError, ValueError):
            return _USUAL_LIMIT

    async def ends(self, topic: Topic) -> dict[TopicPartition, int]:
        """The offset that the next record of each partition will have."""
        return dict(await (await self._offsets()).end_offsets(topic.all))

    async def since(
        self, topic: Topic, moment: datetime, ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """The offset of the first record of each partition that is not older, else its end of before."""
        at = int(moment.timestamp() * 1000)
        found = await (await self._offsets()).offsets_for_times(dict.fromkeys(topic.all, at))
        return {place: ends[place] if (first := found.get(place)) is None else first.offset for place in topic.all}

    async def beginnings(self, topic: Topic) -> dict[TopicPartition, int]:
        """The offset of the oldest record that each partition still holds."""
        return dict(await (await self._offsets()).beginning_offsets(topic.all))

    async def aclose(self) -> None:
        if self._reader is not None:
            await stop_consumer(self._reader, self.admin, 1.0)

    async def _offsets(self) -> AIOKafkaConsumer:
        async with self._reader_lock:
            if self._reader is None:
                reader = self.clients.consumer(retry_backoff_ms=20)  # topics that were just made are not there yet
                try:
                    await reader.start()
                except BaseException:
                    await reader.stop()
                    raise
                self._reader = reader
        return self._reader

    async def _settings_of(self, name: str, wanted: Any) -> dict[str, str]:  # Any: names, in any collection
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs=dict.fromkeys(wanted, ""))
        (reply,) = await self.admin.describe_configs([resource])
        code, text, _, _, entries = reply.resources[0]
        if code:
            raise kafka.for_code(code)(text or name)
        return {entry[0]: entry[1] for entry in entries}


def wanted_partitions(address: Address, options: KafkaOptions) -> int | None:
    """The partition count that must be; None: any will do, because nothing depends on it."""
    if address.ordered:
        return address.partitions
    return options.partitions if "partitions" in options.model_fields_set else None


async def persist(operation: Callable[[], Awaitable[Result]], what: str, channel: str, *, timeout: float) -> Result:
    """Does it, again while the cluster is unreachable or not ready: coordinators move, leaders are elected, a broker
    restarts.

    Raises:
        UnimsgError: what stands in the way; ConnectError after `timeout` seconds.
    """
    backoff = Backoff()
    last: BaseException = TimeoutError(f"no answer in {timeout:g} s")
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    return await operation()
                except UNREACHABLE as error:
                    if isinstance(error, kafka.BrokerResponseError) and not error.retriable:
                        raise operation_error(error, what, channel) from error
                    last = error
                await asyncio.sleep(backoff.next())
    except TimeoutError:
        raise operation_error(last, what, channel) from last


def settings_for(options: KafkaOptions) -> Mapping[str, str]:
    """Kafka's own settings of a topic that is made with these options."""
    settings = dict(options.config)
    if options.max_body is not None and options.max_body + _ROOM_FOR_HEADERS > _USUAL_LIMIT:
        settings.setdefault("max.message.bytes", str(options.max_body + _ROOM_FOR_HEADERS))
    return settings
