"""Apache Kafka: one node in a container, or the cluster that UNIMSG_TEST_KAFKA_URL names."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]  # no py.typed
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from unimsg_kafka import KafkaOptions
from unimsg_kafka.adapter import KafkaAdapter

from unimsg.adapter import Address, Wanted
from unimsg_contracts.containers import Container, engine_missing, image_of
from unimsg_contracts.harness import Foreign, Harness, Network
from unimsg_contracts.loopback import free_port
from unimsg_contracts.proxy import Proxy

VARIABLE = "UNIMSG_TEST_KAFKA_URL"
IMAGE = "apache/kafka:4.1.1"
DIRECT, PROXIED, LOGIN = 9092, 9094, 9095
"""The container's listeners. A client goes where the broker says that it is, so one of them says: behind the proxy."""
USER = "contracts"
GIVEN: Mapping[str, str] = {
    "restart": f"the broker of {VARIABLE} is not ours to restart",
    "cut": f"the broker of {VARIABLE} sends its clients around any proxy",
    "away": f"the broker of {VARIABLE} sends its clients around any proxy",
    "stall": f"the broker of {VARIABLE} sends its clients around any proxy",
    "password": f"the broker of {VARIABLE} may ask for none",
    "permissions": f"the broker of {VARIABLE} is not ours to change",
    "revoke": f"the broker of {VARIABLE} is not ours to change",
}
SETTINGS: Mapping[str, str] = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": f"DIRECT://0.0.0.0:{DIRECT},PROXIED://0.0.0.0:{PROXIED},LOGIN://0.0.0.0:{LOGIN},"
    "INSIDE://localhost:9096,CONTROLLER://localhost:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,LOGIN:SASL_PLAINTEXT,"
    "INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_SASL_ENABLED_MECHANISMS": "PLAIN",
    "KAFKA_LISTENER_NAME_LOGIN_PLAIN_SASL_JAAS_CONFIG": "org.apache.kafka.common.security.plain.PlainLoginModule "
    f'required user_{USER}="right";',
    "KAFKA_AUTHORIZER_CLASS_NAME": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND": "true",
    "KAFKA_SUPER_USERS": "User:ANONYMOUS",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "8",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "8",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "true",  # what creates a topic by accident must be seen to do so
    "KAFKA_HEAP_OPTS": "-Xmx512M -Xms256M",
}


