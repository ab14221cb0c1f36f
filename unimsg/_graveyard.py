"""The dead letters of one queue or subscription: reading them, and finding those that are to be put back."""

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from unimsg._redriving import Chosen, Dropping, Redriving
from unimsg._routes import OPEN_TIMEOUT, Route
from unimsg._targets import source_of
from unimsg.adapter import ChannelMissing, Wire
from unimsg.dead_letters import DeadLetter, dead_address, read
from unimsg.errors import TopologyError

log = logging.getLogger("unimsg")

SHOWN, SHOWN_BYTES = 10_000, 32 * 1024 * 1024
"""Letters, and bytes of their bodies, that one call shows."""
AT_ONCE = 10_000
"""Letters that are put back before it is looked for more."""


class Graveyard:
    """See `Bus.dead_letters`, `Bus.redrive` and `Bus.drop_dead_letters`."""

    def __init__(self, route: Route, subscription: str | None) -> None:
        self._route = route
        self._source = source_of(route, subscription)
        self._dead = dead_address(self._source)
        self._moving: Redriving | None = None

    @property
    def moved(self) -> int:
        """How many the call that runs has put back or dropped so far."""
        return self._moving.moved if self._moving is not None else 0

    async def letters(self) -> Sequence[DeadLetter]:
        """Read to the end before any is shown: who reads them slowly keeps none from others, and may redrive them."""
        letters: list[DeadLetter] = []
        size = 0
        async with aclosing(self._pages(SHOWN + 1)) as pages:
            async for page in pages:
                for wire in page:
                    if len(letters) == SHOWN or (letters and size + len(wire.body) > SHOWN_BYTES):
                        log.warning("%s: there are more dead letters than the %d shown", self._dead.name, len(letters))
                        return letters
                    letters.append(self._read(wire))
                    size += len(wire.body)
        return letters

    async def all(self) -> AsyncGenerator[DeadLetter, None]:
        """However many; to be closed by who does not read to the end. Meanwhile they may be kept from others."""
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                for wire in page:
                    yield self._read(wire)

    async def redrive(self, where: Callable[[DeadLetter], bool], limit: int | None, rate: float | None) -> int:
        if (limit is not None and limit < 1) or (rate is not None and not rate > 0):
            raise ValueError("limit must be 1 or more, rate more than 0 a second")
        return await self._move(Redriving(self._route, self._source, self._dead), where, limit, rate)

    async def drop(self, where: Callable[[DeadLetter], bool], limit: int | None) -> int:
        if limit is not None and limit < 1:
            raise ValueError("limit must be 1 or more")
        return await self._move(Dropping(self._route, self._source, self._dead), where, limit, None)

    async def _move(
        self, moving: Redriving, where: Callable[[DeadLetter], bool], limit: int | None, rate: float | None
    ) -> int:
        chosen = await self._choose(where, limit)
        left = chosen.count  # no more: what fails again meanwhile is a dead letter for the next call
        self._moving = moving
        while chosen.ids:
            await moving.move(chosen, rate)
            if moving.missing:
                log.warning(
                    "%s: %d dead letters that were chosen did not come, others took or hold them: try again",
                    self._dead.name,
                    moving.missing,
                )
                break
            if moving.moved >= left:
                break
            chosen = await self._choose(where, min(left - moving.moved, AT_ONCE))
        return moving.moved

    async def _choose(self, where: Callable[[DeadLetter], bool], most: int | None) -> Chosen:
        """Looks at all, or until `most` are found."""
        ids: Counter[str] = Counter()
        count = looked_at = largest = 0
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                for wire in page:
                    looked_at, largest = looked_at + 1, max(largest, len(wire.body))
                    if not where(self._read(wire)):
                        continue
                    count += 1
                    if count <= AT_ONCE:
                        ids[wire.id] += 1
                    if count == most:
                        return Chosen(ids, count, looked_at, largest)
        return Chosen(ids, count, looked_at, largest)

    async def _pages(self, limit: int = 2**31) -> AsyncGenerator[Sequence[Wire], None]:
        await self._route.broker.connect()
        operations = self._route.broker.adapter.operations()
        try:
            async with aclosing(operations.browse(self._dead, limit=limit, timeout=OPEN_TIMEOUT)) as pages:
                async for page in pages:
                    yield page
        except ChannelMissing as error:
            raise TopologyError(
                f"{error}: it is made when {self._source.name} is handled for the first time"
            ) from error

    def _read(self, wire: Wire) -> DeadLetter:
        return read(wire, self._route.prefix, self._route.channel.name)
