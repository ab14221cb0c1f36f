"""Whoever writes an adapter runs the contract suite on it: done here, from outside, on a copy of the memory adapter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ADAPTER = '''
"""An adapter of somebody else's, with its harness."""

from unimsg.memory import MemoryAdapter
from unimsg_contracts import Harness
from unimsg_contracts.brokers.memory import MemoryHarness


class PigeonAdapter(MemoryAdapter):
    broker = "pigeon"

    @classmethod
    def from_url(cls, url, options):
        return super().from_url(url.replace("pigeon://", "memory://"), options)


class PigeonHarness(MemoryHarness):
    name = "pigeon"
    adapter_type = PigeonAdapter
    url = "pigeon://"


class LossyAdapter(PigeonAdapter):
    """Confirms every second message without storing it."""

    async def send(self, address, messages, *, timeout, delay=0.0):
        await super().send(address, messages[::2], timeout=timeout, delay=delay)
        return [None] * len(messages)


class LossyHarness(PigeonHarness):
    name = "lossy"
    adapter_type = LossyAdapter
    patience = recovery = 0.3
'''


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with that adapter, and nothing of this repository's configuration."""
    (tmp_path / "pigeons.py").write_text(ADAPTER)
    return tmp_path


def suite(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it there, as its documentation says."""
    command = [sys.executable, "-m", "pytest", "-p", "unimsg_contracts.plugin", "--pyargs", "unimsg_contracts"]
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("UNIMSG_", "PYTEST_"))}
    return subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**ours, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_an_adapter_of_another_package_passes(elsewhere: Path) -> None:
    run = suite(elsewhere, "--harness", "pigeons:PigeonHarness", "--report", "report.json")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    assert "pigeon" in run.stdout
    assert " failed" not in run.stdout
    assert '"G5"' in (elsewhere / "report.json").read_text()


def test_a_broken_adapter_fails(elsewhere: Path) -> None:
    run = suite(elsewhere, "--harness", "pigeons:LossyHarness", "-k", "test_sending or test_settlement")
    assert run.returncode == 1, run.stdout[-3000:] + run.stderr
    assert "test_what_was_confirmed_is_stored[lossy]" in run.stdout
    assert "missing" in run.stdout


def test_a_harness_that_does_not_exist_is_an_error(elsewhere: Path) -> None:
    run = suite(elsewhere, "--harness", "pigeons:NoSuchHarness")
    assert run.returncode not in (0, 1)
    assert "NoSuchHarness" in run.stdout + run.stderr


def test_a_broker_that_does_not_exist_is_an_error(elsewhere: Path) -> None:
    run = suite(elsewhere, "--broker", "pigeon")
    assert run.returncode not in (0, 1)
    assert "no broker is called pigeon" in run.stdout + run.stderr


def test_what_cannot_run_is_said_and_what_is_required_must_run(elsewhere: Path) -> None:
    """Without a Docker engine the real brokers are left out. If they were asked for, that is an error."""
    case = ("-k", "test_a_key_is_not_needed")
    nowhere = "tcp://127.0.0.1:1"
    optional = suite(elsewhere, *case, DOCKER_HOST=nowhere)
    assert optional.returncode == 0, optional.stdout + optional.stderr
    assert "not run: kafka: no Docker engine answers" in optional.stdout
    for asked in (("--require-all",), ("--broker", "kafka")):
        run = suite(elsewhere, *asked, *case, DOCKER_HOST=nowhere)
        assert run.returncode not in (0, 1)
        assert "kafka: no Docker engine answers" in run.stdout + run.stderr
