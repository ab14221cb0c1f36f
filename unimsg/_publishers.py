"""Publishers to what belongs to a channel: made when they are needed, closed together."""

import asyncio
from functools import partial

from unimsg._brokers import Broker
from unimsg._publisher import Publisher
from unimsg.adapter import Address, Wanted

OPEN_TIMEOUT = 30.0
"""Seconds for making what is sent to."""


class Publishers:
    """By address, and by the delay that the broker keeps their messages back for."""

    def __init__(self, broker: Broker, wanted: Wanted) -> None:
        self._broker = broker
        self._options = wanted.options
        self._publishers: dict[tuple[Address, float], Publisher] = {}

    def to(self, address: Address, delay: float = 0.0) -> Publisher:
        """It makes its address with the first message."""
        publisher = self._publishers.get((address, delay))
        if publisher is None:
            wanted = Wanted(self._options, delays=(delay,) if delay else ())
            make = partial(self._make, address, wanted)
            publisher = self._publishers[address, delay] = Publisher(self._broker.adapter, address, make, delay=delay)
        return publisher

    def forget(self, address: Address, delay: float = 0.0) -> None:
        """What it sends to was deleted: the next message makes it again, if that is ours to do."""
        self._broker.preparation.forget(address)
        self.to(address, delay).is_open = False

    async def aclose(self) -> None:
        """Returns when every message submitted before has its outcome."""
        await asyncio.gather(*(publisher.aclose() for publisher in self._publishers.values()))

    async def _make(self, address: Address, wanted: Wanted) -> None:
        await self._broker.connect()
        await self._broker.preparation.prepare(address, wanted, timeout=OPEN_TIMEOUT)
