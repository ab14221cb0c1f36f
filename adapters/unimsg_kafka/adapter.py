"""unimsg's port on Apache Kafka: connecting, topology, and the way to the parts that send and receive."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from aiokafka import codec  # type: ignore[import-untyped]  # aiokafka has no py.typed
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from unimsg.adapter import (
    Adapter,
    AdapterHealth,
    Address,
    Capabilities,
    ChannelMissing,
    Kind,
    Operations,
    Receiver,
    Wanted,
    Wire,
)
from unimsg.errors import CapabilityError, ConfigurationError, ConnectError, PublishError, TopologyError
from unimsg.network import host_and_port, is_loopback
from unimsg.surprises import Surprises
from unimsg_kafka import positions
from unimsg_kafka.clients import Clients, Server, close_client
from unimsg_kafka.derived import compared_with, dead_letters_of, is_dead_letters, made_with, origin
from unimsg_kafka.errors import UNREACHABLE, describe, log, never_left, problem
from unimsg_kafka.inbox import REPLY_OPTIONS, REPLY_PARTITIONS, InboxReceiver
from unimsg_kafka.keeping import MAX_HISTORY, with_history
from unimsg_kafka.operations import KafkaOperations, options_of
from unimsg_kafka.options import DEFAULT_DELIVERY_LIMIT, DEFAULT_PARTITIONS, KafkaBrokerOptions, KafkaOptions
from unimsg_kafka.publisher import Publisher
from unimsg_kafka.receiver import KafkaReceiver
from unimsg_kafka.reminding import remind
from unimsg_kafka.topics import Topics, persist, settings_for, wanted_partitions
from unimsg_kafka.wire import topic_of

__all__ = ["KafkaAdapter"]

_PORT = 9092
_PULSE = 3.0


class KafkaAdapter(Adapter):
    broker = "kafka"
    attribute_prefix = "ce_"
    capabilities = Capabilities(max_delay=0.0, max_body=16 * 1024 * 1024, max_history=MAX_HISTORY)
    options_type = KafkaOptions

    def __init__(self, servers: Sequence[Server], options: KafkaBrokerOptions, *, tls: bool) -> None:
        self._servers = servers
        self._options = options
        self._tls = tls
        self._receivers: list[KafkaReceiver | InboxReceiver] = []
        self._limits: dict[str, int] = {}
        """Of each queue and subscription that was declared: deaths of one message after which it is given up."""
        self._connection: _Connection | None = None

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        parts = urlsplit(url)
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # whatever stands before it may be secret
        user, at, hosts = parts.netloc.rpartition("@")
        if ":" in user:
            raise ConfigurationError(f"{where}: no password in the URL: set password_file or password_env")
        if parts.path.strip("/"):
            raise ConfigurationError(f"{where}: a Kafka URL has no path: kafka://host:9092,host2:9092")
        values: dict[str, object] = {**dict(parse_qsl(parts.query)), **options}
        if at:
            values.setdefault("username", user)
        read = KafkaBrokerOptions.read(where, values)
        servers = [host_and_port(where, host, _PORT) for host in hosts.split(",")]
        tls = parts.scheme == "kafkas"
        wrong = _wrong_security(read, tls=tls, local=all(is_loopback(host) for host, _ in servers))
        if wrong is not None:
            raise ConfigurationError(f"{where}: {wrong}")
        return cls(servers, read, tls=tls)

    async def connect(self, *, timeout: float) -> None:
        clients = Clients(self._servers, self._options, tls=self._tls)
        try:
            async with asyncio.timeout(timeout):
                await clients.probe(timeout)
                self._connection = _Connection(clients)
                await self._connection.topics.admin.start()
        except TimeoutError as error:
            await self.aclose(timeout=1.0)
            raise ConnectError(f"kafka: {self._named()}: no answer within {timeout:g} s", reason="timeout") from error
        except UNREACHABLE as error:
            await self.aclose(timeout=1.0)
            raise ConnectError(f"kafka: {self._named()}: {describe(error)}", reason="protocol") from error
        self._connection.watch(self._dead_letters)

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        options = options_of(wanted)
        self._remember(address, options)
        if address.kind is not Kind.INBOX:
            await persist(lambda: self._ensure(address, options, wanted), "create", address.name, timeout=timeout)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if delay > 0:
            raise ValueError("kafka delays nothing by itself: capabilities.max_delay is 0")
        if self._connection is None:
            return [never_left("not connected", address.name, wire.id) for wire in messages]
        return await self._connection.publisher.send(address, messages, timeout)

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        receiver = await persist(
            lambda: self._receiver(address, prefetch, grace), "receive from", address.name, timeout=timeout
        )
        self._receivers = [one for one in self._receivers if not one.closed]
        self._receivers.append(receiver)
        return receiver

    def health(self) -> AdapterHealth:
        connection = self._connection
        if connection is None:
            return AdapterHealth(connected=False, problems=["not connected"])
        problems = [text for text in (connection.problem, connection.publisher.problem) if text is not None]
        receivers = [receiver.health() for receiver in self._receivers if not receiver.closed]
        return AdapterHealth(connection.problem is None, problems, receivers)

    def operations(self) -> Operations:
        return KafkaOperations(self._open.topics, self._remember)

    async def aclose(self, *, timeout: float) -> None:
        connection, self._connection = self._connection, None
        await asyncio.gather(*(receiver.close(timeout / 3) for receiver in self._receivers))
        if connection is not None:
            await connection.aclose(timeout / 3)

    @property
    def _open(self) -> "_Connection":
        if self._connection is None:
            raise ConnectError(f"kafka: {self._named()}: not connected", reason="refused")
        return self._connection

    async def _ensure(self, address: Address, options: KafkaOptions, wanted: Wanted) -> None:
        topics = self._open.topics
        if wanted.temporary:
            await positions.begin_for_one(topics, address.name, await topics.get(address.channel))
            return
        made, compared = with_history(options, wanted.history), options
        channel = origin(address)
        if channel is not None:
            said = settings_for(options).get("max.message.bytes", "0")  # the channel may not be made yet
            made = made_with(address, options, max(int(said), await topics.limit(channel)))
            compared = compared_with(address, options)
        partitions = wanted_partitions(address, made) or DEFAULT_PARTITIONS
        topic = await topics.make(address.channel, made, partitions)
        differences = await topics.differences(topic, address, compared, wanted.history)
        if differences:
            found = "; ".join(f"{one.what}: found {one.found}, wanted {one.wanted}" for one in differences)
            raise TopologyError(
                f"kafka: {found}: declare {address.channel} as it is, or change the topic with Kafka's own tools "
                "(other partitions move keys: drain it first)"
            )
        if address.subscription:
            await positions.begin(topics, address.name, topic, wanted.start)

    async def _receiver(self, address: Address, prefetch: int, grace: float) -> "KafkaReceiver | InboxReceiver":
        topics = self._open.topics
        receiver: KafkaReceiver | InboxReceiver
        if address.kind is Kind.INBOX:
            replies = await topics.make(topic_of(address), REPLY_OPTIONS, REPLY_PARTITIONS)
            receiver = InboxReceiver(topics, replies, address, prefetch=prefetch)
        else:
            topic = await topics.get(address.channel)
            await positions.may_read(topics.admin, address.name, topic)
            if address.subscription and not await positions.read(topics.admin, address.name, topic):
                raise ChannelMissing(f"kafka: consumer group {address.name} has no position on {address.channel}")
            session = self._options.session_timeout
            # Who puts dead letters back holds many, and handles none.
            limit = 0 if is_dead_letters(address) else self._limits.get(address.name, DEFAULT_DELIVERY_LIMIT)
            receiver = KafkaReceiver(
                topics, topic, address, prefetch=prefetch, grace=grace, session=session, limit=limit
            )
        await receiver.open()
        return receiver

    def _remember(self, address: Address, options: KafkaOptions) -> None:
        """How to send to it, and when to give up, which nothing on the broker says."""
        if options.compression and not getattr(codec, f"has_{options.compression}")():
            name, compression = address.name, options.compression
            raise CapabilityError(f"kafka: {name}: compression {compression} needs: pip install cramjam")
        publisher = self._open.publisher
        publisher.compressions[topic_of(address)] = options.compression
        publisher.forget(topic_of(address))
        self._limits[address.name] = options.delivery_limit

    def _dead_letters(self) -> Iterable[Address]:
        """Of what is received here."""
        return [
            dead_letters_of(receiver.address)
            for receiver in self._receivers
            if isinstance(receiver, KafkaReceiver) and not receiver.closed and origin(receiver.address) is None
        ]

    def _named(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self._servers)


class _Connection:
    """What exists once a cluster was reached."""

    def __init__(self, clients: Clients) -> None:
        self.topics = Topics(clients)
        self.publisher = Publisher(self.topics)
        self.problem: str | None = None
        self._surprises = Surprises(log)
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, dead_letters: Callable[[], Iterable[Address]]) -> None:
        """Begins to ask the cluster whether it is there: aiokafka's clients reconnect by themselves and tell nobody.
        And to keep it from forgetting `dead_letters`."""
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(remind(self.topics, dead_letters))]

    async def aclose(self, timeout: float) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.publisher.aclose(timeout)
        await self.topics.aclose()
        await close_client(self.topics.admin._client)

    async def _beat(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_PULSE):
                    await self.topics.admin._send_request(MetadataRequest([]))
                self.problem = None
            except Exception as error:  # noqa: BLE001  # whatever it is, health must not stay as it is
                self.problem = problem(self._surprises, "cluster", "the cluster does not answer", error)
            await asyncio.sleep(_PULSE)


def _wrong_security(options: KafkaBrokerOptions, *, tls: bool, local: bool) -> str | None:
    login = options.username is not None, options.password is not None
    if options.sasl is None and any(login):
        return "a user or a password is given, but no sasl: plain, scram-sha-256 or scram-sha-512"
    if options.sasl is not None and not all(login):
        return "sasl needs a user and a password"
    if options.tls is not None and not tls:
        return "tls is given: use kafkas://"
    if options.sasl == "plain" and not (tls or local):
        return "sasl = plain shows the password on the way: use kafkas:// or scram-sha-512"
    return None
