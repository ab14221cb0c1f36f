"""docs/wire-format.md says what really travels, in both directions, on each broker."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pages import ROOT, blocks
from plain_clients import KafkaClient, Message, PubSubClient, RabbitClient, plain_client
from unimsg_contracts import Harness

import unimsg
from unimsg._message import Message as Received
from unimsg.adapter import Address, Kind, Wanted
from unimsg.keys import partition_of

PAGE = "docs/wire-format.md"
EXAMPLES: dict[str, Message] = {
    words[1]: json.loads(block.text)
    for block in blocks(PAGE, "json")
    if len(words := block.language.split()) == 2 and words[1] != "failure"
}
TIME, SECONDS = "<time>", "<seconds>"
PARTITIONS = 8


@dataclass(frozen=True)
class Place:
    """One broker, and a part of its names that is this test's own."""

    harness: Harness
    client: RabbitClient | KafkaClient | PubSubClient
    settings: unimsg.Settings
    example: Message

    def real(self, message: Message) -> Message:
        """A message of the page, as it is here."""
        text = json.dumps(message).replace(TIME, "2026-11-24T08:00:00.125Z").replace(f'"{SECONDS}"', "1795507200")
        text = text.replace("projects/local/", f"projects/{self.project}/")
        return json.loads(re.sub(r"(?=billing\.charge|orders\.place)", self.prefix, text))

    def documented(self, message: Message) -> Message:
        """A message that travelled here, as it stands on the page."""
        text = json.dumps(message).replace(self.prefix, "").replace(f"projects/{self.project}/", "projects/local/")
        text = re.sub(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"', f'"{TIME}"', text)
        return json.loads(re.sub(r'(?<="timestamp": )\d{10}(?=[,}])', f'"{SECONDS}"', text))

    @property
    def prefix(self) -> str:
        return self.settings.prefix

    @property
    def project(self) -> str:
        return getattr(self.client, "project", "")


@pytest.fixture
async def place(harness: Harness) -> AsyncIterator[Place]:
    if harness.name not in EXAMPLES:
        pytest.skip("nothing travels in memory")
    settings = unimsg.Settings(
        prefix=f"wire.{secrets.token_hex(4)}.", brokers={"default": {"url": harness.url, **harness.options}}
    )
    yield Place(harness, plain_client(harness), settings, EXAMPLES[harness.name])
    if harness.leftovers:
        for name in ("billing.charge", "orders.place"):
            await harness.delete(address(settings, name))


def address(settings: unimsg.Settings, name: str) -> Address:
    ordered = name == "billing.charge"
    return Address(f"{settings.prefix}{name}", Kind.QUEUE, partitions=PARTITIONS if ordered else 0)


@pytest.fixture
def program() -> SimpleNamespace:
    """What the page's program declares."""
    block = blocks(PAGE, "python")[0]
    names: dict[str, Any] = {"__name__": "the_program_in_the_page"}
    exec(block.text, names)
    return SimpleNamespace(**names)


async def test_what_unimsg_sends_is_as_documented(place: Place, program: SimpleNamespace) -> None:
    charge = address(place.settings, "billing.charge")
    adapter = place.harness.adapter()
    await adapter.connect(timeout=20)
    await adapter.ensure(charge, Wanted(), timeout=20)
    async with asyncio.timeout(40), unimsg.connect(program.service, settings=place.settings) as bus:
        await program.send_the_first(bus)
        found = await place.client.take(charge, partition_of("A-17", PARTITIONS))
    await adapter.aclose(timeout=5)
    assert place.documented(found) == place.example


async def test_what_others_send_as_documented_arrives(place: Place, program: SimpleNamespace) -> None:
    async with asyncio.timeout(40), receiving(program.charge, place.settings) as received:
        await place.client.put(place.real(place.example))
        message = await received
    assert message.body == program.Charge("A-17", 1650)
    assert (message.id, message.type, message.kind) == (message_id(), "com.acme.charge.v1", "command")
    assert (message.source, message.key, message.headers) == ("orders", "A-17", {"tenant": "north"})
    assert message.content_type == "application/json"
    assert (message.conversation_id, message.causation_id) == ("place-17", "place-17")
    assert message.time == datetime(2026, 11, 24, 8, 0, 0, 125_000, tzinfo=UTC)


async def test_a_body_alone_arrives(place: Place, program: SimpleNamespace) -> None:
    smallest = {
        "rabbitmq": {"routing_key": "orders.place", "body": '{"order":"B-1","cents":5}'},
        "kafka": {"topic": "orders.place", "value": '{"order":"B-1","cents":5}'},
        "pubsub": {"topic": "projects/local/topics/orders.place", "data": '{"order":"B-1","cents":5}'},
    }[place.harness.name]
    async with asyncio.timeout(40), receiving(program.place, place.settings) as received:
        await place.client.put(place.real(smallest))
        message = await received
    assert message.body == program.Order("B-1", 5)
    assert (message.type, message.kind, message.source, message.key) == ("orders.place", "command", "", None)
    assert message.headers == {}
    assert message.id
    assert message.conversation_id == message.id


class receiving:  # noqa: N801  # used as a function
    """A service that handles a channel; the block gets a future of the first message."""

    def __init__(self, channel: unimsg.Queue[Any], settings: unimsg.Settings) -> None:
        self._received: asyncio.Future[Received[Any]] = asyncio.get_running_loop().create_future()
        service = unimsg.Service("billing")
        service.handler(channel)(self._handle)
        self._running = unimsg.connect(service, settings=settings)

    async def _handle(self, body: Any, context: unimsg.Context) -> None:
        if not self._received.done():
            self._received.set_result(context.message)

    async def __aenter__(self) -> asyncio.Future[Received[Any]]:
        await self._running.__aenter__()
        return self._received

    async def __aexit__(self, *exc: Any) -> None:
        await self._running.__aexit__(*exc)


def message_id() -> str:
    return EXAMPLES["kafka"]["headers"]["ce_id"]


def test_each_broker_has_its_example() -> None:
    assert EXAMPLES.keys() == {"rabbitmq", "kafka", "pubsub"}


def test_the_partitions_of_keys_are_as_documented() -> None:
    rows = re.findall(r"^\| `(\S+)` \| \d+ \| (\d+) \| (\d+) \|$", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert len(rows) >= 3
    for key, of_8, of_12 in rows:
        assert (partition_of(key, 8), partition_of(key, 12)) == (int(of_8), int(of_12)), key


async def test_names_that_are_not_the_users_are_refused_as_documented(program: SimpleNamespace) -> None:
    (row,) = re.findall(r"^\| names \| (.*) \|$", (ROOT / PAGE).read_text(), re.MULTILINE)
    reserved = [name.replace("*", "name") for name in re.findall(r"`([^`]+)`", row)[1:]]
    assert len(reserved) == 9
    async with unimsg.connect(settings=unimsg.Settings(url="memory://")) as bus:
        for name in reserved:
            with pytest.raises(unimsg.EncodeError, match="reserved"):
                await bus.send(program.place, program.Order("A-17", 1650), headers={name: "value"})


@pytest.mark.parametrize(
    ("body", "value", "content_type"),
    [
        (int, 7, "application/json"),
        (str, "seven", "text/plain; charset=utf-8"),
        (bytes, b"\x07", "application/octet-stream"),
    ],
)
def test_content_types_are_as_documented(body: Any, value: Any, content_type: str) -> None:
    assert unimsg.Queue("any.channel", body).encode(value)[1] == content_type
    assert f"`{content_type}`" in (ROOT / PAGE).read_text()
