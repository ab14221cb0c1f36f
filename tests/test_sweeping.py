"""A contract case leaves nothing behind on a broker that outlives the run."""

from unimsg_contracts.brokers.memory import MemoryHarness
from unimsg_contracts.stage import Stage

from unimsg import Queue, Service, Topic
from unimsg.adapter import Address, Kind


class Outliving(MemoryHarness):
    leftovers = True

    def __init__(self) -> None:
        super().__init__()
        self.swept: list[Address] = []

    async def sweep(self, address: Address) -> None:
        self.swept.append(address)


async def test_what_services_made_is_deleted_too() -> None:
    harness = Outliving()
    async with Stage(harness) as stage:
        topic: Topic[int] = stage.declare_topic(int, ordered=True)
        queue: Queue[int] = stage.declare_queue(int)
        service = Service("shop", grace=0.1)

        @service.handler(topic)
        async def take(body: int) -> None: ...

        @service.handler(queue)
        async def handle(body: int) -> None: ...

        async with stage.bus(service):
            pass
    assert harness.swept == [
        Address(topic.name, Kind.TOPIC, "shop", 8),
        Address(queue.name, Kind.QUEUE),
        Address(topic.name, Kind.TOPIC, None, 8),
    ]
