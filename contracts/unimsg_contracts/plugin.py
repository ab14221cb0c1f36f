"""The pytest plugin: which brokers, the one fixture, and the table at the end.

Load it with `-p unimsg_contracts.plugin`. It imports no broker client and starts nothing until a case needs it.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

pytest.register_assert_rewrite("unimsg_contracts.stage", "unimsg_contracts.reading")

from unimsg_contracts.harness import Harness  # noqa: E402  # after the line above, so that their asserts explain
from unimsg_contracts.marks import Contract  # noqa: E402
from unimsg_contracts.observe import Observations, Outcome  # noqa: E402
from unimsg_contracts.selection import Selection, select  # noqa: E402
from unimsg_contracts.stage import Stage  # noqa: E402

OBSERVATIONS = pytest.StashKey[Observations]()
SELECTION = pytest.StashKey[Selection]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("unimsg contracts")
    group.addoption("--broker", action="append", default=[], metavar="NAME", help="run on this broker; repeatable")
    group.addoption("--harness", action="append", default=[], metavar="PACKAGE:CLASS", help="run on your adapter")
    group.addoption("--require-all", action="store_true", help="a broker that cannot run here is an error")
    group.addoption("--tier", choices=["C", "N"], default="C", help="N: the slow cases too")
    group.addoption("--report", metavar="FILE", help="write the table guarantee x broker there as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "contract(...): the guarantee that a case proves; set by @guarantee")
    config.stash[OBSERVATIONS] = Observations()


def selection_of(config: pytest.Config) -> Selection:
    """Made once, and only when a case asks for a broker."""
    if SELECTION not in config.stash:
        option = config.option
        config.stash[SELECTION] = select(option.broker, option.harness, require_all=option.require_all)
    return config.stash[SELECTION]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "harness" in metafunc.fixturenames:
        selection = selection_of(metafunc.config)
        selection.used = True
        if "mutant" in metafunc.fixturenames:
            from unimsg_contracts.mutants import MUTANTS, inside  # with all cases, and the chosen brokers' clients

            mutants = [*MUTANTS, *(mutant for name in selection.chosen for mutant in inside(name))]
            pairs = [(m, name) for m in mutants for name in m.brokers if name in selection.chosen]
            names = [f"{mutant.name}-{broker}" for mutant, broker in pairs]
            metafunc.parametrize(("mutant", "harness"), pairs, indirect=["harness"], scope="session", ids=names)
        else:
            metafunc.parametrize("harness", list(selection.chosen), indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    selection = config.stash.get(SELECTION, None)
    if selection is not None and selection.used and selection.errors:
        raise pytest.UsageError("contracts: " + "; ".join(selection.errors))


@pytest.fixture(scope="session")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """The broker of this case, started before the first case that needs it and stopped after the last one."""
    found = selection_of(request.config).chosen[request.param]
    try:
        found.start()
        what = ", ".join(part for part in (found.version(), found.where()) if part)
        request.config.stash[OBSERVATIONS].versions[found.name] = what
        yield found
    finally:
        found.stop()


@pytest_asyncio.fixture(loop_scope="function")
async def stage(request: pytest.FixtureRequest, harness: Harness) -> AsyncIterator[Stage]:
    mark = request.node.get_closest_marker("contract")
    contract: Contract = mark.args[0]
    if reason := reason_to_skip(harness, contract, request.config.option.tier):
        pytest.skip(reason)
    slow = any(need in harness.slow for need in contract.needs)
    async with Stage(harness, recovery=harness.slow_recovery if slow else None) as made:
        yield made
        request.config.stash[OBSERVATIONS].records += [(harness.name, what) for what in made.records]


def reason_to_skip(harness: Harness, contract: Contract, tier: str) -> str | None:
    """Why a case cannot or shall not run on this broker; None: it runs."""
    for need in contract.needs:
        if (reason := harness.reason_against(need)) is not None:
            return f"{need.replace('_', ' ')}: {reason}"
    if tier == "C":
        if contract.tier != "C":
            return "slow: run with --tier N"
        for need in contract.needs:
            if need in harness.slow:
                return f"slow, run with --tier N: {harness.slow[need]}"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]  # what a wrapper is sent
    mark = item.get_closest_marker("contract")
    if mark is not None and isinstance(item, pytest.Function):
        _observe(item.config.stash[OBSERVATIONS], item, mark.args[0], report)
    return report  # type: ignore[return-value]  # a wrapper's result is the report


def _observe(observed: Observations, item: pytest.Function, contract: Contract, report: pytest.TestReport) -> None:
    outcome: Outcome
    if report.when == "call":
        outcome = report.outcome
    elif report.outcome == "passed":
        return
    else:
        outcome = report.outcome
    reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
    observed.add(contract.guarantee, str(item.callspec.params["harness"]), item.originalname, outcome, reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    observed = config.stash[OBSERVATIONS]
    selection = config.stash.get(SELECTION, None)
    if selection is None or not selection.used:
        return
    observed.missing = selection.missing
    terminalreporter.section("contracts: guarantee x broker")
    for line in observed.lines():
        terminalreporter.write_line(line)
    if config.option.report:
        observed.write(Path(config.option.report))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Also after an interrupt before any fixture was finished."""
    selection = config.stash.get(SELECTION, None)
    for found in selection.chosen.values() if selection is not None else ():
        found.stop()
