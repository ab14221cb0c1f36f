"""Judges what several processes did with the keys of one queue. Pure: no broker, no process, no clock."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

Outcome = Literal["done", "failed", "cancelled"]


@dataclass(slots=True)
class Attempt:
    """One start of a handler. Times are seconds of one clock that all processes share."""

    process: str
    key: str
    number: int
    """Of the message: the first of each key is 0."""
    attempt: int
    """What the library counted."""
    begun: float
    ended: float | None = None
    outcome: Outcome | None = None
    """None: its process died in the middle."""
    lost: bool = False
    """Whether the connection that gave it was lost before it ended."""

    def __str__(self) -> str:
        return f"{self.key}-{self.number} in {self.process}"


@dataclass(slots=True)
class Verdict:
    """What is wrong, in words; empty lists: nothing."""

    attempts: int = 0
    missing: list[str] = field(default_factory=list)
    """Sent, and handled by nobody to the end."""
    disorder: list[str] = field(default_factory=list)
    """Begun before all older ones of its key were done, or again after a newer one that counts."""
    overlaps: list[str] = field(default_factory=list)
    """Begun while another one of its key ran, on a connection that lived."""
    repeats: list[str] = field(default_factory=list)
    """Done, and begun again though nothing crashed that had done it."""
    miscounted: list[str] = field(default_factory=list)
    """Attempts that count more than the failures before them in this process."""
    broken: set[str] = field(default_factory=set)
    """Keys that are in disorder, overlap or repeat."""
    after_crashes: int = 0
    """Repeats of what a killed process had done: allowed."""

    @property
    def perfect(self) -> bool:
        return not (self.missing or self.broken or self.miscounted)

    def __str__(self) -> str:
        names = ("missing", "disorder", "overlaps", "repeats", "miscounted")
        found = {name: getattr(self, name) for name in names if getattr(self, name)}
        parts = [f"{len(what)} {name}: {'; '.join(what[:5])}" for name, what in found.items()]
        return " | ".join(parts) or "nothing wrong"


def judge(attempts: Iterable[Attempt], sent: Mapping[str, int], killed: Mapping[str, float]) -> Verdict:
    """`sent`: how many messages each key has, all confirmed. `killed`: when each process that was killed lived last."""
    verdict = Verdict()
    by_key: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        verdict.attempts += 1
        by_key[attempt.key].append(attempt)
    for key, count in sent.items():
        before = len(verdict.disorder) + len(verdict.overlaps) + len(verdict.repeats)
        _judge_key(sorted(by_key[key], key=lambda attempt: attempt.begun), killed, verdict)
        if len(verdict.disorder) + len(verdict.overlaps) + len(verdict.repeats) > before:
            verdict.broken.add(key)
        done = {attempt.number for attempt in by_key[key] if attempt.outcome == "done"}
        verdict.missing += [f"{key}-{number}" for number in range(count) if number not in done]
    return verdict


def _judge_key(attempts: list[Attempt], killed: Mapping[str, float], verdict: Verdict) -> None:
    """`attempts`: all of one key, in the order of their beginnings."""
    failures: dict[tuple[str, int], int] = defaultdict(int)
    for index, this in enumerate(attempts):
        before = attempts[:index]
        done = [other for other in before if other.outcome == "done" and _end(other, killed) <= this.begun]
        done_numbers = {other.number for other in done}
        counted = [other for other in done if not _went_down(other, this, killed)]
        skipped = next((number for number in range(this.number) if number not in done_numbers), None)
        if skipped is not None:
            verdict.disorder.append(f"{this} before {skipped} was done")
        if newer := next((other for other in counted if other.number > this.number), None):
            verdict.disorder.append(f"{this} after {newer.number} was done in {newer.process}")
        if twice := next((other for other in counted if other.number == this.number), None):
            verdict.repeats.append(f"{this}, done in {twice.process}")
        elif this.number in done_numbers:
            verdict.after_crashes += 1
        for other in before:
            if _end(other, killed) > this.begun and not other.lost:
                verdict.overlaps.append(f"{this} while {other} ran")
        if this.attempt > failures[this.process, this.number] + 1:
            verdict.miscounted.append(f"{this} is attempt {this.attempt}")
        failures[this.process, this.number] += this.outcome == "failed"


def _end(attempt: Attempt, killed: Mapping[str, float]) -> float:
    """When it ended, or its process did; never, if nobody knows."""
    return attempt.ended if attempt.ended is not None else killed.get(attempt.process, inf)


def _went_down(done: Attempt, again: Attempt, killed: Mapping[str, float]) -> bool:
    """Whether the process that did it died, or lost its connection, before its acknowledgement can be relied on."""
    return done.lost or killed.get(done.process, inf) <= again.begun
