"""The page of guarantees: its prose is written by hand, its results come from a run.

`python -m unimsg_contracts.page REPORT PAGE` puts what `pytest contracts --report REPORT` wrote into PAGE, between the
lines `<!-- result of the contract run -->` and `<!-- end -->`, and below each guarantee between `<!-- G1 -->` and
`<!-- end -->`.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Report = Mapping[str, Any]  # JSON that `Observations.write` wrote
MARKS = {"passed": "✓", "failed": "✗", "skipped": "-"}


def put_in(page: str, report: Report) -> str:
    """The page with the results of this run."""
    page = _between(page, "result of the contract run", _table(report))
    for guarantee, cases in report["cases"].items():
        page = _between(page, guarantee, _cases(cases, list(report["brokers"])))
    return page


def _between(page: str, name: str, text: str) -> str:
    return re.sub(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda found: found[1] + text + found[2], page, flags=re.DOTALL
    )


def _table(report: Report) -> str:
    brokers = list(report["brokers"])
    lines = [_row("guarantee", *brokers), _row(*["---"] * (len(brokers) + 1))]
    for guarantee, cells in report["guarantees"].items():
        lines.append(_row(guarantee, *(_cell(cells.get(broker, {})) for broker in brokers)))
    lines += ["", f"Cases passed on {report['date']}; in brackets those not run there: the run's own report says why."]
    lines += [f"- {broker}: {what}" for broker, what in report["brokers"].items()]
    return "\n".join(lines) + "\n"


def _cell(counts: Mapping[str, int]) -> str:
    failed = f", {counts['failed']} failed" if counts.get("failed") else ""
    skipped = f" ({counts['skipped']})" if counts.get("skipped") else ""
    return f"{counts.get('passed', 0)}{failed}{skipped}"


def _cases(cases: Mapping[str, Mapping[str, str]], brokers: list[str]) -> str:
    lines = [_row("proved by", *brokers), _row(*["---"] * (len(brokers) + 1))]
    for case, outcomes in sorted(cases.items()):
        lines += [_row(f"`{case}`", *(MARKS.get(outcomes.get(broker, ""), "") for broker in brokers))]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main(report: str, page: str) -> None:
    path = Path(page)
    path.write_text(put_in(path.read_text(), json.loads(Path(report).read_text())))


if __name__ == "__main__":
    main(*sys.argv[1:])
