"""Each broker's plain client, as a program without unimsg uses it. Messages have the shape of docs/wire-format.md."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from unimsg_contracts import Harness

from unimsg.adapter import Address, Kind

Message = dict[str, Any]
"""As JSON has it; bodies as text."""


def plain_client(harness: Harness) -> "RabbitClient | KafkaClient | PubSubClient":
    return {"rabbitmq": RabbitClient, "kafka": KafkaClient, "pubsub": PubSubClient}[harness.name](harness)


def url_with_password(harness: Harness) -> str:
    """As it stands in UNIMSG_URL."""
    password = harness.options.get("password")
    if password is None:
        return harness.url
    secret = password.get_secret_value() if hasattr(password, "get_secret_value") else str(password)
    return harness.url.replace("@", f":{secret}@", 1)


class RabbitClient:
    """aio-pika."""

    def __init__(self, harness: Harness) -> None:
        self._url = url_with_password(harness)

    async def put(self, message: Mapping[str, Any]) -> None:
        import aio_pika

        async with self._channel() as channel:
            name = message.get("exchange", "")
            exchange = await channel.get_exchange(name) if name else channel.default_exchange
            made = aio_pika.Message(
                message["body"].encode(), headers=message.get("headers"), **message.get("properties", {})
            )
            await exchange.publish(made, message["routing_key"], mandatory=True)

    async def take(self, address: Address, part: int) -> Message:
        """The first message of a queue, or of one part of an ordered one."""
        name = f"{address.name}..p{part}" if address.ordered else address.name
        arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        async with self._channel() as channel:
            await channel.set_qos(1)
            queue = await channel.get_queue(name)
            await queue.consume(arrived.set_result)  # quorum queues with a single active consumer refuse basic.get
            found = await arrived
            await found.ack()
        names = ("content_type", "correlation_id", "message_id", "type")
        return {
            "exchange": found.exchange,
            "routing_key": found.routing_key,
            "properties": {
                **{name: getattr(found, name) for name in names},
                "delivery_mode": int(found.delivery_mode),
                "timestamp": int(found.timestamp.timestamp()),
            },
            "headers": dict(found.headers),
            "body": found.body.decode(),
        }

    async def open_inbox(self, name: str) -> None:
        """As docs/wire-format.md says, for who asks."""
        arguments = {"x-queue-type": "classic", "x-expires": 600_000}
        async with self._channel() as channel:
            await channel.declare_queue(name, durable=True, arguments=arguments)

    async def take_reply(self, name: str) -> Message:
        return await self.take(Address(name, Kind.INBOX), 0)

    async def close_inbox(self, name: str) -> None:
        async with self._channel() as channel:
            await channel.queue_delete(name)

    @asynccontextmanager
    async def _channel(self):
        import aio_pika

        connection = await aio_pika.connect(self._url)
        async with connection, connection.channel() as channel:
            yield channel


class KafkaClient:
    """aiokafka."""

    def __init__(self, harness: Harness) -> None:
        self._servers = urlsplit(harness.url).netloc

    async def put(self, message: Mapping[str, Any]) -> None:
        from aiokafka import AIOKafkaProducer

        async with AIOKafkaProducer(bootstrap_servers=self._servers) as producer:
            stored = await producer.send_and_wait(
                message["topic"],
                message["value"].encode(),
                key=message["key"].encode() if "key" in message else None,
                headers=[(name, value.encode()) for name, value in message.get("headers", {}).items()],
            )
        assert stored.partition == message.get("partition", stored.partition), "this client partitions differently"

    async def take(self, address: Address, part: int) -> Message:
        """The first record of a topic."""
        from aiokafka import AIOKafkaConsumer

        async with AIOKafkaConsumer(
            address.channel, bootstrap_servers=self._servers, auto_offset_reset="earliest"
        ) as consumer:
            found = await consumer.getone()
        return self._message(found)

    async def open_inbox(self, name: str) -> None:
        """As docs/wire-format.md says, for who asks."""
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        config = {"retention.ms": "600000", "segment.ms": "600000"}
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(self._replies(name), 32, 1, topic_configs=config)])
        finally:
            await admin.close()

    async def take_reply(self, name: str) -> Message:
        from aiokafka import AIOKafkaConsumer

        async with AIOKafkaConsumer(
            self._replies(name), bootstrap_servers=self._servers, auto_offset_reset="earliest"
        ) as consumer:
            async for found in consumer:
                if dict(found.headers).get("unimsg-inbox") == name.encode():
                    return self._message(found)
        raise AssertionError("it has no end")

    async def close_inbox(self, name: str) -> None:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            await admin.delete_topics([self._replies(name)])
        finally:
            await admin.close()

    def _replies(self, inbox: str) -> str:
        return f"{inbox.partition('unimsg.inbox.')[0]}unimsg.replies"

    def _message(self, found: Any) -> Message:
        return {
            "topic": found.topic,
            "partition": found.partition,
            **({"key": found.key.decode()} if found.key is not None else {}),
            "headers": {name: value.decode() for name, value in found.headers},
            "value": found.value.decode(),
        }


class PubSubClient:
    """google-cloud-pubsub."""

    def __init__(self, harness: Harness) -> None:
        parts = urlsplit(harness.url)
        self.project = parts.netloc
        emulator = parse_qs(parts.query).get("emulator")
        self._emulator = emulator[0] if emulator else os.environ["PUBSUB_EMULATOR_HOST"]

    async def put(self, message: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._put, message)

    async def take(self, address: Address, part: int) -> Message:
        """The first message of a queue."""
        return await asyncio.to_thread(self._take, address)

    async def open_inbox(self, name: str) -> None:
        """As docs/wire-format.md says, for who asks."""
        await asyncio.to_thread(self._open_inbox, name)

    async def take_reply(self, name: str) -> Message:
        address = Address(name, Kind.INBOX)
        while True:
            found = await asyncio.to_thread(self._take, address)
            if found["attributes"].get("unimsg-inbox") == name:  # the emulator applies no filter
                return found

    async def close_inbox(self, name: str) -> None:
        from google.cloud import pubsub_v1

        with patch.dict(os.environ, PUBSUB_EMULATOR_HOST=self._emulator):
            client = pubsub_v1.SubscriberClient()
        with client as subscriber:
            subscriber.delete_subscription(subscription=subscriber.subscription_path(self.project, name))

    def _open_inbox(self, name: str) -> None:
        from google.api_core.exceptions import AlreadyExists
        from google.cloud import pubsub_v1

        with patch.dict(os.environ, PUBSUB_EMULATOR_HOST=self._emulator):
            publisher, client = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        topic = publisher.topic_path(self.project, f"{name.partition('unimsg.inbox.')[0]}unimsg.replies")
        with suppress(AlreadyExists):
            publisher.create_topic(name=topic)
        with client as subscriber:
            subscriber.create_subscription(
                request={
                    "name": subscriber.subscription_path(self.project, name),
                    "topic": topic,
                    "filter": f'attributes."unimsg-inbox" = "{name}"',
                    "expiration_policy": {"ttl": timedelta(days=1)},
                }
            )

    def _put(self, message: Mapping[str, Any]) -> None:
        from google.cloud import pubsub_v1

        options = pubsub_v1.types.PublisherOptions(enable_message_ordering="ordering_key" in message)
        with patch.dict(os.environ, PUBSUB_EMULATOR_HOST=self._emulator):
            publisher = pubsub_v1.PublisherClient(publisher_options=options)
        published = publisher.publish(
            message["topic"],
            message["data"].encode(),
            ordering_key=message.get("ordering_key", ""),
            **message.get("attributes", {}),
        )
        published.result(timeout=20)
        publisher.stop()

    def _take(self, address: Address) -> Message:
        from google.cloud import pubsub_v1

        with patch.dict(os.environ, PUBSUB_EMULATOR_HOST=self._emulator):
            client = pubsub_v1.SubscriberClient()
        with client as subscriber:
            name = subscriber.subscription_path(self.project, address.name)
            received = []
            while not received:
                received = subscriber.pull(subscription=name, max_messages=1, timeout=20).received_messages
            subscriber.acknowledge(subscription=name, ack_ids=[received[0].ack_id])
            topic = subscriber.get_subscription(subscription=name).topic
        found = received[0].message
        return {
            "topic": topic,
            "ordering_key": found.ordering_key,
            "attributes": dict(found.attributes),
            "data": found.data.decode(),
        }
