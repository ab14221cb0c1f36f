"""Message types that change while old messages still wait: G8 and G13 as users see them."""

from dataclasses import dataclass

from unimsg import DeadLetter, Queue, Service, message
from unimsg.codecs import Json
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


@message("contracts.weighed.v1")
@dataclass
class Grams:
    """What was sent once."""

    grams: int


@message("contracts.weighed.v2")
@dataclass
class Weight:
    """What is sent today."""

    kilograms: float


@message("contracts.other.v1")
@dataclass
class Other:
    """What nobody here knows."""

    grams: int


def from_grams(old: Grams) -> Weight:
    return Weight(old.grams / 1000)


@guarantee("G13")
async def test_old_messages_are_upgraded(stage: Stage) -> None:
    """A handler of today's type gets messages of both versions; one of an unknown type is a dead letter."""
    today = stage.declare_queue(Weight, upgrades=[from_grams])
    once, unknown = Queue(today.name, Grams), Queue(today.name, Other)
    seen: list[Weight] = []
    service = Service("scales", grace=2.0)

    @service.handler(today)
    async def handle(body: Weight) -> None:
        seen.append(body)

    async with stage.bus() as old, stage.bus() as other:
        await old.send(once, Grams(1500))
        await other.send(unknown, Other(1))
    async with stage.bus(service) as bus:
        await bus.send(today, Weight(2.5))
        letters: list[DeadLetter] = []

        async def done() -> bool:
            letters[:] = [letter async for letter in bus.dead_letters(today)]
            return len(seen) >= 2 and bool(letters)

        await eventually(done, stage.recovery, lambda: f"handled {seen}, dead {letters}")
    assert sorted(body.kilograms for body in seen) == [1.5, 2.5]
    assert [(letter.reason, letter.message.type) for letter in letters] == [("unknown-type", "contracts.other.v1")]


class Hex:
    """JSON of another content type."""

    content_type = "application/x-hex"

    def encode(self, body: int) -> bytes:
        return hex(body).encode()

    def decode(self, data: bytes) -> int:
        return int(data, 16)


@guarantee("G13")
async def test_two_codecs_share_a_channel(stage: Stage) -> None:
    """While senders move from one codec to another, receivers read both; each message says which it is."""
    channel = stage.declare_queue(int, codec=[Hex(), Json(int)])
    once = Queue(channel.name, int, codec=Json(int))
    seen: list[int] = []
    service = Service("scales", grace=2.0)

    @service.handler(channel)
    async def handle(body: int) -> None:
        seen.append(body)

    async with stage.bus() as old:
        await old.send(once, 10)
    async with stage.bus(service) as bus:
        await bus.send(channel, 255)
        await eventually(lambda: len(seen) >= 2, stage.recovery, lambda: f"handled {seen}")
    assert sorted(seen) == [10, 255]
