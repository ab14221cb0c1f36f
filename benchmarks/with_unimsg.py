"""unimsg: the same program on every broker."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import unimsg
from benchmarks.arrivals import Arrivals, FailingOnce, InOrder
from benchmarks.contestant import Ask, Asking, Contestant, Sender
from benchmarks.rows import HEADERS, IN_FLIGHT, RETRY_DELAY, key_of


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
    ordered: ClassVar[bool] = False
    retry: ClassVar[unimsg.Retry] = unimsg.Retry()

    @staticmethod
    def key(body: bytes) -> str | None:
        return None

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        async with unimsg.connect(settings=unimsg.Settings(url=self.url)) as bus:
            yield _Sender(bus, self._queue(), self.key)

    async def consume(self, arrivals: Arrivals, concurrency: int) -> None:
        service = unimsg.Service("benchmark")

        @service.handler(self._queue(), concurrency=concurrency, retry=self.retry)
        async def handle(body: bytes) -> None:
            arrivals.note(body)

        async with unimsg.connect(service, settings=unimsg.Settings(url=self.url)):
            await arrivals.complete.wait()

    def _queue(self) -> unimsg.Queue[bytes]:
        return unimsg.Queue(self.channel, bytes, ordered=self.ordered)


class UnimsgWithKeys(Unimsg):
    """On Kafka every contestant sends keys: they choose the partition."""

    @staticmethod
    def key(body: bytes) -> str | None:
        return key_of(body)


class UnimsgOrdered(UnimsgWithKeys):
    arrivals = InOrder
    ordered = True


class UnimsgRetrying(Unimsg):
    arrivals = FailingOnce
    retry = unimsg.Retry(RETRY_DELAY)


class UnimsgRetryingWithKeys(UnimsgRetrying, UnimsgWithKeys):
    pass


class UnimsgAsking(Asking):
    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        queue = unimsg.Queue(self.channel, bytes, replies=bytes)
        service = unimsg.Service("benchmark")

        @service.handler(queue, concurrency=50)
        async def answer(body: bytes) -> bytes:
            return body

        settings = unimsg.Settings(url=self.url)
        async with unimsg.connect(service, settings=settings), unimsg.connect(settings=settings) as bus:

            async def ask(body: bytes) -> bytes:
                return await bus.request(queue, body, headers=HEADERS, timeout=30)

            yield ask
