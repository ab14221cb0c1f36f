"""Which delivery may be handled next: lanes and slots. Pure: no broker, no clock, no task."""

from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class _State(Enum):
    READY = auto()  # has items, waits for a slot
    RUNNING = auto()  # its head is being handled
    PARKED = auto()  # its head waits for a later try, without a slot


class Lane(Generic[Item]):
    """The items of one key, oldest first. The head is the one that runs or waits for its next try; of a batch, some
    behind it run too."""

    __slots__ = ("first_failed", "items", "key", "running", "state", "tries")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.items: deque[Item] = deque()
        self.state = _State.READY
        self.running = 0
        """How many of its items run: more than one only as a batch."""
        self.tries = 0
        """How often the head was tried in vain in here."""
        self.first_failed: str | None = None
        """When it was for the first time."""

    @property
    def head(self) -> Item:
        return self.items[0]


class Lanes(Generic[Item]):
    """At most `slots` lanes run at once, each with one item at a time; items of one key run in their order."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._lanes: dict[Hashable, Lane[Item]] = {}
        self._ready: deque[Lane[Item]] = deque()

    @property
    def held(self) -> int:
        """How many items are in keyed lanes."""
        return sum(len(lane.items) for lane in self._lanes.values())

    @property
    def parked(self) -> int:
        """How many lanes wait for the next try of their head."""
        return sum(lane.state is _State.PARKED for lane in self._lanes.values())

    @property
    def can_start(self) -> bool:
        return self._free > 0 and bool(self._ready)

    def put(self, key: Hashable, item: Item) -> None:
        """Adds an item. `key` None: it keeps no order with any other."""
        if key is None:
            lane: Lane[Item] = Lane(None)
            lane.items.append(item)
            self._ready.append(lane)
            return
        known = self._lanes.get(key)
        if known is None:
            known = self._lanes[key] = Lane(key)
            self._ready.append(known)
        known.items.append(item)

    def start(self) -> Lane[Item] | None:
        """The next lane whose head may run now; it has a slot until `finish` or `park`."""
        if not self._free or not self._ready:
            return None
        lane = self._ready.popleft()
        lane.state = _State.RUNNING
        lane.running = 1
        self._free -= 1
        return lane

    def widen(self, lane: Lane[Item], most: int) -> int:
        """Of a lane that was started: up to `most` items run together. Returns how many."""
        lane.running = min(len(lane.items), most)
        return lane.running

    def finish(self, lane: Lane[Item]) -> None:
        """Its head is done with, whatever became of it. The slot is free when all that run are."""
        lane.items.popleft()
        lane.tries, lane.first_failed = 0, None
        lane.running -= 1
        if not lane.running:
            self._free += 1
            self._ready_or_gone(lane)

    def put_back(self, lane: Lane[Item]) -> None:
        """What runs of it stays, and can be started again."""
        self._free += 1
        lane.running = 0
        self._ready_or_gone(lane)

    def park(self, lane: Lane[Item]) -> None:
        """Its head stays and gives up its slot until `wake`."""
        self._free += 1
        lane.running = 0
        lane.state = _State.PARKED

    def wake(self, lane: Lane[Item], head: Item) -> None:
        """Its head may be tried again. Nothing happens unless it is parked, with this head: the one whose time came may
        have been shed, and another may wait by now."""
        if lane.state is _State.PARKED and lane.head is head:
            self._ready_or_gone(lane)

    def sort(self, place: Callable[[Item], Any]) -> None:
        """Those that could start do so in the order of their heads' places."""
        self._ready = deque(sorted(self._ready, key=lambda lane: place(lane.head)))

    def any(self, wanted: Callable[[Item], bool]) -> bool:
        """Whether there is such an item, running or not."""
        return any(wanted(item) for lane in self._lanes.values() for item in lane.items)

    def shed(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Takes out all unwanted items that do not run, each lane's in their order."""
        shed: list[Item] = []
        for lane in [*self._lanes.values(), *(lane for lane in self._ready if lane.key is None)]:
            head = lane.items[0]
            kept: deque[Item] = deque()
            for index, item in enumerate(lane.items):
                (shed if index >= lane.running and unwanted(item) else kept).append(item)
            lane.items = kept
            if kept and kept[0] is head:
                continue
            lane.tries, lane.first_failed = 0, None
            if lane.state is _State.PARKED:  # what waited for its next try is gone
                lane.state = _State.READY
                self._ready.append(lane)
        self._ready = deque(lane for lane in self._ready if lane.items)
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.items}
        return shed

    def _ready_or_gone(self, lane: Lane[Item]) -> None:
        if lane.items:
            lane.state = _State.READY
            self._ready.append(lane)
        elif lane.key is not None:
            del self._lanes[lane.key]
