"""unimsg: the same program on every broker."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import unimsg
from benchmarks.contestant import Arrivals, Contestant, Sender
from benchmarks.rows import HEADERS, IN_FLIGHT, key_of


class _Sender(Sender):
    def __init__(self, bus: unimsg.Bus, queue: unimsg.Queue[bytes], key: Callable[[bytes], str | None]) -> None:
        self._bus = bus
        self._queue = queue
        self._key = key

    async def send(self, body: bytes) -> None:
        await self._bus.send(self._queue, body, key=self._key(body), headers=HEADERS)

    async def pipeline(self, bodies: Sequence[bytes]) -> None:
        async with self._bus.pipeline(in_flight=IN_FLIGHT) as pipeline:
            for body in bodies:
                await pipeline.send(self._queue, body, key=self._key(body), headers=HEADERS)


class Unimsg(Contestant):
    @staticmethod
    def key(body: bytes) -> str | None:
        return None

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        queue = unimsg.Queue(self.channel, bytes)
        async with unimsg.connect(settings=unimsg.Settings(url=self.url)) as bus:
            yield _Sender(bus, queue, self.key)

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        service = unimsg.Service("benchmark")

        @service.handler(unimsg.Queue(self.channel, bytes), concurrency=concurrency)
        async def handle(body: bytes) -> None:
            arrivals.note(body)

        async with unimsg.connect(service, settings=unimsg.Settings(url=self.url)):
            await arrivals.complete.wait()


class UnimsgWithKeys(Unimsg):
    """On Kafka every contestant sends keys: they choose the partition."""

    @staticmethod
    def key(body: bytes) -> str | None:
        return key_of(body)
