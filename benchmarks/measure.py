"""Rounds: every contestant of a row once a round, each in a fresh interpreter; then medians and ratios."""

import json
import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.child import TIME_LIMIT, Job, Result
from benchmarks.contestants import ENTRIES, Entry, Group
from benchmarks.rows import Row

GOAL_RAW = 0.8
GOAL_FASTSTREAM = 1.0
GOAL_REQUEST_FASTSTREAM = 2.0
GOAL_ROUND_TRIP = 1.15
"""Times the median of the client's best documented pattern, one request at a time."""


class Failed(Exception):
    """A contestant crashed, lost or doubled messages, or did not end."""


@dataclass(slots=True)
class Figures:
    """All rounds of one contestant in one row."""

    entry: Entry
    rates: list[float] = field(default_factory=list)
    """Messages a second."""
    cpu: list[float] = field(default_factory=list)
    """CPU microseconds a message, of the contestant's process."""
    p50: list[float] = field(default_factory=list)
    """Seconds from a request to its reply, in the rows with requests."""
    p99: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def median_cpu(self) -> float:
        return statistics.median(self.cpu)

    @property
    def wait(self) -> float:
        return statistics.median(self.p50)

    def ratio(self, other: "Figures") -> float:
        """How many times as fast as another."""
        return _ratio(self.rates, other.rates)

    def wait_ratio(self, other: "Figures") -> float:
        """How many times as long a request waits for its reply, of the medians."""
        return _ratio(self.p50, other.p50)


def _ratio(mine: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios, since the machine changes between rounds more than within one."""
    return statistics.median(one / other for one, other in zip(mine, others, strict=True))


@dataclass(frozen=True, slots=True)
class RowFigures:
    row: Row
    figures: list[Figures]
    failures: list[str]
    """Of contestants that are left out because they did not do their work in every round."""

    def strongest(self, group: Group) -> Figures | None:
        """Of several documented ways the fastest."""
        return max((f for f in self.figures if f.entry.group is group), key=lambda f: f.rate, default=None)

    @property
    def problems(self) -> list[str]:
        """Goals that unimsg misses in this row."""
        unimsg = self.strongest(Group.UNIMSG)
        found = [f"{self.row.heading}: not measured: {failure}" for failure in self.failures]
        faststream = GOAL_REQUEST_FASTSTREAM if self.row is Row.REQUEST_50 else GOAL_FASTSTREAM
        for group, goal in ((Group.RAW, GOAL_RAW), (Group.FASTSTREAM, faststream)):
            other = self.strongest(group)
            if unimsg and other and (ratio := unimsg.ratio(other)) < goal:
                found.append(f"{self.row.heading}: {ratio:.2f} of {other.entry.name}, the goal is {goal:g}")
        raw = min((f for f in self.figures if f.entry.group is Group.RAW), key=lambda f: f.wait, default=None)
        if self.row is Row.REQUEST_1 and unimsg and raw and (wait := unimsg.wait_ratio(raw)) > GOAL_ROUND_TRIP:
            found.append(f"{self.row.heading}: p50 {wait:.2f} of {raw.entry.name}'s, the goal is {GOAL_ROUND_TRIP:g}")
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    rows: Sequence[Row]
    rounds: int
    count: int | None
    only: str | None
    """Measure the contestants whose names contain this."""
    profiles: Path | None


def measure(broker: str, url: str, plan: Plan, progress: Callable[[str], None]) -> list[RowFigures]:
    """Rounds through all rows: rows are compared with each other too, and the machine changes meanwhile."""
    rows = [RowFigures(row, _contestants(broker, row, plan), []) for row in plan.rows]
    for round in range(plan.rounds):
        for row in rows:
            _measure_round(broker, url, row, round, plan, progress)
    return rows


def _contestants(broker: str, row: Row, plan: Plan) -> list[Figures]:
    return [
        Figures(entry)
        for entry in ENTRIES[broker]
        if row in entry.rows and (plan.only is None or plan.only.lower() in entry.name.lower())
    ]


def _measure_round(
    broker: str, url: str, row: RowFigures, round: int, plan: Plan, progress: Callable[[str], None]
) -> None:
    turn = round % max(1, len(row.figures))  # nobody is always the first
    for figures in row.figures[turn:] + row.figures[:turn]:
        where = f"{broker} {row.row.heading}, round {round + 1}: {figures.entry.name}"
        try:
            result = _run(_job(broker, url, row.row, figures.entry, plan))
        except Failed as failure:
            progress(f"{where} failed: {failure}")
            row.failures.append(f"{figures.entry.name}: {str(failure).splitlines()[0]}")
            row.figures.remove(figures)
            continue
        rate, cpu = result.messages / result.seconds, result.cpu / result.messages * 1e6
        figures.rates.append(rate)
        figures.cpu.append(cpu)
        figures.p50.append(result.p50)
        figures.p99.append(result.p99)
        waits = f", p50 {result.p50 * 1000:.2f} ms, p99 {result.p99 * 1000:.2f} ms" if row.row.asks else ""
        progress(f"{where} {rate:,.0f}/s, {cpu:,.1f} µs{waits}")
        if plan.profiles is not None:
            _write_profile(plan.profiles, f"{broker}-{row.row}", figures.entry, result)


def _job(broker: str, url: str, row: Row, entry: Entry, plan: Plan) -> Job:
    return Job(
        broker=broker,
        url=url,
        contestant=entry.path,
        row=row,
        channel=f"bench.{row.replace('-', '')}.{uuid.uuid4().hex[:12]}",
        count=entry.count(broker, row, plan.count),
        profiled=plan.profiles is not None,
    )


def _run(job: Job) -> Result:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.child", json.dumps(asdict(job))],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT + 40,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"did not end in {TIME_LIMIT + 40:g} s") from None
    if done.returncode:
        raise Failed(f"ended with {done.returncode}\n{done.stderr[-3000:]}")
    result = Result(**json.loads(done.stdout.splitlines()[-1]))
    if result.problem:
        raise Failed(f"{result.problem}\n{done.stderr[-3000:]}")
    return result


def _write_profile(folder: Path, what: str, entry: Entry, result: Result) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join("".join(c if c.isalnum() else " " for c in entry.name).lower().split())
    (folder / f"{what}-{name}.txt").write_text(
        f"{result.messages} messages in {result.seconds:.3f} s under the profiler\n{result.profile}"
    )
