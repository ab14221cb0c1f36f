"""Starts each broker in a container, measures, prints a table, and says which goals are missed."""

import argparse
import datetime
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.brokers import running, started
from benchmarks.contestants import ENTRIES
from benchmarks.imports import measure as measure_import
from benchmarks.measure import Plan, RowFigures, measure
from benchmarks.policies import policy_costs
from benchmarks.rows import Row
from benchmarks.table import as_json, broker_table, import_line, versions


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that containers are removed
    report: dict[str, Any] = {"date": str(datetime.date.today()), "machine": _machine(), "versions": versions()}
    missed: list[str] = []
    sections: list[str] = []
    if options.imports:
        cost = measure_import()
        report["import"] = {"seconds": cost.seconds, "packages": cost.others}
        missed += cost.problems
        sections.append(import_line(cost))
        _progress(sections[-1])
    report["brokers"] = []
    for broker in options.broker or ENTRIES:
        try:
            image, rows = _measure_broker(broker, options)
        except RuntimeError as error:
            missed.append(f"{broker}: not measured: {error}")
            continue
        report["brokers"].append(as_json(broker, image, rows))
        sections.append(f"{broker}, {image}\n\n{broker_table(rows)}")
        missed += [f"{broker}: {problem}" for row in rows for problem in row.problems]
        missed += [f"{broker}: {problem}" for cost in policy_costs(rows) for problem in cost.problems]
    _print(report, sections, missed)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if missed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--broker", action="append", choices=list(ENTRIES), help="only this one; may be repeated")
    parser.add_argument(
        "--row", action="append", choices=[str(row) for row in Row], help="only this one; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=3, help="3 or more for figures that mean something (default: 3)")
    parser.add_argument("--count", type=int, help="messages in each row, instead of each row's own number")
    parser.add_argument("--contestant", metavar="TEXT", help="only contestants whose name contains it")
    parser.add_argument("--url", help="with one --broker: the broker that runs there, instead of one in a container")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there")
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="write cProfile's report of every contestant there; one round"
    )
    parser.add_argument("--no-import", dest="imports", action="store_false", help="do not measure `import unimsg`")
    options = parser.parse_args(arguments)
    if options.url and len(options.broker or ()) != 1:
        parser.error("--url needs exactly one --broker")
    if options.profile:
        options.rounds = 1
    return options


def _measure_broker(broker: str, options: argparse.Namespace) -> tuple[str, list[RowFigures]]:
    plan = Plan(
        rows=[row for row in Row if not options.row or row in options.row],
        rounds=options.rounds,
        count=options.count,
        only=options.contestant,
        profiles=options.profile,
    )
    with running(broker, options.url) if options.url else started(broker) as (url, image):
        return image, measure(broker, url, plan, _progress)


def _print(report: dict[str, Any], sections: Sequence[str], missed: Sequence[str]) -> None:
    print(f"\n{report['date']}, {report['machine']}")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    for section in sections:
        print(f"\n{section}")
    print()
    for line in missed:
        print(f"below the goal: {line}")
    if not missed:
        print("all rows reach their goals")


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _machine() -> str:
    system = f"{platform.machine()}, {platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, {system}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
