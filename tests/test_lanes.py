"""Which delivery may be handled next, against a naive model that is obviously right."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unimsg._lanes import Lane, Lanes

KEYS = ["ann", "bob", "eve"]


def test_items_without_a_key_run_side_by_side_up_to_the_slots() -> None:
    lanes: Lanes[int] = Lanes(2)
    for item in (1, 2, 3):
        lanes.put(None, item)
    first, second = lanes.start(), lanes.start()
    assert [lane.head for lane in (first, second) if lane] == [1, 2]
    assert lanes.start() is None, "only two slots"
    assert not lanes.can_start
    assert first
    lanes.finish(first)
    third = lanes.start()
    assert third
    assert third.head == 3


def test_items_of_one_key_run_one_at_a_time_in_their_order() -> None:
    lanes: Lanes[int] = Lanes(5)
    for item in (1, 2):
        lanes.put("ann", item)
    lane = lanes.start()
    assert lane
    assert lane.head == 1
    assert lanes.start() is None, "the second of a key while the first runs"
    lanes.finish(lane)
    again = lanes.start()
    assert again
    assert again.head == 2


def test_a_key_that_waits_for_its_next_try_holds_no_slot_and_no_other_key() -> None:
    lanes: Lanes[int] = Lanes(1)
    lanes.put("ann", 1)
    lanes.put("ann", 2)
    lanes.put("bob", 3)
    ann = lanes.start()
    assert ann
    lanes.park(ann)
    bob = lanes.start()
    assert bob
    assert bob.head == 3, "another key takes the slot"
    assert lanes.start() is None
    lanes.finish(bob)
    assert lanes.start() is None, "a parked key is not started"
    lanes.wake(ann, 1)
    again = lanes.start()
    assert again is ann
    assert again.head == 1, "its head is tried again, before its follower"


def test_waking_a_key_that_does_not_wait_does_nothing() -> None:
    lanes: Lanes[int] = Lanes(2)
    lanes.put("ann", 1)
    lane = lanes.start()
    assert lane
    lanes.wake(lane, 1)
    assert lanes.start() is None, "it runs already"


def test_the_timer_of_what_was_shed_does_not_wake_the_next_that_waits() -> None:
    lanes: Lanes[int] = Lanes(1)
    lanes.put("ann", 1)
    lane = lanes.start()
    assert lane
    lanes.put("ann", 2)
    lanes.park(lane)
    lanes.shed(lambda item: item == 1)
    again = lanes.start()
    assert again is lane
    lanes.park(lane)
    lanes.wake(lane, 1)
    assert lanes.start() is None, "2 waits for a time of its own"
    lanes.wake(lane, 2)
    assert lanes.start() is lane


def test_what_comes_after_a_shed_head_begins_its_own_count() -> None:
    """Also if that one's time had come, and it waited for a slot."""
    lanes: Lanes[int] = Lanes(1)
    lanes.put("ann", 1)
    lane = lanes.start()
    assert lane
    lane.tries, lane.first_failed = 3, "yesterday"
    lanes.park(lane)
    lanes.put("ann", 2)
    lanes.wake(lane, 1)
    assert lanes.shed(lambda item: item == 1) == [1]
    assert lanes.start() is lane
    assert (lane.head, lane.tries, lane.first_failed) == (2, 0, None)


def test_shedding_takes_what_does_not_run() -> None:
    lanes: Lanes[int] = Lanes(2)
    for key, item in [("ann", 1), ("ann", 2), ("bob", 3), (None, 4)]:
        lanes.put(key, item)
    ann = lanes.start()
    assert sorted(lanes.shed(lambda _: True)) == [2, 3, 4]
    assert ann
    assert ann.head == 1
    lanes.put("ann", 5)
    assert lanes.start() is None, "1 still runs"
    lanes.finish(ann)
    again = lanes.start()
    assert again
    assert again.head == 5


def test_a_parked_key_whose_head_is_shed_goes_on_with_the_next() -> None:
    lanes: Lanes[int] = Lanes(2)
    lanes.put("ann", 1)
    lanes.put("ann", 2)
    lane = lanes.start()
    assert lane
    lanes.park(lane)
    assert lanes.shed(lambda item: item == 1) == [1]
    again = lanes.start()
    assert again
    assert (again.head, again.tries) == (2, 0)
    lanes.wake(lane, 1)  # the timer of the one that was shed
    assert lanes.start() is None, "2 runs once"


class Item:
    """Told apart by identity, as deliveries are."""

    def __init__(self, key: str | None, number: int) -> None:
        self.key = key
        self.number = number

    def __repr__(self) -> str:
        return f"{self.key}:{self.number}"


