"""Taking messages in from one address, whatever happens to it: opened, received from, opened again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from unimsg._brokers import Broker
from unimsg.adapter import Address, ChannelMissing, Delivery, Receiver, ReceiverClosed, Wanted
from unimsg.backoff import Backoff
from unimsg.errors import TopologyError, UnimsgError

log = logging.getLogger("unimsg")

OPEN_TIMEOUT = 30.0
"""Seconds for making the channel and the receiver."""

Admit = Callable[[Sequence[Delivery], Receiver], None]


class Intake:
    """Hands every batch that arrives to `admit`. Nothing that happens to a connection or to the channel ends it
    before `stop`."""

    def __init__(
        self, name: str, broker: Broker, address: Address, wanted: Wanted, admit: Admit, *, prefetch: int, grace: float
    ) -> None:
        self.address = address
        self.problem: str | None = None
        """Why it receives nothing at present."""
        self.receiver: Receiver | None = None
        self._name = name
        self._broker = broker
        self._wanted = wanted
        self._admit = admit
        self.prefetch = prefetch
        """What the next receiver is opened with."""
        self._grace = grace
        self._left: list[Receiver] = []
        """Those that hand out nothing more, and may have something unsettled."""
        self._task: asyncio.Task[None] | None = None
        self._reopening = False

    @property
    def live(self) -> bool:
        """Whether it still takes messages in; False is a bug of ours or the end."""
        return self._reopening or (self._task is not None and not self._task.done())

    async def prepare(self) -> None:
        """Makes the channel; `start` does so, too. Raises: as `Adapter.ensure`."""
        await self._broker.preparation.prepare(self.address, self._wanted, timeout=OPEN_TIMEOUT)

    async def start(self) -> None:
        """Raises: as `Adapter.ensure`."""
        try:
            self.receiver = await self._open()
        except ChannelMissing as error:  # nobody was to make it, or to look
            raise TopologyError(f'{error}: create it, or run once with topology = "create"') from error
        self._task = asyncio.create_task(self._take_in(self.receiver), name=f"unimsg {self.address.name}")

    async def stop(self) -> None:
        """Takes no more in. What was handed out can still be settled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.receiver is not None:
            await self.receiver.stop()

    async def reopen(self, prefetch: int, empty: Callable[[], Awaitable[None]]) -> None:
        """Gives back everything unsettled, and goes on with another prefetch. `empty`: awaited once nothing more comes
        in, to end what can be ended."""
        self._reopening = True
        try:
            await self.stop()
            await empty()
            await self.aclose()
            self._go_on_with(prefetch)
        finally:
            self._reopening = False

    async def replace(self, prefetch: int) -> Receiver | None:
        """Goes on with another prefetch; returns the receiver that it had, which hands out nothing more. Whoever has
        settled what that one handed out closes it with `close`."""
        self._reopening = True
        try:
            await self.stop()
            if (old := self.receiver) is not None:
                self._left.append(old)
                self.receiver = None
            self._go_on_with(prefetch)
        finally:
            self._reopening = False
        return old

    async def close(self, old: Receiver) -> None:
        """A receiver that was replaced."""
        await old.aclose()
        if old in self._left:  # not closed with the others meanwhile
            self._left.remove(old)

    async def aclose(self) -> None:
        """After `stop` and the last settlement: what is unsettled goes back."""
        for receiver in [*self._left, *([self.receiver] if self.receiver is not None else [])]:
            await receiver.aclose()
        self._left.clear()

    def _go_on_with(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self._task = asyncio.create_task(self._go_on(), name=f"unimsg {self.address.name}")

    async def _open(self) -> Receiver:
        await self.prepare()
        return await self._broker.adapter.receiver(
            self.address, prefetch=self.prefetch, timeout=OPEN_TIMEOUT, grace=self._grace
        )

    async def _go_on(self) -> None:
        await self._take_in(await self._open_until_it_is("opening its receiver again fails"))

    async def _take_in(self, receiver: Receiver) -> None:
        backoff = Backoff()
        while True:
            try:
                batch = await receiver.receive()
            except ReceiverClosed:
                return
            except ChannelMissing as error:
                receiver = await self._open_again(receiver, error)
                continue
            except Exception as error:  # a bug of an adapter must not end the intake silently
                self.problem = f"receiving fails: {type(error).__name__}"
                log.exception("%s: receiving failed", self._name)
                await asyncio.sleep(backoff.next())
                continue
            self.problem = None
            backoff.reset()
            self._admit(batch, receiver)

    async def _open_again(self, old: Receiver, error: ChannelMissing) -> Receiver:
        """Its channel was deleted: make it again if that is ours to do, else wait until somebody does."""
        log.error("%s: its channel was deleted: %s", self._name, error)
        await old.aclose()
        self._broker.preparation.forget(self.address)
        return await self._open_until_it_is("its channel was deleted, and opening it again fails")

    async def _open_until_it_is(self, what: str) -> Receiver:
        """However long it takes."""
        backoff = Backoff()
        while True:
            try:
                self.receiver = await self._open()
            except (UnimsgError, TimeoutError) as error:
                self.problem = f"{what}: {error}"
                log.warning("%s: %s", self._name, self.problem)
            except Exception as error:  # a bug of an adapter must not end the intake silently
                self.problem = f"{what}: {type(error).__name__}"
                log.exception("%s: %s", self._name, what)
            else:
                self.problem = None
                return self.receiver
            self._broker.preparation.forget(self.address)  # it may have to be made
            await asyncio.sleep(backoff.next())
