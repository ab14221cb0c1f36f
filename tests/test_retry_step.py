"""On a broker that delays by itself, a retry waits in the queue of its own step, whatever the clock does."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import pytest
from policies import held
from waiting import until

import unimsg
from unimsg import Context, Queue, Retry, RetryAfter, Service
from unimsg.adapter import Adapter, Address, Kind, Wanted, Wire
from unimsg.errors import PublishError
from unimsg.memory import MemoryAdapter

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("steps.numbers", int)
ordered = Queue("steps.ordered", int, ordered=True)


class Stepping(MemoryAdapter):
    """Takes only delays that it was told of, and does not wait for them."""

    wanted: ClassVar[dict[Address, set[float]]] = {}
    delays: ClassVar[list[float]] = []

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        self.wanted.setdefault(address, set()).update(wanted.delays)
        await super().ensure(address, wanted, timeout=timeout)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if delay:
            assert delay in self.wanted[address], f"{delay} is none of {self.wanted[address]}"
            self.delays.append(delay)
        return await super().send(address, messages, timeout=timeout)


@pytest.fixture
def url(serve: Callable[[str, type[Adapter]], str]) -> str:
    Stepping.wanted, Stepping.delays = {}, []
    return serve("stepping", Stepping)


def failing(retry: Retry, *errors: Exception) -> Service[None]:
    """Its attempts raise these, one after the other."""
    service = Service("shop", retry=retry)

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        if context.attempt <= len(errors):
            raise errors[context.attempt - 1]

    return service


async def handled(service: Service[None], url: str) -> None:
    async with unimsg.connect(service, url=url) as bus:
        await bus.send(numbers, 7)
        await until(lambda: held("steps.numbers") == 0, "its acknowledgement")


async def test_its_steps_are_made_at_the_start(url: str) -> None:
    async with unimsg.connect(failing(Retry(60, 0, 0.3, 7.5, 0.3)), url=url):
        assert Stepping.wanted[Address("steps.numbers", Kind.QUEUE)] == {0.3, 7.5, 60}


async def test_those_of_an_ordered_channel_are_not_for_it_waits_in_its_place(url: str) -> None:
    service = Service("shop", retry=Retry(60, 7.5))

    @service.handler(ordered)
    async def handle(body: int) -> None: ...

    async with unimsg.connect(service, url=url):
        assert set().union(*Stepping.wanted.values()) == set()


async def test_each_retry_waits_its_own_step(url: str) -> None:
    await handled(failing(Retry(7.5, 0.3, 86400), ValueError(), ValueError(), ValueError()), url)
    assert Stepping.delays == [7.5, 0.3, 86400]


async def test_a_retry_without_delay_goes_back_at_once(url: str) -> None:
    await handled(failing(Retry(0, 0), ValueError(), ValueError()), url)
    assert Stepping.delays == []


@pytest.mark.parametrize(
    ("seconds", "step"), [(0.2, 0.3), (0.3, 0.3), (0.31, 1), (4, 5), (7.5, 7.5), (7.6, 10), (7000, 21600)]
)
async def test_another_wait_is_rounded_up_to_the_next_step_there_is(url: str, seconds: float, step: float) -> None:
    await handled(failing(Retry(7.5, 0.3), RetryAfter(seconds)), url)
    assert Stepping.delays == [step]


class Back:
    """A clock that is set back a little each time somebody looks."""

    def __init__(self) -> None:
        self.turns: Iterator[float] = (time.time() - turn for turn in range(10**6))

    def time(self) -> float:
        return next(self.turns)


async def test_a_clock_that_is_set_back_makes_no_retry_wait_longer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimsg._copies.time", Back())
    await handled(failing(Retry(0.3, 7.5), ValueError(), ValueError()), url)
    assert Stepping.delays == [0.3, 7.5]
