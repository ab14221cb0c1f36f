"""The page of guarantees says what the last contract run proved, and that run was of the suite as it is."""

import json
import re
from importlib import import_module
from pkgutil import iter_modules

import pytest
from pages import ROOT
from unimsg_contracts import cases
from unimsg_contracts.marks import contract_of
from unimsg_contracts.page import put_in

PAGE = ROOT / "docs/guarantees.md"
RUN = json.loads((ROOT / "docs/contract-run.json").read_text())
BROKERS = ("memory", "rabbitmq", "kafka", "pubsub")


def every_case() -> dict[str, set[str]]:
    """By guarantee."""
    found: dict[str, set[str]] = {}
    for info in iter_modules(cases.__path__):
        module = import_module(f"{cases.__name__}.{info.name}")
        for name, case in vars(module).items():
            if name.startswith("test_") and any(mark.name == "contract" for mark in getattr(case, "pytestmark", ())):
                found.setdefault(contract_of(case).guarantee, set()).add(name)
    return found


def test_the_page_shows_the_run() -> None:
    assert PAGE.read_text() == put_in(PAGE.read_text(), RUN)


def test_the_run_had_every_case_on_every_broker_and_none_failed() -> None:
    assert {guarantee: set(run) for guarantee, run in RUN["cases"].items()} == every_case()
    for run in RUN["cases"].values():
        for case, outcomes in run.items():
            assert set(outcomes) == set(BROKERS), case
            assert "failed" not in outcomes.values(), case


def test_every_guarantee_has_its_section() -> None:
    sections = re.findall(r"^## (G\d+): .+\n\n(?:.+\n)+", PAGE.read_text(), re.MULTILINE)
    assert sections == [f"G{number}" for number in range(1, 19)]
    assert set(RUN["cases"]) == set(sections)


@pytest.mark.parametrize("broker", BROKERS)
def test_each_broker_proved_each_guarantee_or_says_why_not(broker: str) -> None:
    for guarantee, counts in RUN["guarantees"].items():
        if not counts[broker]["passed"]:
            skipped = {case for entry in RUN["not_run"] if entry["broker"] == broker for case in entry.get("cases", ())}
            assert set(RUN["cases"][guarantee]) <= skipped, (guarantee, broker)
