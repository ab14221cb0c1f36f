"""Copies of messages that failed: to wait for their next attempt, or to the dead-letter queue.

The copy is confirmed before the original is acknowledged. A process that dies in between leaves both: a message is
then handled once more, and never lost.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from unimsg._brokers import Broker
from unimsg._publisher import Publisher
from unimsg._publishers import OPEN_TIMEOUT, Publishers
from unimsg._strangers import bare, is_beyond_limits
from unimsg._waiting import place_for, retry_room, step_for, waiting
from unimsg.adapter import Address, Wanted, Wire
from unimsg.backoff import Backoff
from unimsg.dead_letters import ATTEMPT, DUE, FIRST_FAILED, UNTIL, dead_address
from unimsg.errors import MessageTooLarge, Refused, TopologyError, UnimsgError, Unroutable

log = logging.getLogger("unimsg")

COPY_TIMEOUT = 10.0
"""Seconds for one try; the original is kept meanwhile, and afterwards until a try succeeds."""


class Copy:
    """One message on its way to somewhere else."""

    __slots__ = ("_backoff", "_missing", "_publisher", "due", "is_dead", "is_onward", "is_stored", "then", "wire")

    def __init__(self, wire: Wire, publisher: Publisher, missing: Callable[[], None]) -> None:
        self.wire = wire
        self.due: float | None = None
        """When the message is to be handled again, in seconds since the epoch."""
        self.is_onward = False
        """Whether it only goes on waiting: no attempt was made."""
        self.is_dead = False
        """Whether it is a dead letter, and not tried again."""
        self.is_stored = False
        """Whether it was confirmed, and only what is to go `then` was not."""
        self.then: Copy | None = None
        """What is sent after it, before the original may go."""
        self._publisher = publisher
        self._missing = missing
        self._backoff = Backoff()

    async def send(self) -> UnimsgError | None:
        """None: confirmed, the original may go. An error: it stays, and the copy is tried again."""
        if not self.is_stored:
            error = await self._publisher.submit(self.wire, COPY_TIMEOUT)
            if isinstance(error, Unroutable):  # deleted meanwhile: the next try makes it again, if that is ours to do
                self._missing()
            if error is not None:
                return error
            self.is_stored = True
        return None if self.then is None else await self.then.send()

    def is_late(self) -> bool:
        """Whether it need not go on waiting any more."""
        return self.is_onward and self.due is not None and self.due <= time.time()

    def next_wait(self) -> float:
        """Seconds until it is worth another try."""
        return self._backoff.next()


class Copies:
    """Where the copies of one handler's messages go."""

    def __init__(self, broker: Broker, address: Address, wanted: Wanted, delays: tuple[float, ...]) -> None:
        self._broker = broker
        self._address = address
        self._wanted = wanted
        self._delays = delays
        self._publishers = Publishers(broker, wanted)
        self.native = broker.adapter.capabilities.max_delay > 0
        """Whether the broker keeps messages back by itself."""

    async def prepare(self) -> None:
        """Makes the dead-letter queue: the first message may have to go there. Raises: as `Adapter.ensure`."""
        wanted = Wanted(self._wanted.options)
        await self._broker.preparation.prepare(dead_address(self._address), wanted, timeout=OPEN_TIMEOUT)

    def again(self, wire: Wire, delay: float, attempt: int, first_failed: str) -> Copy:
        """To be handled again, as the `attempt`th attempt, `delay` seconds from now at the earliest."""
        headers = {**_travelling(wire), ATTEMPT: str(attempt), FIRST_FAILED: first_failed}
        retried = Wire(wire.id, wire.body, headers, wire.key)
        now = time.time()  # looked at once: of a delay reckoned from two looks the step or room may be the next one
        if self.native:
            copy = self._to(self._address, retried, self._step(delay))
        else:
            copy = self._held(retried, now + delay, now)
        copy.due = now + delay
        return copy

    def wait(self, delay: float) -> float:
        """How long a copy waits that is to wait `delay` seconds."""
        return self._step(delay) if self.native else delay

    def onward(self, wire: Wire, due: float) -> Copy:
        """It has left its room before it is due."""
        copy = self._held(wire, due, time.time())
        copy.due, copy.is_onward = due, True
        return copy

    def dead(self, wire: Wire, record: Mapping[str, str]) -> Copy:
        """To the dead-letter queue."""
        letter = Wire(wire.id, wire.body, {**_travelling(wire), **record}, wire.key)
        copy = self._to(dead_address(self._address), letter)
        copy.is_dead = True
        return copy

    def reduced(self, copy: Copy) -> Copy:
        """A dead letter without what its broker cannot carry: a stranger's headers, id or key."""
        letter = self._to(dead_address(self._address), bare(copy.wire, self._broker.adapter.attribute_prefix))
        letter.is_dead = True
        letter.then = copy.then
        return letter

    def has_nowhere_to_wait(self, copy: Copy, error: UnimsgError) -> bool:
        """Whether a copy cannot wait elsewhere: nobody made where, and it is not ours to make; or it has what the
        broker cannot carry."""
        missing = isinstance(error, TopologyError | Unroutable) and not self._broker.preparation.makes
        return missing or self.cannot_travel(copy, error)

    def cannot_travel(self, copy: Copy, error: UnimsgError) -> bool:
        """Whether it was refused, and has what only strangers put into messages."""
        return not copy.is_stored and isinstance(error, MessageTooLarge | Refused) and is_beyond_limits(copy.wire)

    async def aclose(self) -> None:
        """Returns when every copy has its outcome."""
        await self._publishers.aclose()

    def _held(self, wire: Wire, due: float, now: float) -> Copy:
        """Through the room where it waits."""
        place = place_for(due, now)
        return self._to(retry_room(self._address, place.suffix), waiting(wire, due, place.until))

    def _to(self, address: Address, wire: Wire, delay: float = 0.0) -> Copy:
        publishers = self._publishers
        return Copy(wire, publishers.to(address, delay), partial(publishers.forget, address, delay))

    def _step(self, delay: float) -> float:
        """The queue of the policy's own step exists; any other wait is rounded up to a common one."""
        if delay <= 0:
            return 0.0
        return min((step for step in (*self._delays, step_for(delay)) if step >= delay), default=step_for(delay))


def _travelling(wire: Wire) -> Mapping[str, str]:
    """The headers without those that only said how long it waits."""
    return {name: value for name, value in wire.headers.items() if name not in (DUE, UNTIL)}
