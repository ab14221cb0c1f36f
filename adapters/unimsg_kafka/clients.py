"""aiokafka's clients of one cluster: made alike, kept from creating topics, and ended within a time."""

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from typing import Any

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.conn import create_conn  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from aiokafka.protocol.group import LeaveGroupRequest  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from unimsg.errors import ConnectError
from unimsg.network import speaks_tls, tls_context
from unimsg_kafka.errors import UNREACHABLE, connect_error
from unimsg_kafka.options import KafkaBrokerOptions

Server = tuple[str, int]
REQUEST_TIMEOUT = 30.0
"""Seconds for one answer. Longer than the deadline of a usual send, because aiokafka fails a batch that is older than
this while its partition has no leader."""
FETCHING: dict[str, Any] = {"fetch_max_wait_ms": 100, "fetch_max_bytes": 16 * 1024 * 1024}  # aiokafka's arguments
"""A partition that is resumed waits for the fetch under way: a short wait keeps that short."""
METADATA_AGE = 10.0
"""Seconds after which a client looks again for topics, partitions and leaders: deleted topics are seen by it."""


def _shows_no_login(record: logging.LogRecord) -> bool:
    """At DEBUG aiokafka logs every request, and one of them is the password."""
    return not any(type(part).__name__.startswith("SaslAuthenticate") for part in record.args or ())


logging.getLogger("aiokafka.conn").addFilter(_shows_no_login)


class Clients:
    """Makes clients with one set of addresses and credentials."""

    def __init__(self, servers: Sequence[Server], options: KafkaBrokerOptions, *, tls: bool) -> None:
        self._servers = servers
        self._sasl = options.sasl
        self._security: dict[str, Any] = {  # Any: aiokafka's keyword arguments, of several types
            "security_protocol": ("SASL_" if options.sasl else "") + ("SSL" if tls else "PLAINTEXT"),
            "ssl_context": tls_context("kafkas://", options.tls) if tls else None,
        }
        if options.sasl and options.password:
            self._security |= {
                "sasl_mechanism": options.sasl.upper(),
                "sasl_plain_username": options.username,
                "sasl_plain_password": options.password.get_secret_value(),
            }
        self._common = self._security | {
            "bootstrap_servers": [_text(server) for server in servers],
            "request_timeout_ms": int(REQUEST_TIMEOUT * 1000),
            "metadata_max_age_ms": int(METADATA_AGE * 1000),
        }

    def producer(self, **settings: object) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._common, enable_idempotence=True, **settings)
        _create_no_topics(producer.client)
        return producer

    def consumer(self, **settings: object) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(**self._common, enable_auto_commit=False, **settings)
        _create_no_topics(consumer._client)
        return consumer

    def admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(**self._common)
        _create_no_topics(admin._client)
        return admin

    async def probe(self, timeout: float) -> None:
        """Looks whether a server of the list and the brokers that it names can be used. aiokafka's own clients have
        one text for every cause.

        Raises:
            ConnectError, AuthenticationError: why the first server of the list cannot be used.
        """
        failures: list[ConnectError] = []
        each = timeout / len(self._servers)
        for server in self._servers:
            try:
                async with asyncio.timeout(each):
                    brokers = await self._look(server)
                    for broker in brokers - {server}:
                        await self._look(broker, f"the address that {_text(server)} advertises")
            except ConnectError as error:
                failures.append(error)
            except TimeoutError:
                failures.append(ConnectError(f"kafka: {_text(server)}: no answer in {each:g} s", reason="timeout"))
            else:
                # Clients try them in this order, and a dead first one costs each new client its whole timeout.
                servers = sorted(self._servers, key=lambda other: other != server)
                self._common["bootstrap_servers"] = [_text(other) for other in servers]
                return
        raise failures[0]

    async def _look(self, server: Server, why: str = "") -> set[Server]:
        """The brokers that a server names."""
        connection = None
        try:
            connection = await create_conn(*server, **self._security)
            # A listener that wants a login answers the look for versions and closes at the first real request.
            reply = await connection.send(MetadataRequest([]))
        except (*UNREACHABLE, EOFError, ValueError, AssertionError) as error:  # the last three: no Kafka on that port
            tls, greeted = self._security["ssl_context"] is not None, connection is not None
            tls_behind = not (tls or greeted or isinstance(error, OSError)) and await speaks_tls(*server, within=2.0)
            where = _text(server) + (f" ({why})" if why else "")
            raise connect_error(
                error, where, sasl=self._sasl, tls=tls, tls_behind=tls_behind, greeted=greeted
            ) from error
        finally:
            if connection is not None:
                connection.close()
        return {(str(broker[1]), int(broker[2])) for broker in reply.brokers}


