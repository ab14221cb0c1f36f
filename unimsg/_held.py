"""What a handler holds, until it is settled: in lanes, and how it leaves them or waits in them."""

import asyncio
from collections.abc import Callable
from typing import Literal

from unimsg._failing import Failing
from unimsg._lanes import Lane, Lanes
from unimsg._settlements import Settlements
from unimsg._suspects import Suspects
from unimsg.adapter import Delivery, Receiver

Work = tuple[Delivery, Receiver]


class Held:
    """Of one handler. `go_on`: called when handlers may start that could not before."""

    def __init__(self, failing: Failing, *, slots: int, ordered: bool, go_on: Callable[[], None]) -> None:
        self.lanes: Lanes[Work] = Lanes(slots)
        self.settlements = Settlements()
        self.stopping = False
        """Whether nothing is begun any more."""
        self.suspects = Suspects(ordered=ordered, go_on=go_on)
        self.single: set[Delivery] = set()
        """Of a batch that failed: to be handled by themselves."""
        self._failing = failing
        self._ordered = ordered
        self._go_on = go_on

    def put(self, delivery: Delivery, receiver: Receiver) -> None:
        key = delivery.wire.key if self._ordered else None
        self.lanes.put(delivery if key is None else key, (delivery, receiver))  # a lane of its own: it can be parked

    def shed(self, unwanted: Callable[[Work], bool]) -> None:
        """Gives back what does not run."""
        for delivery, receiver in self.lanes.shed(unwanted):
            self.forget(delivery)
            self.settlements.add(receiver, "release", delivery)

    def holds(self, receiver: Receiver) -> bool:
        """Whether something of it is not settled, or its settlement not taken yet."""
        return self.lanes.any(lambda work: work[1] is receiver) or self.settlements.holds(receiver)

    def settle(self, lane: Lane[Work], verb: Literal["ack", "release"]) -> None:
        delivery, receiver = lane.head
        self.forget(delivery)
        self.settlements.add(receiver, verb, delivery)
        self.lanes.finish(lane)

    def forget(self, delivery: Delivery) -> None:
        """It is settled, or given back."""
        self.single.discard(delivery)
        self._failing.forget(delivery)
        if delivery in self.suspects.held:
            self.suspects.forget(delivery)

    def wait_in_place(self, lane: Lane[Work], wait: float) -> None:
        """It stays unsettled, and others go on. Giving it back to the broker would count against RabbitMQ's delivery
        limit, which is there for processes that die."""
        delivery, _ = lane.head
        if delivery.epoch.draining or (self.stopping and not self._ordered):
            self.settle(lane, "release")
        else:
            self.lanes.park(lane)
            asyncio.get_running_loop().call_later(wait, self._wake, lane, lane.head)

    def _wake(self, lane: Lane[Work], work: Work) -> None:
        self.lanes.wake(lane, work)
        self._go_on()
