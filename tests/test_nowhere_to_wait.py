"""A retry whose delay has no queue, where it is not ours to make one: the message waits in its place."""

from waiting import until

import unimsg
from unimsg import Context, Queue, Retry, RetryAfter, Service, Settings
from unimsg.memory import MemoryAdapter

numbers = Queue("nowhere.numbers", int)


async def test_it_waits_in_its_place_and_counts_on(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    service, attempts = Service("shop", retry=Retry(0.01, 0.01)), list[int]()

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise RetryAfter(0.05)
        if context.attempt == 2:
            raise ValueError

    async with unimsg.connect(service, url="memory://"):
        pass  # makes the channels
    send = MemoryAdapter.send

    async def no_steps(self, address, messages, *, timeout, delay=0.0):  # type: ignore[no-untyped-def]
        if delay == 1.0:
            return [unimsg.Unroutable("no such queue", channel=address.name, message_id=w.id) for w in messages]
        return await send(self, address, messages, timeout=timeout, delay=delay)

    monkeypatch.setattr(MemoryAdapter, "send", no_steps)
    settings = Settings(url="memory://", topology="off")
    async with unimsg.connect(service, settings=settings) as bus:
        await bus.send(numbers, 1)
        await until(lambda: attempts == [1, 2, 3], "three attempts")
        assert [letter async for letter in bus.dead_letters(numbers)] == []
