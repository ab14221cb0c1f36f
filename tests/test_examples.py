"""The food delivery runs as README says: unchanged on each broker, in one process and as several."""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
from pages import ROOT
from plain_clients import Message, plain_client, url_with_password
from unimsg_contracts import Harness
from waiting import until

from unimsg.adapter import Address, Kind, Wanted
from unimsg.keys import partition_of

COMMAND = (sys.executable, "-W", "error", "-m", "examples.food_delivery")
PARTITIONS = 8
QUEUES = (
    "food.refund-order",
    "food.deliver-goods",
    "food.how-long",
    "food.collect-payment",
    "unimsg.reply.food.payments",
    "unimsg.replies",  # what inboxes share, where they share
)
TOPICS = {
    "food.order-placed": ("kitchen", "bike", "car"),
    "food.delivery-wanted": ("bike", "car"),
    "food.order-updates": ("customers",),
}

ACCEPTED = Counter({"orders accepted": 6, "orders refused": 1})
PAID = Counter({"orders paid": 5, "orders refused": 1})
"""Of the accepted ones: the customer of one has not enough."""
KITCHEN = Counter({"kitchen cooked": 3, "kitchen impossible": 1, "kitchen delayed": 3})
RESCUED = Counter({"kitchen cooked": 1})
BILLING = Counter({"billing charged": 5, "billing refunded": 1})
COURIERS = Counter({"bike rides": 5})
CUSTOMERS = Counter({"customers enjoyed": 4, "customers stays": 3})
ALL = ACCEPTED + PAID + KITCHEN + RESCUED + BILLING + COURIERS + CUSTOMERS


def happened(lines: list[str]) -> Counter[str]:
    """Who did what to an order, and how often."""
    return Counter(f"{found[1]} {found[2]}" for line in lines if (found := re.match(r"(\w+) +[0-9a-f]{8} (\w+)", line)))


@pytest.fixture
def nothing_configured(tmp_path: Path) -> dict[str, str]:
    """An environment that configures nothing, whatever this one does."""
    (tmp_path / "unimsg.toml").touch()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UNIMSG_")}
    return {**clean, "UNIMSG_CONFIG": str(tmp_path / "unimsg.toml")}


def complaints(stderr: str) -> list[str]:
    """What went wrong, but for what aiokafka says of each try on a topic that was made a moment before."""
    return [line for line in stderr.splitlines() if "NotLeaderForPartitionError" not in line]


def check(ran: subprocess.CompletedProcess[str]) -> None:
    """All orders came to their end, and nobody complained."""
    assert complaints(ran.stderr) == []
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert happened(lines) == ALL
    assert "operator  redrove 1" in lines


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """As a user does it."""
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90)


def test_it_runs_in_memory_where_nothing_is_configured(nothing_configured: dict[str, str]) -> None:
    ran = run(nothing_configured)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert happened(lines) == ALL
    assert "billing   closed with €74.00" in lines
    assert re.fullmatch(r"log       no broker is configured: .*UNIMSG_URL.*", lines[0])
    assert ran.stderr == ""


def test_processes_need_a_broker_to_meet_at(nothing_configured: dict[str, str]) -> None:
    for arguments in (["kitchen"], ["place"]):
        ran = run(nothing_configured, *arguments)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "UNIMSG_URL" in ran.stderr


def test_a_wrong_argument_says_what_there_is(nothing_configured: dict[str, str]) -> None:
    ran = run(nothing_configured, "waiter")
    assert ran.returncode == 1
    assert "orders | kitchen | billing | couriers" in ran.stderr


@pytest.fixture
async def prefix(harness: Harness) -> AsyncIterator[str]:
    """Before the names of all its channels, so that this test shares the broker with nobody."""
    prefix = f"example.{secrets.token_hex(4)}."
    yield prefix
    if harness.leftovers:
        for address in addresses(prefix):
            await harness.delete(address)


def addresses(prefix: str) -> Iterator[Address]:
    """Everything that the example makes, subscriptions before their topics."""
    yield Address(f"{prefix}food.place-order", Kind.QUEUE, partitions=PARTITIONS)
    for queue in QUEUES:
        yield Address(f"{prefix}{queue}", Kind.QUEUE)
    for topic, subscriptions in TOPICS.items():
        partitions = PARTITIONS if topic == "food.order-updates" else 0
        for subscription in subscriptions:
            yield Address(f"{prefix}{topic}", Kind.TOPIC, subscription, partitions)
        yield Address(f"{prefix}{topic}", Kind.TOPIC, partitions=partitions)


async def test_it_runs_again_on_the_same_broker(
    harness: Harness, prefix: str, nothing_configured: dict[str, str]
) -> None:
    environment = {**nothing_configured, "UNIMSG_URL": url_with_password(harness), "UNIMSG_PREFIX": prefix}
    for _ in range(2):
        check(await asyncio.to_thread(run, environment))


async def test_its_broker_can_be_set_in_the_file(
    harness: Harness, prefix: str, nothing_configured: dict[str, str], tmp_path: Path
) -> None:
    configured = f'url = "{url_with_password(harness)}"\nprefix = "{prefix}"\n'
    await asyncio.to_thread((tmp_path / "unimsg.toml").write_text, configured)
    check(await asyncio.to_thread(run, nothing_configured))


