"""Sending now what is to arrive later: by the broker, or through the rooms of brokers that cannot."""

import time
from typing import TYPE_CHECKING

from unimsg._brokers import Broker
from unimsg._publisher import Outcome, Publisher
from unimsg._publishers import Publishers
from unimsg._waiting import MAX_DELAY, delay_room, place_for, retry_room, step_for, waiting
from unimsg.adapter import Address, Kind, Wanted, Wire
from unimsg.errors import CapabilityError

if TYPE_CHECKING:
    from unimsg._forwarding import Forwarder


class Delays:
    """Of one channel. What is delayed to a queue waits where its retries do, and its receivers let it go; what is to
    be published waits apart, and any process that uses the topic publishes it in time."""

    def __init__(self, broker: Broker, address: Address, wanted: Wanted, publisher: Publisher) -> None:
        self._broker = broker
        self._address = address
        self._wanted = wanted
        self._publisher = publisher
        self._native = broker.adapter.capabilities.max_delay > 0
        self._publishers = Publishers(broker, wanted)
        self._forwarder: Forwarder | None = None
        self._stopped = False

    @property
    def problem(self) -> str | None:
        """Why what is to be published later does not come, if that is known."""
        return None if self._forwarder is None else self._forwarder.problem

    def check(self, delay: float) -> None:
        """Raises CapabilityError for what no broker can do."""
        name = self._address.name
        if self._address.ordered:
            raise CapabilityError(
                f"{name}: delay on an ordered channel: what was sent later would overtake it: leave delay out, or send "
                "to a channel that is not ordered"
            )
        if delay > MAX_DELAY:
            raise CapabilityError(f"{name}: a delay of {delay:g} s, at most {MAX_DELAY:g} s (24 hours)")

    def submit(self, wire: Wire, timeout: float, delay: float) -> Outcome:
        """As `Publisher.submit`. Raises: as `check`."""
        return self.submit_and_tell(wire, timeout, delay)[0]

    def submit_and_tell(self, wire: Wire, timeout: float, delay: float) -> tuple[Outcome, Publisher]:
        """As `submit`, and who sends it."""
        self.check(delay)
        if self._native:
            publisher = self._publishers.to(self._address, step_for(delay))
            return publisher.submit(wire, timeout), publisher
        now = time.time()
        due = now + delay
        place = place_for(due, now)
        room = delay_room if self._address.kind is Kind.TOPIC else retry_room
        publisher = self._publishers.to(room(self._address, place.suffix))
        outcome = publisher.submit(waiting(wire, due, place.until), timeout)
        if self._address.kind is Kind.TOPIC:
            self.forward(place.suffix)
        return outcome, publisher

    def forward(self, suffix: str | None = None) -> None:
        """Publishes from now on what is due in the rooms of the topic that exist, and in this one."""
        if self._stopped or self._native or self._address.kind is not Kind.TOPIC or self._address.ordered:
            return
        if self._forwarder is None:
            from unimsg._forwarding import Forwarder  # not above: who only sends needs none of it

            wanted = Wanted(self._wanted.options)
            self._forwarder = Forwarder(self._broker, self._address, wanted, self._publisher, self._publishers)
        self._forwarder.open(suffix)

    async def stop(self) -> None:
        """Publishes no more of what others delayed, too; it waits for other processes. Idempotent."""
        self._stopped = True
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            await forwarder.stop()

    async def aclose(self) -> None:
        """Returns when every message submitted before has its outcome."""
        await self.stop()
        await self._publishers.aclose()
