"""G7 where one key has more messages waiting than a process may hold: decided, and the same everywhere in what counts.

What waits behind a failing message holds a place of `prefetch`. Where it has all of them, its process takes in nothing
else, and other keys wait too: at the latest until the last attempt has made a dead letter of it. Nothing is lost, and
nothing overtakes.
"""

from unimsg import Context, Retry, Service
from unimsg_contracts.handled import Handled
from unimsg_contracts.marks import guarantee
from unimsg_contracts.stage import Stage

Item = tuple[str, int]
LONG, OTHERS = 60, 16
"""Messages of the long key, three times what the process may hold by default; and other keys, with one message each."""
ATTEMPTS = 6


def key(body: Item) -> str:
    return body[0]


@guarantee("G7")
async def test_a_key_with_more_messages_than_prefetch(stage: Stage) -> None:
    """The first message of a long key fails for good: what it keeps waiting goes on when it is a dead letter."""
    queue = stage.declare_queue(Item, key=key)
    handled = Handled[Item]()
    service = Service("orders", grace=2.0, retry=Retry(*[0.2] * (ATTEMPTS - 1)))

    @service.handler(queue, concurrency=10)
    async def handle(body: Item, context: Context) -> None:
        handled.note(body, context)
        if body == ("long", 0):
            raise RuntimeError("on purpose")

    long = [("long", n) for n in range(LONG)]
    others = [(f"other-{n}", 0) for n in range(OTHERS)]
    async with stage.bus() as client, client.pipeline() as pipeline:
        for body in [*long, *others]:
            await pipeline.send(queue, body)
    async with stage.bus(service) as bus:
        await handled.reach(LONG + OTHERS + ATTEMPTS - 1, stage.recovery)
        letters = [letter async for letter in bus.dead_letters(queue)]
    assert [letter.attempts for letter in letters] == [ATTEMPTS]
    assert handled.attempts(long[0]) == list(range(1, ATTEMPTS + 1))
    assert [body for body in dict.fromkeys(handled.bodies) if body in long] == long
    assert len(handled.seen) == LONG + OTHERS + ATTEMPTS - 1, "something was handled twice"
    held = handled.of(long[0])[-1].when
    assert handled.of(long[1])[0].when >= held, "it was overtaken"
    free = sum(handled.of(other)[0].when < held for other in others)
    stage.record(f"{free} of {OTHERS} other keys went on while the messages behind a failing one filled prefetch")
