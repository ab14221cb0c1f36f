"""Google Cloud Pub/Sub: the emulator in a container, or the one that UNIMSG_TEST_PUBSUB_URL names."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from google.api_core.exceptions import DeadlineExceeded, NotFound
from google.pubsub_v1 import PublisherAsyncClient, PubsubMessage, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from unimsg_pubsub.adapter import PubSubAdapter

from unimsg.adapter import Address, Kind
from unimsg_contracts.containers import Container, engine_missing, image_of
from unimsg_contracts.harness import Foreign, Harness, Network
from unimsg_contracts.loopback import certificate
from unimsg_contracts.proxy import Proxy

VARIABLE = "UNIMSG_TEST_PUBSUB_URL"
IMAGE = "gcr.io/google.com/cloudsdktool/google-cloud-cli:emulators"
PROJECT = "local"
PORT = 8085
NEVER_FULL = "nothing makes the emulator refuse some messages of a topic"
DEAD_STREAMS = "the emulator goes on giving messages to a lost stream, 10 s each, for up to 70 s"
HAND_OVER = "the emulator gives later messages of a key to others while it still holds earlier ones; service unproved"


class PubSubHarness(Harness):
    name = "pubsub"
    adapter_type = PubSubAdapter
    patience = 20.0
    recovery = 25.0
    lease = 10.0
    too_large = 10_000_001
    unproved: ClassVar[Mapping[str, str]] = {
        "cut_order": "the emulator keeps the keys of a lost stream for longer than 150 s; service unproved",
        "fair_counts": "the emulator ignores prefetch, and lost streams count on: all they held, every 10 s",
        "leave_order": HAND_OVER,
        "partitions": "Pub/Sub orders each key by itself, whatever count of partitions is declared",
        "password": "the emulator asks for none",
        "racing": "the emulator lets several creations of one subscription succeed, each undoing the last",
        "full": NEVER_FULL,
        "refuse": NEVER_FULL,
        "revoke": "the emulator has no permissions",
        "permissions": "the emulator has none",
        "restart": "the emulator keeps everything in memory: a restart forgets it",
        "vhost": "Pub/Sub has none",
    }
    slow: ClassVar[Mapping[str, str]] = {"cut": DEAD_STREAMS, "kill": DEAD_STREAMS}

    def __init__(self) -> None:
        self._container: Container | None = None
        self._given = os.environ.get(VARIABLE, "")
        self.leftovers = bool(self._given)

    def missing(self) -> str | None:
        return None if self._given else engine_missing()

    def where(self) -> str:
        return VARIABLE if self._given else f"emulator, container {image_of('pubsub', IMAGE)}"

    def start(self) -> None:
        if self._given:
            self.url = self._given
            return
        command = f"gcloud beta emulators pubsub start --project={PROJECT} --host-port=0.0.0.0:{PORT}"
        self._container = Container("pubsub", image_of("pubsub", IMAGE), [PORT], command=command)
        self._container.start(_ready)
        self.url = f"pubsub://{PROJECT}?emulator=127.0.0.1:{self._container.ports[PORT]}"

    def stop(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    @asynccontextmanager
    async def network(self) -> AsyncIterator[Network]:
        host, _, port = self._emulator.rpartition(":")
        async with Proxy(host, int(port)) as proxy:
            proxy.url = self.at("127.0.0.1", proxy.port)
            yield proxy

    def at(self, host: str, port: int, *, tls: bool = False) -> str:
        """The emulator is always spoken to in plain text, the service always in TLS."""
        parts = urlsplit(self.url)
        query = {name: value for name, value in parse_qsl(parts.query) if name != "emulator"}
        if tls:
            query |= {"endpoint": f"{host}:{port}", "credentials_file": str(_credentials())}
        else:
            query |= {"emulator": f"{host}:{port}"}
        return urlunsplit(parts._replace(query=urlencode(query)))

    def backstop(self, limit: int) -> Mapping[str, Any]:
        return {"pubsub": {"delivery_limit": limit}}

    async def delete(self, address: Address) -> None:
        async with self._clients() as (publisher, subscriber):
            if address.kind is Kind.TOPIC and address.subscription is None:
                await _if_there(publisher.delete_topic(topic=self._path("topics", address.channel), timeout=10.0))
                return
            path = self._path("subscriptions", address.name)
            await _if_there(subscriber.delete_subscription(subscription=path, timeout=10.0))
            if address.kind is Kind.QUEUE:
                await _if_there(publisher.delete_topic(topic=self._path("topics", address.channel), timeout=10.0))

    async def sweep(self, address: Address) -> None:
        await self.delete(address)
        project = f"projects/{urlsplit(self.url).netloc}"
        async with self._clients() as (publisher, subscriber):
            subscriptions = [found.name async for found in await subscriber.list_subscriptions(project=project)]
            for path in subscriptions:
                if path.startswith(self._path("subscriptions", f"{address.name}..")):
                    await _if_there(subscriber.delete_subscription(subscription=path, timeout=10.0))
            topics = [found.name async for found in await publisher.list_topics(project=project)]
            for path in topics:
                if path.startswith(self._path("topics", f"{address.name}..")):
                    await _if_there(publisher.delete_topic(topic=path, timeout=10.0))

    async def put(self, address: Address, message: Foreign) -> None:
        attributes = dict(message.attributes)
        if message.content_type is not None:
            attributes["content-type"] = message.content_type
        await self._publish(address, PubsubMessage(data=message.body, attributes=attributes))

    async def put_odd(self, address: Address) -> None:
        """Attributes are text by the protocol; the emulator takes names and sizes that the service would refuse."""
        attributes = {"": "no name", "goog-odd": "reserved", "long": "x" * 5000, "ce-id": "", "ce-time": "yesterday"}
        await self._publish(address, PubsubMessage(data=b"odd", attributes=attributes))

    async def read(self, address: Address, count: int) -> list[Foreign]:
        found: list[Foreign] = []
        path = self._path("subscriptions", address.name)
        async with self._clients() as (_, subscriber):
            while len(found) < count:
                try:
                    pulled = await subscriber.pull(subscription=path, max_messages=count, retry=None, timeout=5.0)
                except DeadlineExceeded:
                    continue
                for got in pulled.received_messages:
                    attributes = dict(got.message.attributes)
                    content_type = attributes.pop("content-type", None)
                    key = got.message.ordering_key or None
                    found.append(Foreign(got.message.data, attributes, key, content_type))
                if ack_ids := [got.ack_id for got in pulled.received_messages]:
                    await subscriber.acknowledge(subscription=path, ack_ids=ack_ids, timeout=5.0)
        return found

    async def _publish(self, address: Address, message: PubsubMessage) -> None:
        async with self._clients() as (publisher, _):
            await publisher.publish(topic=self._path("topics", address.channel), messages=[message], timeout=10.0)

    @property
    def _emulator(self) -> str:
        return dict(parse_qsl(urlsplit(self.url).query)).get("emulator") or os.environ["PUBSUB_EMULATOR_HOST"]

    def _path(self, collection: str, name: str) -> str:
        return f"projects/{urlsplit(self.url).netloc}/{collection}/{name}"

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[tuple[PublisherAsyncClient, SubscriberAsyncClient]]:
        """The plain clients."""
        async with grpc.aio.insecure_channel(self._emulator) as channel:
            yield (
                PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel)),
                SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel)),
            )


async def _if_there(deletion: Any) -> None:  # what the generated client returns: an awaitable without a type
    with suppress(NotFound):
        await deletion


def _ready(container: Container) -> bool:
    """Asked from inside: outside, Docker itself takes connections before the emulator does."""
    return container.succeeds("bash", "-c", f"</dev/tcp/127.0.0.1/{PORT}")


def _credentials() -> Path:
    """Of a service account that exists nowhere: enough to begin to speak TLS."""
    pem = certificate()
    path = pem.with_name("nobody.json")
    key = pem.read_text().partition("-----BEGIN CERTIFICATE")[0]
    account = {"type": "service_account", "private_key": key, "client_email": "nobody@example.invalid"}
    path.write_text(json.dumps({**account, "private_key_id": "none", "token_uri": "http://127.0.0.1:1/none"}))
    return path
