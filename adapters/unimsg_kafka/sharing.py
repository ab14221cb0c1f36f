"""Equal shares of what a receiver may hold, for each partition of a topic whose messages are held for long.

aiokafka hands out what it has of one partition before it comes to the next. A thousand messages of one partition, held
for an hour, would keep out the first ones of all others, which are due within the minute.
"""

from collections.abc import Container, Iterator, Sequence

from aiokafka import ConsumerRecord  # type: ignore[import-untyped]  # aiokafka has no py.typed

from unimsg.mailbox import MAX_BYTES


class Share:
    """Of one partition: its first messages that are not settled. Where it is full, the partition is paused."""

    __slots__ = ("_bytes", "_count", "_most", "_most_bytes", "stopped_at")

    def __init__(self, messages: int, partitions: int) -> None:
        """`messages`: of all partitions together."""
        self.stopped_at: int | None = None
        """The first record that there was no room for."""
        self._most, self._most_bytes = max(1, messages // partitions), MAX_BYTES // partitions
        self._count = self._bytes = 0

    def fitting(self, batch: Sequence[ConsumerRecord], taken: Container[int]) -> Iterator[ConsumerRecord]:
        """Records as long as there is room. `taken`: the offsets of those that were handed out are in it; the others
        were done before, and take none."""
        for record in batch:
            if self._count >= self._most or (self._count and self._bytes >= self._most_bytes):
                self.stopped_at = record.offset
                return
            yield record
            if record.offset in taken:
                self._count += 1
                self._bytes += _size(record)

    def remove(self, record: ConsumerRecord) -> bool:
        """It is settled. Whether the partition may go on now: not for one message, for its fetch brings many."""
        self._count -= 1
        self._bytes -= _size(record)
        if self.stopped_at is None or self._count > self._most // 2 or self._bytes > self._most_bytes // 2:
            return False
        self.stopped_at = None
        return True


def _size(record: ConsumerRecord) -> int:
    return len(record.value or b"")
