"""What order and retries cost: unimsg in a row that has them beside unimsg in the row that does without."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contestants import Group
from benchmarks.measure import RowFigures
from benchmarks.rows import Row

GOAL = 0.75
"""Of the plain row's rate."""


@dataclass(frozen=True, slots=True)
class PolicyCost:
    row: Row
    plain: Row
    ratio: float
    """How many times as fast as in the plain row: the median of the rounds' ratios."""
    cpu: float
    """CPU microseconds that a message takes more."""

    def __str__(self) -> str:
        return (
            f'unimsg, {self.row.heading}: {self.ratio:.2f} of its rate in "{self.plain.heading}", '
            f"{self.cpu:+.1f} µs CPU a message"
        )

    @property
    def problems(self) -> list[str]:
        if self.ratio >= GOAL:
            return []
        return [f'{self.row.heading}: {self.ratio:.2f} of "{self.plain.heading}", the goal is {GOAL:g}']


def policy_costs(rows: Sequence[RowFigures]) -> list[PolicyCost]:
    """Of the rows that were measured."""
    unimsg = {row.row: figures for row in rows if (figures := row.strongest(Group.UNIMSG))}
    return [
        PolicyCost(row, plain, figures.ratio(unimsg[plain]), figures.median_cpu - unimsg[plain].median_cpu)
        for row, figures in unimsg.items()
        if (plain := row.plain) in unimsg
    ]