async def stop_producer(producer: AIOKafkaProducer, timeout: float) -> None:
    """Flushes and closes within `timeout` seconds; what is unanswered then is given up. `stop()` alone waits for its
    batches without end."""
    if not await _ends(producer.stop(), timeout):
        await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Ends a producer that cannot flush. The sender goes first: it would connect and send again. Its requests fail with
    their connections, and what then waits for metadata is let go."""
    sender, client = producer._sender, producer.client
    if sender.sender_task is not None:
        sender.sender_task.cancel()
    await close_client(client)
    if client._md_update_fut is not None and not client._md_update_fut.done():
        client._md_update_fut.set_result(False)
    if sender.sender_task is not None:
        await asyncio.wait([sender.sender_task], timeout=1.0)
        sender.sender_task.cancel()
    for partition in list(producer._message_accumulator._batches):
        withdraw(producer, partition, KafkaError("the producer is closed"))
    producer._message_accumulator.fail_all(KafkaError("the producer is closed"))
    await close_client(client)


async def close_client(client: AIOKafkaClient) -> None:
    """Closes its connections; does not wait long for what a peer that is gone would have to take first."""
    await _ends(client.close(), 1.0)


def withdraw(
    producer: AIOKafkaProducer, partition: TopicPartition, error: KafkaError, *, unsent: KafkaError | None = None
) -> None:
    """Takes the batch of a partition back from a producer that waits to send it, as aiokafka does with one that has
    expired; does nothing while it is under way. `unsent`: the error instead, for a batch that was never sent."""
    accumulator = producer._message_accumulator
    if waiting := accumulator._batches.get(partition):
        never_sent = waiting[0].retry_count == 0
        accumulator._pop_batch(partition).failure(unsent if unsent and never_sent else error)


async def stop_consumer(consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, timeout: float) -> None:
    """Leaves the group and closes within `timeout` seconds. `stop()` alone waits for a rebalance, and so for the
    handlers of all other members."""
    if await _ends(consumer.stop(), timeout):
        return
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    if getattr(coordinator, "member_id", None):
        # On another connection: the broker answers nothing on this one before the rebalance is over.
        await _ends(_leave(admin, coordinator.group_id, coordinator.member_id), min(1.0, timeout))
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    tasks = [task for name in names if (task := getattr(coordinator, name, None)) is not None]
    for task in tasks:
        task.cancel()
    if fetcher is not None and not fetcher._closed:
        await _ends(fetcher.close(), 1.0)
    await close_client(consumer._client)
    if tasks:
        await asyncio.wait(tasks, timeout=1.0)


async def _leave(admin: AIOKafkaAdminClient, group: str, member_id: str) -> None:
    await admin._send_request(LeaveGroupRequest(group, member_id), await admin.find_coordinator(group))


async def _ends(work: Coroutine[Any, Any, object], timeout: float) -> bool:  # Any: what nobody sends or gets
    """Whether it ends well within `timeout` seconds. It runs in a task of its own, because aiokafka lets out the
    cancellations with which it ends its inner tasks."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task], timeout=timeout)
    finally:
        in_time = task.done()
        task.cancel()
    if not in_time:
        await asyncio.wait([task], timeout=1.0)
    failed = task.done() and (task.cancelled() or task.exception() is not None)
    return in_time and not failed


def _create_no_topics(client: AIOKafkaClient) -> None:
    """Makes the client's metadata requests say that the broker must not create what they name. aiokafka has no setting
    for it, and every client asks for its topics again and again, also after one was deleted."""

    async def update(cluster: Any, topics: Any) -> bool:  # Any: aiokafka is untyped
        request = MetadataRequest(None if topics is None else list(topics), allow_auto_topic_creation=False)
        nodes = [broker.nodeId for broker in client.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes:
            connection = await client._get_conn(node)
            if connection is None:
                continue
            try:
                reply = await connection.send(request)
            except UNREACHABLE:
                continue
            if reply.brokers:
                cluster.update_metadata(reply)
                return True
        return False

    client._metadata_update = update


def _text(server: Server) -> str:
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