class Model:
    """All that is waiting, in one list; everything is looked up anew."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.waiting: list[Item] = []  # in order of arrival, without what runs; with what is parked
        self.running: list[Item] = []
        self.parked: list[Item] = []

    def may_start(self) -> list[Item]:
        if len(self.running) >= self.slots:
            return []
        return [item for item in self.waiting if self._may_start(item)]

    def _may_start(self, item: Item) -> bool:
        if item.key is None:
            return item not in self.parked
        if any(other.key == item.key for other in self.running + self.parked):
            return False
        return next(other for other in self.waiting if other.key == item.key) is item


class LanesMachine(RuleBasedStateMachine):
    """Any sequence of calls: the lanes start only what the model allows, and always something if it allows any."""

    @initialize(slots=st.integers(1, 4))
    def begin(self, slots: int) -> None:
        self.lanes: Lanes[Item] = Lanes(slots)
        self.model = Model(slots)
        self.runs: dict[Item, Lane[Item]] = {}
        self.parked: dict[Item, Lane[Item]] = {}
        self.done: list[Item] = []
        self.made = 0

    @rule(key=st.sampled_from([*KEYS, None]))
    def put(self, key: str | None) -> None:
        self.made += 1
        item = Item(key, self.made)
        self.lanes.put(key, item)
        self.model.waiting.append(item)

    @rule()
    def start(self) -> None:
        allowed = self.model.may_start()
        lane = self.lanes.start()
        if lane is None:
            assert not allowed, f"nothing was started, though {allowed} may be"
            return
        item = lane.head
        assert item in allowed, f"{item} was started, allowed were {allowed}"
        self.model.waiting.remove(item)
        self.model.running.append(item)
        self.runs[item] = lane

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(list(self.runs)), "item that ends")
        self.lanes.finish(self.runs.pop(item))
        self.model.running.remove(item)
        self.done.append(item)

    @precondition(lambda self: any(item.key for item in self.runs))
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([item for item in self.runs if item.key]), "item that fails")
        lane = self.runs.pop(item)
        self.lanes.park(lane)
        self.parked[item] = lane
        self.model.running.remove(item)
        self.model.parked.append(item)
        first = next((n for n, other in enumerate(self.model.waiting) if other.key == item.key), None)
        self.model.waiting.insert(len(self.model.waiting) if first is None else first, item)

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(list(self.parked)), "item whose time has come")
        self.lanes.wake(self.parked.pop(item), item)
        if item in self.model.parked:
            self.model.parked.remove(item)

    @rule(key=st.sampled_from([*KEYS, None]), odd=st.booleans())
    def shed(self, key: str | None, odd: bool) -> None:
        def unwanted(item: Item) -> bool:
            return item.key == key and (item.number % 2 == 1) == odd

        wanted = [item for item in self.model.waiting if unwanted(item)]
        got = self.lanes.shed(unwanted)
        assert [item for item in got if item.key] == [item for item in wanted if item.key], "of one key, in order"
        assert set(got) == set(wanted), f"shed {got}, wanted {wanted}"
        self.model.waiting = [item for item in self.model.waiting if item not in got]
        self.model.parked = [item for item in self.model.parked if item not in got]
        # The timers of what was shed stay, and wake a lane that does not wait any more, as in the consumer.

    @invariant()
    def no_key_runs_twice_and_no_slot_too_many(self) -> None:
        if not hasattr(self, "model"):
            return
        keys = [item.key for item in self.model.running if item.key]
        assert len(keys) == len(set(keys)), f"one key twice: {self.model.running}"
        assert len(self.model.running) <= self.model.slots
        assert self.lanes.can_start == bool(self.model.may_start())

    def teardown(self) -> None:
        """Whatever happened before, all that is left runs, and each key in its order."""
        if not hasattr(self, "model"):
            return
        for item in list(self.parked):
            self.lanes.wake(self.parked.pop(item), item)
        self.model.parked.clear()
        while self.runs or self.model.waiting:
            while self.model.may_start():
                self.start()
            assert self.runs, f"stuck with {self.model.waiting}"
            item = next(iter(self.runs))
            self.lanes.finish(self.runs.pop(item))
            self.model.running.remove(item)
            self.done.append(item)
        for key in KEYS:
            numbers = [item.number for item in self.done if item.key == key]
            assert numbers == sorted(numbers), f"{key} out of order: {numbers}"
        assert not self.lanes._lanes, "lanes of keys that are done stay in memory"


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
