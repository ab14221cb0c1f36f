"""A batch that is being collected when an epoch drains: nothing of that epoch is started, and nothing is kept."""

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest
from scripted import Scripted, ScriptedReceiver
from waiting import came, until

import unimsg
from unimsg import Context, Queue, Retry, Service
from unimsg.adapter import Adapter, Epoch

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("batches.numbers", int)
ordered = Queue("batches.ordered", int, ordered=True)
CHANNELS = pytest.mark.parametrize("channel", [numbers, ordered], ids=["unordered", "ordered"])


@pytest.fixture
def url(serve: Callable[[str, type[Adapter]], str]) -> str:
    Scripted.forget()
    return serve("scripted", Scripted)


def the_receiver() -> ScriptedReceiver:
    [receiver] = Scripted.receivers
    return receiver


@pytest.mark.parametrize("over", [True, False], ids=["over", "draining"])
@CHANNELS
async def test_what_was_collected_of_it_goes_back_and_comes_again(url: str, channel: Queue[int], over: bool) -> None:
    batches: list[list[str]] = []
    service = Service("shop")

    @service.batch_handler(channel, size=10, within=0.1)
    async def handle(bodies: Sequence[int], context: Context) -> None:
        batches.append([message.id for message in context.messages])

    async with unimsg.connect(service, url=url):
        receiver, epoch = the_receiver(), Epoch()
        receiver.give("1", "2", epoch=epoch, key="ann")
        receiver.give("3", epoch=Epoch(), key="bob")
        await asyncio.sleep(0.02)
        epoch.end() if over else epoch.drain()
        await came(receiver.released, ["1", "2"])
        await came(receiver.acked, ["3"])
        receiver.give("1", "2", epoch=Epoch(), key="ann")
        await came(receiver.acked, ["1", "2", "3"])
    assert batches == [["3"], ["1", "2"]]
    assert receiver.wrong == []


@CHANNELS
async def test_at_the_end_what_was_being_collected_goes_back_at_once(url: str, channel: Queue[int]) -> None:
    service, batches = Service("shop"), list[int]()

    @service.batch_handler(channel, size=10, within=30)
    async def handle(bodies: Sequence[int]) -> None:
        batches.append(len(bodies))

    async with asyncio.timeout(5):
        async with unimsg.connect(service, url=url):
            the_receiver().give("1", "2", epoch=Epoch(), key="ann")
            await asyncio.sleep(0.02)
    assert (batches, the_receiver().acked) == ([], [])
    assert the_receiver().released == ([] if channel.ordered else ["1", "2"]), "of an ordered one, closing does it"
    assert the_receiver().wrong == []


@pytest.mark.parametrize("seed", range(15))
@CHANNELS
async def test_whatever_happens_each_delivery_is_settled_exactly_once(url: str, channel: Queue[int], seed: int) -> None:
    pace = random.Random(seed)
    service = Service("shop", grace=pace.choice([0, 0.01, 0.05]), retry=Retry(0.005, 0.005))
    started: list[str] = []
    epoch_of: dict[str, Epoch] = {}

    @service.batch_handler(
        channel, size=pace.choice([1, 3, 10]), within=pace.choice([0.001, 0.01]), concurrency=pace.choice([1, 3])
    )
    async def handle(bodies: Sequence[int], context: Context) -> None:
        started.extend(message.id for message in context.messages if epoch_of[message.id].draining)
        await asyncio.sleep(pace.choice([0, 0, 0.001, 0.004, 0.02]))
        if pace.random() < 0.2:
            raise ValueError

    async with unimsg.connect(service, url=url):
        receiver, epochs = the_receiver(), [Epoch()]
        for number in range(150):
            epoch_of[f"{number}"] = pace.choice(epochs)
            receiver.give(f"{number}", epoch=epoch_of[f"{number}"], key=pace.choice("abcd"))
            what = pace.random()
            if what < 0.1:
                epochs.append(Epoch())
            elif what < 0.2 and len(epochs) > 1:
                epoch = epochs.pop(pace.randrange(len(epochs)))
                epoch.drain() if pace.random() < 0.5 else epoch.end()
            if pace.random() < 0.3:
                await asyncio.sleep(pace.choice([0, 0.001, 0.005]))
        if seed % 2:
            alive = [name for name, epoch in epoch_of.items() if not epoch.draining]
            await until(lambda: set(alive) <= set(receiver.acked), "all that could be handled", within=20)
    assert receiver.wrong == []
    assert started == [], "of a draining epoch"
    left = [delivery for delivery in receiver.mailbox.handed_out() if delivery.epoch.draining or not channel.ordered]
    assert [delivery.wire.id for delivery in left] == [], "never settled"
