"""What a run proved, and what it did not: guarantee by broker."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(slots=True)
class Observations:
    """Filled while the cases run."""

    cells: dict[tuple[str, str], Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    """By guarantee and broker."""
    cases: dict[str, dict[str, dict[str, Outcome]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """By guarantee, case and broker."""
    skipped: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """By broker and reason, the cases."""
    records: list[tuple[str, str]] = field(default_factory=list)
    """Broker, and what it did where nothing is promised."""
    versions: dict[str, str] = field(default_factory=dict)
    """By broker, what ran."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """By broker, why it did not run at all."""

    def add(self, guarantee: str, broker: str, case: str, outcome: Outcome, reason: str = "") -> None:
        self.cells[guarantee, broker][outcome] += 1
        self.cases[guarantee][case][broker] = outcome
        if outcome == "skipped":
            self.skipped[broker, reason].append(case)

    def lines(self) -> list[str]:
        """The table and what stands below it, for a terminal."""
        brokers = list(dict.fromkeys(broker for _, broker in self.cells))
        guarantees = sorted({name for name, _ in self.cells}, key=_number)
        rows = [["", *brokers], *[[name, *[self._cell(name, broker) for broker in brokers]] for name in guarantees]]
        widths = [max(len(row[column]) for row in rows) for column in range(len(brokers) + 1)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"{broker}: {version}" for broker, version in self.versions.items()]
        lines += [f"{broker}: {what}" for broker, what in self.records]
        lines += [f"not run: {broker}: {reason}" for broker, reason in self.missing.items()]
        lines += [
            f"not run on {broker}: {len(cases)} cases: {reason}" for (broker, reason), cases in self.skipped.items()
        ]
        return lines

    def write(self, path: Path) -> None:
        """The same as JSON."""
        cells: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
        for (guarantee, broker), counts in self.cells.items():
            cells[guarantee][broker] = {outcome: counts[outcome] for outcome in ("passed", "failed", "skipped")}
        report = {
            "brokers": self.versions,
            "date": datetime.now(UTC).date().isoformat(),
            "guarantees": {name: cells[name] for name in sorted(cells, key=_number)},
            "cases": {name: self.cases[name] for name in sorted(cells, key=_number)},
            "observed": [{"broker": broker, "what": what} for broker, what in self.records],
            "not_run": [
                *({"broker": broker, "reason": reason} for broker, reason in self.missing.items()),
                *({"broker": b, "reason": reason, "cases": cases} for (b, reason), cases in self.skipped.items()),
            ],
        }
        path.write_text(json.dumps(report, indent=2) + "\n")

    def _cell(self, guarantee: str, broker: str) -> str:
        counts = self.cells.get((guarantee, broker), Counter())
        words = [f"{counts['passed']} passed"] if counts["passed"] or not counts["failed"] else []
        words += [f"{counts[outcome]} {outcome}" for outcome in ("failed", "skipped") if counts[outcome]]
        return ", ".join(words)


def _number(guarantee: str) -> tuple[int, str]:
    digits = guarantee.lstrip("G")
    return (int(digits) if digits.isdigit() else 99, guarantee)