class KafkaHarness(Harness):
    name = "kafka"
    adapter_type = KafkaAdapter
    patience = 30.0
    recovery = 40.0
    too_large = 2_000_000
    refused_body = b"x" * 60_000
    backstop_limit = 3
    unproved: ClassVar[Mapping[str, str]] = {
        "counts_shutdowns": "on Kafka the deaths of processes count, and shutdowns do not",
        "hand_over": "Kafka gives a partition to others when its receiver closes",
        "declared_order": "order by key is no property of a Kafka topic: only counts of partitions can differ",
        "vhost": "Kafka has none",
    }

    def __init__(self) -> None:
        self._container: Container | None = None
        self._given = os.environ.get(VARIABLE, "")
        self._proxied = free_port()
        self.options = {"session_timeout": 6.0}  # the least that brokers take: a killed process is noticed by it
        self.leftovers = bool(self._given)

    def missing(self) -> str | None:
        return None if self._given else engine_missing()

    def where(self) -> str:
        return VARIABLE if self._given else f"container {image_of('kafka', IMAGE)}"

    def reason_against(self, ability: str) -> str | None:
        if self._given and ability in GIVEN:
            return GIVEN[ability]
        return super().reason_against(ability)

    def start(self) -> None:
        if self._given:
            self.url = self._given
            return
        container = self._container = Container("kafka", image_of("kafka", IMAGE), [DIRECT, PROXIED, LOGIN])
        ports = container.ports
        advertised = f"DIRECT://127.0.0.1:{ports[DIRECT]},PROXIED://127.0.0.1:{self._proxied},LOGIN://127.0.0.1:"
        advertised += f"{ports[LOGIN]},INSIDE://localhost:9096"
        container.start(_ready, {**SETTINGS, "KAFKA_ADVERTISED_LISTENERS": advertised})
        self.url = f"kafka://127.0.0.1:{ports[DIRECT]}"

    def stop(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    async def restart(self) -> None:
        assert self._container is not None
        await asyncio.to_thread(self._container.restart, _ready)

    @asynccontextmanager
    async def network(self) -> AsyncIterator[Network]:
        if self._container is None:  # only to a broker that sends nobody around it: enough for a first connection
            host, _, port = urlsplit(self.url).netloc.rpartition("@")[2].split(",")[0].partition(":")
            target, listen = (host, int(port or DIRECT)), 0
        else:
            target, listen = ("127.0.0.1", self._container.ports[PROXIED]), self._proxied
        async with Proxy(*target, listen=listen) as proxy:
            proxy.url = self.at("127.0.0.1", proxy.port)
            yield proxy

    def at(self, host: str, port: int, *, tls: bool = False) -> str:
        return urlunsplit(urlsplit(self.url)._replace(scheme="kafkas" if tls else "kafka", netloc=f"{host}:{port}"))

    def secret(self, password: str) -> Mapping[str, object]:
        return {"username": USER, "password": password, "sasl": "scram-sha-256"}

    def with_password(self, password: str) -> tuple[str, Mapping[str, object]]:
        assert self._container is not None
        options = {"username": USER, "password": password, "sasl": "plain"}
        return self.at("127.0.0.1", self._container.ports[LOGIN]), options

    async def forbid(self, address: Address) -> tuple[str, Mapping[str, object]]:
        rule = ("--deny-principal", f"User:{USER}", "--operation", "All", "--topic", address.channel)
        await self._permit("--add", *rule, "--group", address.name)
        return self.with_password("right")

    async def revoke(self, address: Address) -> tuple[str, Mapping[str, object]]:
        """Where there is a rule for a topic, nothing else is allowed there."""
        rule = [part for operation in ("Read", "Describe", "DescribeConfigs") for part in ("--operation", operation)]
        await self._permit("--add", "--allow-principal", f"User:{USER}", *rule, "--topic", address.channel)
        return self.with_password("right")

    async def grant(self, address: Address) -> None:
        await self._permit("--remove", "--force", "--topic", address.channel)

    async def _permit(self, *rule: str) -> None:
        assert self._container is not None
        script = ("/opt/kafka/bin/kafka-acls.sh", "--bootstrap-server", "localhost:9096")
        await asyncio.to_thread(self._container.run, *script, *rule)

    def refusing(self) -> Wanted:
        return Wanted(options=KafkaOptions(config={"max.message.bytes": "20000"}))

    @asynccontextmanager
    async def full(self, address: Address) -> AsyncIterator[None]:
        """Kafka's topics are never full: it takes no record, however small, which is as final an answer."""
        await self._limit(address, 1)
        yield
        await self._limit(address, 1_100_000)

    async def _limit(self, address: Address, size: int) -> None:
        configs = {"max.message.bytes": str(size), "retention.ms": "-1"}  # all that differs from the broker's own
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, address.channel, configs=configs)])
        finally:
            await admin.close()

    def backstop(self, limit: int) -> Mapping[str, Any]:
        return {"kafka": {"delivery_limit": limit}}

    async def delete(self, address: Address) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            await admin.delete_topics([address.channel])
            while address.channel in await admin.list_topics():  # noqa: ASYNC110  # a broker sets no event
                await asyncio.sleep(0.05)
        finally:
            await admin.close()

    async def sweep(self, address: Address) -> None:
        """The topic goes with all that is named after it. Kafka may take its time: nobody uses the names again."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            names = await admin.list_topics()
            await admin.delete_topics([name for name in names if _is_of(name, address)])
        finally:
            await admin.close()

    async def put(self, address: Address, message: Foreign) -> None:
        headers = [(name, value.encode()) for name, value in message.attributes.items()]
        if message.content_type is not None:
            headers.append(("content-type", message.content_type.encode()))
        await self._produce(address, message.body, headers)

    async def put_odd(self, address: Address) -> None:
        headers = [("twice", b"1"), ("twice", b"2"), ("", b"no name"), ("bytes", b"\xff\xfe"), ("null", None)]
        await self._produce(address, None, [*headers, ("ce_id", b"\xff")], key=b"\xff\x00")

    async def read(self, address: Address, count: int) -> list[Foreign]:
        """From the beginning of the topic, whatever its groups have read."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._servers, auto_offset_reset="earliest", group_id=None)
        await consumer.start()
        try:
            partitions = await consumer._client._wait_on_metadata(address.channel)
            consumer.assign([TopicPartition(address.channel, partition) for partition in partitions])
            found: list[Foreign] = []
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [_foreign(record) for record in records]
            return found
        finally:
            await consumer.stop()

    # Any: what aiokafka, which is untyped, takes as headers.
    async def _produce(self, address: Address, body: bytes | None, headers: Any, key: bytes | None = None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._servers, acks="all")
        await producer.start()
        try:
            await producer.send_and_wait(address.channel, body, key=key, headers=headers)
        finally:
            await producer.stop()

    @property
    def _servers(self) -> list[str]:
        return urlsplit(self.url).netloc.rpartition("@")[2].split(",")


def _foreign(record: Any) -> Foreign:  # aiokafka's ConsumerRecord, untyped
    headers = {name: value.decode() for name, value in record.headers}
    key = record.key.decode() if record.key is not None else None
    return Foreign(record.value, headers, key, headers.pop("content-type", None))


def _ready(container: Container) -> bool:
    script = "/opt/kafka/bin/kafka-broker-api-versions.sh"
    return container.answers(DIRECT) and container.succeeds(script, "--bootstrap-server", "localhost:9096")


def _is_of(topic: str, address: Address) -> bool:
    return topic.startswith(f"{address.name}..") or (address.subscription is None and topic == address.channel)
