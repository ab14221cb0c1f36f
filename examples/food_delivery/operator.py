"""The operator: looks at what the kitchen could not cook, gets what it lacks, and has it try again."""

import asyncio
from contextlib import suppress

from unimsg import Bus, DeadLetter

from .channels import DeliverGoods, deliver_goods, order_placed
from .screen import say


def lacks_goods(letter: DeadLetter) -> bool:
    return letter.error_type == "OutOfStock"


async def rescue(bus: Bus) -> int:
    """Returns how many orders the kitchen is to cook again."""
    letters = [letter async for letter in bus.dead_letters(order_placed, "kitchen") if lacks_goods(letter)]
    if not letters:
        return 0
    for letter in letters:
        say("operator", f"{letter.origin} gave up after {letter.attempts} attempts: {letter.error_type}")
    await bus.send(deliver_goods, DeliverGoods(["cheese"]))
    count = await bus.redrive(order_placed, "kitchen", where=lacks_goods)
    say("operator", f"redrove {count}")
    return count


async def watch(bus: Bus, ended: asyncio.Event) -> None:
    while not ended.is_set():
        await rescue(bus)
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.5)
