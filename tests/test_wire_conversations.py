"""docs/wire-format.md says what requests and replies look like on each broker: another program may take either side."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pages import blocks
from plain_clients import KafkaClient, Message, PubSubClient, RabbitClient, plain_client
from unimsg_contracts import Harness

import unimsg
from unimsg.adapter import Address, Kind, Wanted
from unimsg.keys import partition_of

PAGE = "docs/wire-format.md"
MESSAGES: dict[tuple[str, str], Message] = {
    (words[1], words[2]): json.loads(block.text)
    for block in blocks(PAGE, "json")
    if len(words := block.language.split()) == 3
}
(FAILURE,) = [json.loads(block.text) for block in blocks(PAGE, "json") if block.language == "json failure"]
TIME, DEADLINE, SECONDS = "<time>", "<deadline>", "<seconds>"
ATTRIBUTES = {"rabbitmq": "cloudEvents:", "kafka": "ce_", "pubsub": "ce-"}
REPLY_PARTITIONS = 32


def headers_of(message: Message) -> Mapping[str, str]:
    headers: Mapping[str, str] = message["attributes" if "attributes" in message else "headers"]
    return headers


@dataclass(frozen=True)
class Place:
    """One broker, and a part of its names that is this test's own."""

    harness: Harness
    client: RabbitClient | KafkaClient | PubSubClient
    settings: unimsg.Settings

    @property
    def attribute(self) -> str:
        return ATTRIBUTES[self.harness.name]

    @property
    def request(self) -> Message:
        """As the page has it."""
        return MESSAGES[self.harness.name, "request"]

    @property
    def reply(self) -> Message:
        return MESSAGES[self.harness.name, "reply"]

    @property
    def id(self) -> str:
        """Of the request on the page."""
        return headers_of(self.request)[f"{self.attribute}id"]

    @property
    def inbox(self) -> str:
        """The one on the page, as it is here."""
        return self.settings.prefix + headers_of(self.request)[f"{self.attribute}replyto"]

    @property
    def project(self) -> str:
        return getattr(self.client, "project", "")

    def real(self, message: Message) -> Message:
        """A message of the page, as it is here: names on the broker have the prefix, return addresses have none."""
        inbox = headers_of(self.request)[f"{self.attribute}replyto"]
        now = datetime.now(UTC)
        text = json.dumps(message).replace(f'"{SECONDS}"', str(int(now.timestamp())))
        text = text.replace(TIME, timestamp(now)).replace(DEADLINE, timestamp(now + timedelta(seconds=30)))
        text = text.replace("projects/local/topics/", f"projects/{self.project}/topics/{self.settings.prefix}")
        text = re.sub(r'"(routing_key|topic)": "(?!projects)', rf'"\1": "{self.settings.prefix}', text)
        for field in ("key", "unimsg-inbox"):
            text = text.replace(f'"{field}": "{inbox}"', f'"{field}": "{self.inbox}"')
        made: Message = json.loads(text)
        if "partition" in made:
            made["partition"] = partition_of(self.inbox, REPLY_PARTITIONS)
        return made

    def documented(self, message: Message) -> Message:
        """A message that travelled here, as it stands on the page."""
        text = json.dumps(message).replace(self.settings.prefix, "")
        text = text.replace(f"projects/{self.project}/", "projects/local/")
        moment = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"'
        text = re.sub(rf'(expirytime": "){moment}', rf'\1{DEADLINE}"', text)
        text = re.sub(rf'"{moment}', f'"{TIME}"', text)
        shown: Message = json.loads(re.sub(r'(?<="timestamp": )\d{10}(?=[,}])', f'"{SECONDS}"', text))
        return shown


def timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
async def place(harness: Harness) -> AsyncIterator[Place]:
    if harness.name not in ATTRIBUTES:
        pytest.skip("nothing travels in memory")
    settings = unimsg.Settings(
        prefix=f"wire.{secrets.token_hex(4)}.", brokers={"default": {"url": harness.url, **harness.options}}
    )
    yield Place(harness, plain_client(harness), settings)
    if harness.leftovers:
        await harness.delete(address(settings))
        if harness.name != "rabbitmq":
            await harness.delete(Address(f"{settings.prefix}unimsg.replies", Kind.QUEUE))


def address(settings: unimsg.Settings) -> Address:
    return Address(f"{settings.prefix}orders.quote", Kind.QUEUE)


@pytest.fixture
def program() -> SimpleNamespace:
    """What the page's programs declare."""
    names: dict[str, Any] = {"__name__": "the_programs_in_the_page"}
    for block in blocks(PAGE, "python"):
        exec(block.text, names)
    return SimpleNamespace(**names)


async def test_another_program_can_answer(place: Place, program: SimpleNamespace) -> None:
    adapter = place.harness.adapter()
    await adapter.connect(timeout=20)
    await adapter.ensure(address(place.settings), Wanted(), timeout=20)  # else the plain client has nothing to read
    async with asyncio.timeout(40), unimsg.connect(settings=place.settings) as bus:
        asking = asyncio.create_task(program.ask(bus))
        found = await place.client.take(address(place.settings), 0)
        found.pop("partition", None)  # any
        id, inbox = (headers_of(found)[f"{place.attribute}{name}"] for name in ("id", "replyto"))
        page_inbox = headers_of(place.request)[f"{place.attribute}replyto"]
        text = json.dumps(place.documented(found)).replace(id, place.id).replace(inbox, page_inbox)
        assert json.loads(text) == place.request

        text = json.dumps(place.real(place.reply)).replace(place.id, id).replace(page_inbox, inbox)
        reply = json.loads(text)
        if "partition" in reply:
            reply["partition"] = partition_of(place.settings.prefix + inbox, REPLY_PARTITIONS)
        await place.client.put(reply)
        assert await asking == program.Quote(1485)
    await adapter.aclose(timeout=5)


async def test_another_program_can_ask(place: Place, program: SimpleNamespace) -> None:
    await place.client.open_inbox(place.inbox)
    try:
        async with asyncio.timeout(40), unimsg.connect(program.pricing, settings=place.settings):
            await place.client.put(place.real(place.request))
            found = await place.client.take_reply(place.inbox)
        if "partition" in found:
            assert found["partition"] == partition_of(place.inbox, REPLY_PARTITIONS)
            inbox = place.inbox.removeprefix(place.settings.prefix)
            found["partition"] = partition_of(inbox, REPLY_PARTITIONS)
        assert place.documented(found) == place.reply
    finally:
        await place.client.close_inbox(place.inbox)


async def test_another_program_is_told_of_a_failure(place: Place, program: SimpleNamespace) -> None:
    await place.client.open_inbox(place.inbox)
    try:
        async with asyncio.timeout(40), unimsg.connect(program.pricing, settings=place.settings):
            text = json.dumps(place.real(place.request)).replace("1650", "0")
            await place.client.put(json.loads(text))
            found = await place.client.take_reply(place.inbox)
        headers = {"content-type": found.get("properties", {}).get("content_type"), **headers_of(found)}
        body = next(found[field] for field in ("body", "value", "data") if field in found)
        said = {"type": headers[f"{place.attribute}type"], "content-type": headers["content-type"], "body": body}
        assert said == FAILURE
        assert headers[f"{place.attribute}causationid"] == place.id
    finally:
        await place.client.close_inbox(place.inbox)


def test_each_broker_has_its_examples() -> None:
    assert MESSAGES.keys() == {(broker, what) for broker in ATTRIBUTES for what in ("request", "reply")}
