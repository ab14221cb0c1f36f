"""The result as text, in Markdown, so that it can be kept as it is."""

import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.contestants import Group
from benchmarks.imports import ImportCost
from benchmarks.measure import Figures, RowFigures
from benchmarks.policies import policy_costs

PACKAGES = ("unimsg", "aio-pika", "aiormq", "aiokafka", "google-cloud-pubsub", "faststream")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def broker_table(rows: Sequence[RowFigures]) -> str:
    """Of all rows; those with requests in a table of their own."""
    asking = [row for row in rows if row.row.asks]
    others = [row for row in rows if not row.row.asks]
    return "\n\n".join(table(of) for table, of in ((_rate_table, others), (_wait_table, asking)) if of)


def _wait_table(rows: Sequence[RowFigures]) -> str:
    lines = [
        "| row | contestant | p50 ms, median (min-max) | p99 ms | requests/s | CPU µs a request | unimsg's p50 is "
        "| unimsg's rate is |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        unimsg = row.strongest(Group.UNIMSG)
        lines += [
            f"| {row.row.heading} | {figures.entry.name} | {_milliseconds(figures.p50)} | {_milliseconds(figures.p99)} "
            f"| {_rate(figures)} | {figures.median_cpu:,.0f} | {_wait_ratio(unimsg, figures)} "
            f"| {_ratio(unimsg, figures)} |"
            for figures in row.figures
        ]
    return "\n".join(lines)


def _rate_table(rows: Sequence[RowFigures]) -> str:
    lines = [
        "| row | contestant | messages/s, median (min-max) | CPU µs a message | unimsg is |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        unimsg = row.strongest(Group.UNIMSG)
        lines += [
            f"| {row.row.heading} | {figures.entry.name} | {_rate(figures)} | {figures.median_cpu:,.1f} "
            f"| {_ratio(unimsg, figures)} |"
            for figures in row.figures
        ]
    costs = [f"- {cost}" for cost in policy_costs(rows)]
    return "\n".join([*lines, *([""] if costs else []), *costs])


def import_line(cost: ImportCost) -> str:
    others = ", ".join(cost.others) or "none"
    return f"import unimsg: {cost.seconds * 1000:.0f} ms; packages of others that it loads: {others}"


def as_json(broker: str, image: str, rows: Sequence[RowFigures]) -> dict[str, Any]:  # of strings, numbers and lists
    return {
        "broker": broker,
        "image": image,
        "rows": [
            {
                "row": row.row,
                "contestants": [
                    {
                        "name": figures.entry.name,
                        "compared": figures.entry.group not in (Group.WEAKER, Group.TUNED),
                        "messages_per_second": figures.rates,
                        "cpu_microseconds": figures.cpu,
                        **({"p50_seconds": figures.p50, "p99_seconds": figures.p99} if row.row.asks else {}),
                        "unimsg_ratio": unimsg.ratio(figures) if unimsg else None,
                    }
                    for figures in row.figures
                ],
                "below_goal": row.problems,
            }
            for row in rows
            for unimsg in [row.strongest(Group.UNIMSG)]
        ],
        "policies": [
            {"row": cost.row, "beside": cost.plain, "ratio": cost.ratio, "more_cpu_microseconds": cost.cpu}
            for cost in policy_costs(rows)
        ],
    }


def _rate(figures: Figures) -> str:
    return f"{figures.rate:,.0f} ({min(figures.rates):,.0f}-{max(figures.rates):,.0f})"


def _milliseconds(times: Sequence[float]) -> str:
    return f"{statistics.median(times) * 1000:,.2f} ({min(times) * 1000:,.2f}-{max(times) * 1000:,.2f})"


def _wait_ratio(unimsg: Figures | None, other: Figures) -> str:
    return "" if unimsg is None or other is unimsg else f"{unimsg.wait_ratio(other):.2f} times"


def _ratio(unimsg: Figures | None, other: Figures) -> str:
    if unimsg is None or other is unimsg:
        return ""
    mark = " (weaker)" if other.entry.group is Group.WEAKER else ""
    return f"{unimsg.ratio(other):.2f} times{mark}"