async def test_its_broker_can_be_set_by_argument(
    harness: Harness, prefix: str, nothing_configured: dict[str, str]
) -> None:
    program = (
        "import asyncio, sys, examples.food_delivery.__main__ as m; "
        "m.show_log(); asyncio.run(m.everything(url=sys.argv[1]))"
    )
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, url_with_password(harness)],
        cwd=ROOT,
        env={**nothing_configured, "UNIMSG_PREFIX": prefix},
        capture_output=True,
        text=True,
        timeout=90,
    )
    check(ran)


async def test_its_services_run_as_processes(harness: Harness, prefix: str, nothing_configured: dict[str, str]) -> None:
    """The order service ends while its bills are unpaid, and handles the results after its restart."""
    if harness.name == "memory":
        pytest.skip("memory ends at the process")
    environment = {**nothing_configured, "UNIMSG_URL": url_with_password(harness), "UNIMSG_PREFIX": prefix}
    async with services(environment) as start:
        first, kitchen, couriers = [await start(name) for name in ("orders", "kitchen", "couriers")]
        subscriptions = [address for address in addresses(prefix) if address.subscription not in (None, "customers")]
        await exist(harness, subscriptions)  # queues are made by whoever sends to them, too
        placed = await asyncio.to_thread(run, environment, "place", "7")
        assert (complaints(placed.stderr), placed.returncode) == ([], 0)
        await first.did(ACCEPTED, 2 * harness.recovery)
        await first.end()

        billing = await start("billing")
        await billing.did(Counter({"billing charged": 5}), harness.recovery)
        orders = await start("orders")
        for service, expected in ((orders, PAID), (kitchen, KITCHEN), (billing, BILLING), (couriers, COURIERS)):
            await service.did(expected, 2 * harness.recovery)

        rescued = await asyncio.to_thread(run, environment, "rescue")
        assert (complaints(rescued.stderr), rescued.returncode) == ([], 0)
        assert rescued.stdout.splitlines()[-1] == "operator  redrove 1"
        await kitchen.did(KITCHEN + RESCUED, harness.recovery)

        await plain_client(harness).put(foreign_order(harness, prefix))
        for service, verb in ((orders, "accepted"), (billing, "charged"), (orders, "paid"), (kitchen, "cooked")):
            await until(
                lambda service=service, verb=verb: any(f"f0e1d2c3 {verb}" in line for line in service.lines),
                f"the order of a foreign program is {verb}",
                within=harness.recovery,
            )
    assert "billing   closed with €89.50" in billing.lines


def foreign_order(harness: Harness, prefix: str) -> Message:
    """What a program without unimsg puts in, with a body, a key, and nothing else."""
    body = json.dumps({"order": "f0e1d2c3", "customer": "Zoë", "dishes": ["ramen"]})
    queue = f"{prefix}food.place-order"
    messages: dict[str, Message] = {
        "rabbitmq": {"routing_key": f"{queue}..p{partition_of('Zoë', PARTITIONS)}", "body": body},
        "kafka": {"topic": queue, "key": "Zoë", "value": body},
        "pubsub": {"topic": f"projects/{harness.url.split('/')[2].split('?')[0]}/topics/{queue}", "data": body},
    }
    if harness.name == "pubsub":
        messages["pubsub"]["ordering_key"] = "Zoë"
    return messages[harness.name]


async def exist(harness: Harness, wanted: list[Address]) -> None:
    """Waits until the services have made their channels: a subscription gets what is published from then on."""
    adapter = harness.adapter()
    await adapter.connect(timeout=harness.recovery)
    try:
        async with asyncio.timeout(2 * harness.recovery):
            for address in wanted:
                while await adapter.operations().inspect(address, Wanted(), timeout=harness.recovery):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # a condition on a broker: there is no event for it
    finally:
        await adapter.aclose(timeout=5)


class Program:
    """A service of the example in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, environment: Mapping[str, str]) -> Self:
        return cls(
            await asyncio.create_subprocess_exec(
                *COMMAND,
                name,
                cwd=ROOT,
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def did(self, expected: Counter[str], within: float) -> None:
        """Waits until it did what is expected, and no more."""
        await until(lambda: happened(self.lines) >= expected, f"{expected}: {self.lines}", within=within)
        assert happened(self.lines) == expected

    async def end(self) -> None:
        """As a container's engine ends it; it drains and ends well."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        stderr = (await self.process.stderr.read()).decode()
        await self._reading
        assert (complaints(stderr), await self.process.wait()) == ([], 0)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))


@asynccontextmanager
async def services(environment: Mapping[str, str]) -> AsyncIterator[Callable[[str], Awaitable[Program]]]:
    """Starts services by name; those that still run at the end are ended well."""
    running: list[Program] = []

    async def start(name: str) -> Program:
        running.append(await Program.start(name, environment))
        return running[-1]

    try:
        yield start
        async with asyncio.timeout(60):
            for program in running:
                if program.process.returncode is None:
                    await program.end()
    finally:
        for program in running:
            if program.process.returncode is None:
                program.process.kill()
                await program.process.wait()
