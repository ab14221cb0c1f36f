"""Publishing what waited: for brokers that cannot delay by themselves."""

import asyncio
import logging
import time
from functools import partial

from unimsg._brokers import Broker
from unimsg._message import shown
from unimsg._publisher import Publisher
from unimsg._publishers import Publishers
from unimsg._room import Rooms
from unimsg._settlements import Settlements
from unimsg._waiting import delay_room, due_of, place_for, waiting
from unimsg.adapter import Address, Delivery, Receiver, Wanted, Wire
from unimsg.backoff import Backoff
from unimsg.dead_letters import DUE, UNTIL
from unimsg.errors import UnimsgError, Unroutable

log = logging.getLogger("unimsg")

TIMEOUT = 10.0
GRACE = 5.0


class Forwarder:
    """Moves messages from the rooms of one topic to the topic when they are due: confirmed there, then settled."""

    def __init__(
        self, broker: Broker, topic: Address, wanted: Wanted, publisher: Publisher, publishers: Publishers
    ) -> None:
        self._topic = topic
        self._publisher = publisher
        self._publishers = publishers
        self._settlements = Settlements()
        self._rooms = Rooms(topic.name, broker, partial(delay_room, topic), wanted, self._left, grace=GRACE)
        self._moving: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._broker = broker
        self._started = False
        self._problem: str | None = None
        """Why a message that is due could not be published, None after one that could."""

    @property
    def problem(self) -> str | None:
        """Why what is delayed does not come, if that is known."""
        opened = (intake.problem for intake in self._rooms.intakes if intake.problem is not None)
        return self._problem if self._problem is not None else next(opened, None)

    def open(self, suffix: str | None) -> None:
        """Begins to look for rooms that exist, and opens this one."""
        if not self._started:
            self._started = True
            self._rooms.look()
        if suffix is not None and not self._rooms.has(suffix):
            task = asyncio.create_task(self._open(suffix))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def stop(self) -> None:
        """Ends in order: what is on its way arrives, the rest goes back."""
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening)
        await self._rooms.stop()
        if self._moving:
            _, late = await asyncio.wait(self._moving, timeout=GRACE)
            for task in late:
                task.cancel()
        await self._settlements.drain()
        await self._rooms.aclose()

    async def _open(self, suffix: str) -> None:
        try:
            await self._broker.connect()
            await self._rooms.open(suffix)
        except (UnimsgError, TimeoutError) as error:  # looked for again in a minute, here and by other processes
            log.warning("%s: opening %s: %s", self._topic.name, delay_room(self._topic, suffix).name, error)

    def _left(self, delivery: Delivery, receiver: Receiver) -> None:
        task = asyncio.create_task(self._move(delivery, receiver))
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)

    async def _move(self, delivery: Delivery, receiver: Receiver) -> None:
        backoff = Backoff()
        while not delivery.epoch.draining:
            error = await self._forward(delivery.wire)
            self._problem = None if error is None else f"what is due cannot be published: {error}"
            if error is None:
                self._settlements.add(receiver, "ack", delivery)
                return
            log.warning("%s: message %s is due and stays: %s", self._topic.name, shown(delivery.wire.id), error)
            await asyncio.sleep(backoff.next())
        self._settlements.add(receiver, "release", delivery)

    async def _forward(self, wire: Wire) -> UnimsgError | None:
        due, now = due_of(wire), time.time()
        if due > now:
            place = place_for(due, now)
            return await self._onward(delay_room(self._topic, place.suffix), waiting(wire, due, place.until))
        headers = {name: value for name, value in wire.headers.items() if name not in (DUE, UNTIL)}
        return await self._publisher.submit(Wire(wire.id, wire.body, headers, wire.key), TIMEOUT)

    async def _onward(self, room: Address, wire: Wire) -> UnimsgError | None:
        """It has left one room before it is due."""
        error = await self._publishers.to(room).submit(wire, TIMEOUT)
        if isinstance(error, Unroutable):
            self._publishers.forget(room)
        return error
