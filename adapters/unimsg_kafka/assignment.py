"""What a group gave to one of its members until its next change: one epoch."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    ConsumerRecord,
    TopicPartition,
)

from unimsg.adapter import Delivery, Epoch
from unimsg_kafka import deaths
from unimsg_kafka.deaths import Deaths
from unimsg_kafka.offsets import Watermark, done_above
from unimsg_kafka.positions import Member, Position
from unimsg_kafka.sharing import Share
from unimsg_kafka.wire import decode

_STUCK_AFTER = 60.0


class Partition:
    """One partition of it; the token of its deliveries."""

    __slots__ = ("assignment", "committed", "deaths", "mark", "moved", "share")

    def __init__(
        self, assignment: "Assignment", log: str, at: Position, share: Share | None, deaths: Deaths = deaths.NONE
    ) -> None:
        self.assignment = assignment
        self.share = share
        self.deaths = deaths
        self.mark = Watermark(log, at.offset, done_above(at.offset, at.metadata))
        self.committed: Position | None = None
        self.moved = monotonic()
        """When the commit last moved."""

    @property
    def position(self) -> Position | None:
        offset, metadata = self.mark.mark, self.mark.metadata()
        if offset is None:
            return None
        if self.assignment.limit:
            count = self.deaths.at(offset)
            # What is handed out one at a time is said of each; else of whatever comes until the end.
            in_hands = not self.assignment.leaving and (count < deaths.ALONE_FROM or bool(self.mark.open))
            metadata = deaths.with_deaths(metadata, count, in_hands=in_hands)
        return Position(offset, metadata)

    @property
    def is_doubtful(self) -> bool:
        """Whether its messages are handed out one at a time."""
        return self.deaths.at(self.mark.mark) >= deaths.ALONE_FROM

    @property
    def is_said(self) -> bool:
        """Whether the next owner would count a death if this process died of what was taken."""
        if not self.assignment.limit:
            return True
        if self.is_doubtful:
            return self.committed == self.position
        return self.committed is not None and deaths.is_of_all(self.committed.metadata)


class Assignment:
    def __init__(self, member: Member, places: Sequence[TopicPartition], *, shared: int = 0, limit: int = 0) -> None:
        """`shared`: so many messages are shared out among the partitions; 0: they are not. `limit`: deaths of one
        message after which it is given up; 0: they are not counted."""
        self.member = member
        self.places = places
        self.limit = limit
        self._shared = shared
        self.leaving = False
        """Whether it ends in good order, and nothing of it is in anybody's hands any more."""
        self.doubtful: dict[TopicPartition, Partition] = {}
        """Those whose messages are handed out one at a time, and before all others."""
        self.epoch = Epoch()
        self.partitions: dict[TopicPartition, Partition] = {}
        """Empty until the last owners' positions were read."""
        self.ready = False
        self.went_back = False
        """Offsets did: another topic of the name is there, or records were lost."""
        self.open = 0
        """Records taken and not settled."""
        self.taken = 0.0
        """`time.monotonic()` of the newest of a doubtful partition."""
        self.handed = 0
        """Those of them that the core has."""
        self.quiet = asyncio.Event()
        """Set while the core has none."""
        self.quiet.set()

    def begin(self, log: str, known: Mapping[TopicPartition, Position], died: Mapping[TopicPartition, Deaths]) -> None:
        """`log`: the topic's id. `known`: where the group stands. `died`: of what the last owners may have died."""
        nowhere = Position(0, "")
        for place in self.places:
            share = Share(self._shared, len(self.places)) if self._shared else None
            at = known.get(place, nowhere)
            self.partitions[place] = Partition(self, log, at, share, died.get(place, deaths.NONE))
        self.doubtful = {place: one for place, one in self.partitions.items() if one.is_doubtful}
        self.ready = True

    def cleared(self) -> list[TopicPartition]:
        """Those that were doubtful when this was last asked, and are no longer."""
        found = [place for place, partition in self.doubtful.items() if not partition.is_doubtful]
        for place in found:
            del self.doubtful[place]
        return found

    def clear(self, place: TopicPartition) -> None:
        """Nothing is there that anybody could have died of."""
        self.doubtful[place].deaths = deaths.NONE

    def take(self, partition: Partition, batch: Sequence[ConsumerRecord]) -> list[Delivery]:
        """The deliveries of records that arrived, without those that were settled in an earlier assignment."""
        arrived, epoch, share = partition.mark.arrived, self.epoch, partition.share
        fitting: Iterable[ConsumerRecord] = batch if share is None else share.fitting(batch, partition.mark.open)
        deliveries = [
            Delivery(decode(record), epoch, partition, record) for record in fitting if arrived(record.offset)
        ]
        if deliveries and partition.is_doubtful:
            count = deliveries[0].redelivered = partition.deaths.at(partition.mark.mark)
            deliveries[0].given_up = count >= self.limit
            self.taken = monotonic()
        self.open += len(deliveries)
        if partition.mark.lost:
            self.went_back = True
            self.epoch.drain()
        return deliveries

    def hand(self, count: int) -> None:
        self.handed += count
        self.quiet.clear()

    def take_back(self, *, left_open: bool) -> None:
        """The core has settled one; `left_open`: it is to be handed out again here."""
        self.handed -= 1
        if not left_open:
            self.open -= 1
        if not self.handed:
            self.quiet.set()

    def uncommitted(self) -> dict[TopicPartition, Position]:
        return {
            place: position
            for place, partition in self.partitions.items()
            if (position := partition.position) is not None and position != partition.committed
        }

    def committed(self, positions: dict[TopicPartition, Position]) -> None:
        for place, position in positions.items():
            self.partitions[place].committed = position
            self.partitions[place].moved = monotonic()

    def stuck(self) -> str | None:
        """The first message that holds up a partition's commit for long, in words. A share is there to be held."""
        for place, partition in self.partitions.items():
            if partition.share is None and partition.mark.open and monotonic() - partition.moved > _STUCK_AFTER:
                offset = next(iter(partition.mark.open))
                return f"partition {place.partition}, offset {offset} is not settled for over {_STUCK_AFTER:g} s"
        return None
