"""What of a partition may be committed. Pure: no client, no clock.

Kafka keeps one offset per group and partition: everything below it is done. Messages settle out of order, so the
offsets that are done above it travel in the commit's metadata, a text of at most 4,096 bytes, and the next owner of the
partition skips them. The text is the lengths of runs, from the committed offset on, open and done by turns:
"u1:2,3,1,4" at offset 10 says that 10 and 11 are open, 12 to 14 done, 15 open, 16 to 19 done.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

METADATA_LIMIT = 4000
"""Characters; the broker refuses a commit with more than its `offset.metadata.max.bytes`, 4,096 by default."""
_VERSION = "u1:"


@dataclass(frozen=True, slots=True)
class Run:
    """Offsets that are done, from `start` up to, not including, `end`."""

    start: int
    end: int


class Watermark:
    """One partition in one assignment: the offsets that arrived and are not settled, and what to commit."""

    __slots__ = ("_done_before", "_next", "open")

    def __init__(self, done_before: Sequence[Run] = ()) -> None:
        """`done_before`: what the commit at which this assignment starts says is done above it."""
        self.open: dict[int, None] = {}  # in offset order: records arrive in it
        self._done_before = list(done_before)
        self._next: int | None = None

    def arrived(self, offset: int) -> bool:
        """Notes the record, and tells whether it is to be handled: not, if it was settled in an earlier assignment."""
        self._next = offset + 1
        runs = self._done_before
        while runs and runs[0].end <= offset:
            del runs[0]
        if runs and runs[0].start <= offset:
            return False
        self.open[offset] = None
        return True

    def done(self, offset: int) -> None:
        self.open.pop(offset, None)

    @property
    def mark(self) -> int | None:
        """Everything below it is done; None before the first record. Offsets that never arrive (compacted, or marks
        of transactions) count as done."""
        return next(iter(self.open), self._next)

    def metadata(self) -> str:
        """What is done above the mark. Empty if nothing is; the lowest part of it if all would be too long."""
        if self._next is None or not (self.open or self._done_before):
            return ""
        return _encode(self.mark or 0, _runs_between(self.open, self._next, self._done_before))


def done_above(mark: int, metadata: str) -> list[Run]:
    """Reads what `Watermark.metadata` wrote for a commit at `mark`; nothing of anybody else's text."""
    if not metadata.startswith(_VERSION):
        return []
    try:
        lengths = [int(length) for length in metadata[len(_VERSION) :].split(",")]
    except ValueError:
        return []
    runs, offset = [], mark
    for open_length, done_length in zip(lengths[::2], lengths[1::2], strict=False):
        start = offset + open_length
        offset = start + done_length
        runs.append(Run(start, offset))
    return runs


def _runs_between(open_offsets: Iterable[int], end: int, done_before: Sequence[Run]) -> Iterable[Run]:
    """The done offsets above the first open one, up to `end`, and those known to be done beyond it."""
    previous: int | None = None
    for offset in open_offsets:
        if previous is not None and offset > previous + 1:
            yield Run(previous + 1, offset)
        previous = offset
    if previous is not None and end > previous + 1:
        yield Run(previous + 1, end)
    for run in done_before:
        if run.end > end:
            yield Run(max(run.start, end), run.end)


def _encode(mark: int, runs: Iterable[Run]) -> str:
    parts: list[str] = []
    length, offset = len(_VERSION), mark
    for run in runs:
        part = f"{run.start - offset},{run.end - run.start}"
        length += len(part) + 1
        if length > METADATA_LIMIT:
            break
        parts.append(part)
        offset = run.end
    return _VERSION + ",".join(parts) if parts else ""
