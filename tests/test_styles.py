"""docs/styles.md: its programs print, on each broker, what the page says."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import Block, blocks
from plain_clients import url_with_password
from unimsg_contracts import Harness

import unimsg
from unimsg.adapter import Address, Kind

PAGE = "docs/styles.md"
PROGRAMS = blocks(PAGE, "python")
PRINTED = {program: printed.text for program, printed in zip(PROGRAMS, blocks(PAGE, "text"), strict=True)}


@pytest.fixture
async def prefix(harness: Harness, program: Block) -> AsyncIterator[str]:
    """Before the names of all its channels, so that this test shares the broker with nobody."""
    prefix = f"styles.{secrets.token_hex(4)}."
    yield prefix
    if harness.leftovers:
        for address in addresses(prefix, program):
            await harness.delete(address)


def addresses(prefix: str, program: Block) -> Iterator[Address]:
    """What the program makes, subscriptions before their topics."""
    declared: dict[str, Any] = {"__name__": "the_program_in_the_page"}
    exec(program.text, declared)
    services = [
        each
        for value in declared.values()
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, unimsg.Service)
    ]
    for handler in [handler for service in services for handler in service.handlers]:
        if isinstance(handler.channel, unimsg.Topic):
            yield Address(f"{prefix}{handler.channel.name}", Kind.TOPIC, handler.subscription)
    yield Address(f"{prefix}unimsg.replies", Kind.QUEUE)  # what inboxes share, where they share
    for channel in declared.values():
        if isinstance(channel, unimsg.Topic):
            yield Address(f"{prefix}{channel.name}", Kind.TOPIC)
        elif isinstance(channel, unimsg.ReplyQueue):
            yield Address(f"{prefix}unimsg.reply.{channel.name}", Kind.QUEUE)
        elif isinstance(channel, unimsg.Queue):
            yield Address(f"{prefix}{channel.name}", Kind.QUEUE)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
async def test_each_program_prints_what_stands_below_it(
    harness: Harness, prefix: str, program: Block, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(program.text)
    (tmp_path / "unimsg.toml").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIMSG_")}
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        env={**environment, "UNIMSG_URL": url_with_password(harness), "UNIMSG_PREFIX": prefix},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (sorted(ran.stdout.splitlines()), ran.returncode) == (PRINTED[program].splitlines(), 0), ran.stderr
    complaints = [line for line in ran.stderr.splitlines() if "NotLeaderForPartitionError" not in line]
    if "reply_to=" in program.text:  # there a message is rejected, and the page says that the log tells of it
        assert "message pay-2 failed, and is a dead letter" in complaints[0]
    else:
        assert complaints == []


def test_each_style_has_its_program() -> None:
    """The calls of the table at the head of the page."""
    text = "".join(program.text for program in PROGRAMS)
    for call in ("bus.send(", "ttl=", "bus.publish(", "bus.request(", "reply_to=", "bus.survey("):
        assert call in text, call
    assert len(PROGRAMS) == 6
