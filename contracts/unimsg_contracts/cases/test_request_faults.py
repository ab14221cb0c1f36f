"""Requests while connections are lost: G18 and G11."""

import asyncio

from unimsg import Bus, PublishUnconfirmed, RequestTimeout, Service, UnimsgError
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

REQUESTS = 10


class Gate:
    """A service whose handlers wait, and requests that wait for them."""

    def __init__(self, stage: Stage) -> None:
        self.queue = stage.declare_queue(str, replies=str)
        self.open = asyncio.Event()
        self.service = Service("gate", grace=2.0)
        self._stage = stage
        self._begun: set[str] = set()

        @self.service.handler(self.queue, concurrency=2 * REQUESTS)
        async def handle(body: str) -> str:
            self._begun.add(body)
            await self.open.wait()
            return f"re {body}"

    async def asked(self, bus: Bus, timeout: float) -> dict[str, "asyncio.Task[str]"]:
        """Requests that are all in their handlers."""
        tasks = {f"{n}": self._stage.begin(bus.request(self.queue, f"{n}", timeout=timeout)) for n in range(REQUESTS)}
        await eventually(
            lambda: len(self._begun) >= REQUESTS, self._stage.limit, lambda: f"{len(self._begun)} of {REQUESTS} began"
        )
        return tasks

    async def answered(self, tasks: dict[str, "asyncio.Task[str]"]) -> None:
        for body, task in tasks.items():
            assert await self._stage.answer(task) == f"re {body}"


@guarantee("G18", needs=("cut",), times=2)
async def test_requests_survive_a_cut_of_who_asks(stage: Stage) -> None:
    """The requester's connection is reset while it waits: it gets every reply, and asks on."""
    network, gate = await stage.network(), Gate(stage)
    async with stage.bus(gate.service), stage.bus(url=network.url) as bus:
        asked = await gate.asked(bus, stage.recovery)
        await network.cut()
        gate.open.set()
        await gate.answered(asked)
        assert await stage.answer(bus.request(gate.queue, "next", timeout=stage.recovery)) == "re next"


@guarantee("G18", needs=("cut",), times=2)
async def test_requests_survive_a_cut_of_who_answers(stage: Stage) -> None:
    """The responder's connection is reset while it handles: every request is answered, and later ones too."""
    network, gate = await stage.network(), Gate(stage)
    async with stage.bus(gate.service, url=network.url), stage.bus() as bus:
        asked = await gate.asked(bus, stage.recovery)
        await network.cut()
        gate.open.set()
        await gate.answered(asked)
        assert await stage.answer(bus.request(gate.queue, "next", timeout=stage.recovery)) == "re next"


@guarantee("G18", needs=("restart",), times=3)
async def test_requests_survive_a_restart_of_the_broker(stage: Stage) -> None:
    """The broker is stopped and started while they wait: each has its reply, or a clear error in time."""
    gate = Gate(stage)
    async with stage.bus(gate.service), stage.bus() as bus:
        asked = await gate.asked(bus, 60.0 + stage.recovery)
        await stage.within(stage.harness.restart(), "the restart of the broker", 90.0)
        gate.open.set()
        ended = await stage.within(
            asyncio.gather(*asked.values(), return_exceptions=True), "all", 70.0 + stage.recovery
        )
        wrong = [
            end
            for body, end in zip(asked, ended, strict=True)
            if not (end == f"re {body}" or isinstance(end, UnimsgError))
        ]
        assert not wrong, f"neither a reply nor a clear error: {wrong}"
        lost = sum(isinstance(end, RequestTimeout | PublishUnconfirmed) for end in ended)
        stage.record(f"{lost} of {len(asked)} requests that waited over a restart had no reply")
        assert await stage.answer(bus.request(gate.queue, "next", timeout=stage.recovery)) == "re next"
