"""What of a partition may be committed. Pure: no client, no clock.

Kafka keeps one offset per group and partition: everything below it is done. Messages settle out of order, so the
offsets that are done above it travel in the commit's metadata, a text of at most 4,096 bytes, and the next owner of the
partition skips them. The text is the topic's id and the lengths of runs, from the committed offset on, open and done by
turns: "u2:<id>:2,3,1,4" at offset 10 says that 10 and 11 are open, 12 to 14 done, 15 open, 16 to 19 done. Where that
is too long, it is packed: "u2:<id>:z" and the same lengths in zlib's form and base 64. Behind that `deaths` may write.

The id is there because a topic can be deleted and made anew under its name while receivers run: a commit for the old
one then lands on the new one, and says nothing of it.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

METADATA_LIMIT = 4000
"""Characters; the broker refuses a commit with more than its `offset.metadata.max.bytes`, 4,096 by default."""
VERSION = "u2"
_PACKED = "z"
_PACKED_TO = 8
"""Times the limit: more text is not tried to pack. Ten thousand offsets, open and done by chance, take 2,600."""


@dataclass(frozen=True, slots=True)
class Run:
    """Offsets that are done, from `start` up to, not including, `end`."""

    start: int
    end: int


class Watermark:
    """One partition in one assignment: the offsets that arrived and are not settled, and what to commit."""

    __slots__ = ("_begun_at", "_done_before", "_log", "_next", "lost", "open")

    def __init__(self, log: str = "", start: int = 0, done_before: Sequence[Run] = ()) -> None:
        """`log`: the topic's id. `start`: the commit at which this assignment starts. `done_before`: what it says is
        done above it."""
        self.open: dict[int, None] = {}  # in offset order: records arrive in it
        self.lost = False
        """Offsets went back: this is another log, or one that lost its end. Nothing of it is committed any more, and
        what arrives is for the next assignment."""
        self._log = log
        self._done_before = list(done_before)
        self._begun_at = self._next = start

    def arrived(self, offset: int) -> bool:
        """Notes the record, and tells whether it is to be handled: not, if it was settled in an earlier assignment, or
        once the log is lost."""
        if offset < self._next:
            self.lost = self.lost or self._next > self._begun_at
            self._done_before, self._begun_at = [], -1  # of the first record: the log lost what the commit says
        if self.lost:
            return False
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
        """Everything below it is done; None before the first record, and once the log is lost. Offsets that never
        arrive (compacted, or marks of transactions) count as done."""
        if self.lost or self._next == self._begun_at:
            return None
        return next(iter(self.open), self._next)

    def metadata(self) -> str:
        """What is done above the mark; the lowest part of it if all would be too long."""
        return written(self._log, self.mark or 0, _runs_between(self.open, self._next, self._done_before))


def done_above(mark: int, metadata: str) -> list[Run]:
    """Reads what `Watermark.metadata` wrote for a commit at `mark`; nothing of anybody else's text."""
    try:
        version, _, runs_text, *_ = metadata.split(":")
        if runs_text.startswith(_PACKED):
            runs_text = zlib.decompress(b64decode(runs_text[1:])).decode()
        lengths = [int(length) for length in runs_text.split(",")] if version == VERSION else []
    except (ValueError, zlib.error):
        return []
    runs, offset = [], mark
    for open_length, done_length in zip(lengths[::2], lengths[1::2], strict=False):
        start = offset + open_length
        offset = start + done_length
        runs.append(Run(start, offset))
    return runs


def log_of(metadata: str) -> str | None:
    """The id of the topic that a commit was made for; None if it does not say, as anybody else's."""
    version, _, rest = metadata.partition(":")
    return rest.partition(":")[0] if version == VERSION else None


def written(log: str, mark: int = 0, done: Iterable[Run] = ()) -> str:
    """The metadata of a commit at `mark`."""
    text, offset = f"{VERSION}:{log}:", mark
    room = METADATA_LIMIT - len(text)
    parts, lengths, short = [], 0, 0
    for run in done:
        part = f"{run.start - offset},{run.end - run.start}"
        lengths += len(part) + 1
        if lengths > room * _PACKED_TO:
            break
        parts.append(part)
        short += lengths <= room
        offset = run.end
    if short == len(parts):
        return text + ",".join(parts)
    packed = _PACKED + b64encode(zlib.compress(",".join(parts).encode())).decode()
    return text + (packed if len(packed) <= room else ",".join(parts[:short]))


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
