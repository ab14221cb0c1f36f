"""`unimsg doctor`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from shop import write
from typer.testing import CliRunner

from unimsg import Queue, Settings
from unimsg._brokers import Brokers
from unimsg._routes import Routes
from unimsg.adapter import About, Adapter, Address, Difference, Missing, Right, Wanted
from unimsg.cli.channel_checks import Use, channel_checks
from unimsg.cli.checks import Check, broker_checks
from unimsg.cli.program import app
from unimsg.memory import MemoryAdapter, MemoryOperations

CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def folder(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(elsewhere)
    return elsewhere


def doctor(*arguments: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """Exit code, and by what was looked at the states and texts."""
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    checks: dict[str, list[tuple[str, str]]] = {}
    for line in done.stdout.splitlines():
        check = json.loads(line)
        checks.setdefault(check["what"], []).append((check["state"], check["text"]))
    return done.exit_code, checks


def test_all_is_well_in_memory(folder: Path) -> None:
    code, checks = doctor("--url", "memory://", "--app", write(folder, name="doctored"))
    assert code == 0
    assert {state for found in checks.values() for state, _ in found} == {"ok"}
    assert {"orders.place", "orders.placed/shop", "orders.told", "broker default clock"} <= checks.keys()


def test_people_get_lines(folder: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--url", "memory://"])
    assert done.exit_code == 0
    assert all(line.startswith(("ok ", "? ", "PROBLEM ")) for line in done.stdout.splitlines())


def test_nothing_configured_is_a_finding() -> None:
    code, checks = doctor()
    assert code == 1
    ((state, text),) = checks["configuration"]
    assert state == "problem"
    assert "UNIMSG_URL" in text


def test_sources_are_named_without_values(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "unimsg.toml").write_text(f'url = "amqp://u:{CANARY}@127.0.0.1:1"')
    monkeypatch.setenv("UNIMSG_PREFIX", f"{CANARY}.")
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 1
    assert CANARY not in done.output
    assert "unimsg.toml" in done.output
    assert "UNIMSG_PREFIX" in done.output
    assert "127.0.0.1:1" in done.output


def test_an_app_that_cannot_be_loaded_is_a_finding() -> None:
    code, checks = doctor("--url", "memory://", "--app", "nowhere:service")
    assert code == 1
    assert ("problem", "nowhere") in [(state, text.split(":")[0]) for state, text in checks["configuration"]]


class Strict(MemoryAdapter):
    """Its clock is 90 s behind, and its user may not send."""

    class Operations(MemoryOperations):
        async def about(self, *, timeout: float) -> About:
            about = await super().about(timeout=timeout)
            assert about.time is not None
            return About(about.broker, about.client, about.time.replace(year=about.time.year - 1))

        async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
            if right is Right.SEND:
                return [Missing(right, f"write on {address.name}")]
            return [Missing(right, "read", "nobody asked")] if right is Right.RECEIVE else []

        async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
            return [Difference("queue x-max-length", "3", "none")]

    def operations(self) -> Operations:
        return self.Operations()


async def checks_of(settings: Settings, *, handled: bool) -> list[Check]:
    brokers = Brokers(settings)
    found = [check async for check in broker_checks(brokers, settings, "default")]
    use = Use(Routes(settings, brokers).get(Queue("orders.place", str)), handled=handled)
    return [*found, *[check async for check in channel_checks(use, settings)]]


async def test_each_finding_says_what_to_do(serve: Callable[[str, type[Adapter]], str]) -> None:
    settings = Settings(url=serve("strict", Strict))
    found = await checks_of(settings, handled=True)
    texts = {check.text for check in found if check.state == "problem"}
    assert any("set both by NTP" in text for text in texts)
    assert any("queue x-max-length: none, declared 3" in text for text in texts)
    assert any("lacks write on orders.place..dead: grant it" in text for text in texts)
    assert ["nobody asked" in check.text for check in found if check.state == "unknown"] == [True]
    sent_to = await checks_of(settings, handled=False)
    assert any("lacks write on orders.place: grant it" in check.text for check in sent_to)


@pytest.mark.parametrize(("topology", "state"), [("create", "ok"), ("verify", "problem"), ("off", "problem")])
async def test_a_missing_channel_is_a_finding_where_nothing_makes_it(topology: str, state: str) -> None:
    settings = Settings(url="memory://", topology=topology)
    found = [check for check in await checks_of(settings, handled=True) if "orders.place" in check.text]
    assert [check.state for check in found] == [state]
