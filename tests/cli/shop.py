"""Applications for the command line's tests. `write` puts one into a folder of its own, where nothing else is."""

from pathlib import Path

APP = """
import os, sys, asyncio
import unimsg

place = unimsg.Queue("orders.place", dict[str, int])
placed = unimsg.Topic("orders.placed", dict[str, int])
told = unimsg.Queue("orders.told", str)
service = unimsg.Service("shop", grace=5)
both = [service, unimsg.Service("other")]
not_one = 7


@service.handler(place)
async def on_place(order: dict[str, int], context: unimsg.Context) -> None:
    await context.publish(placed, order)


@service.handler(placed)
async def on_placed(order: dict[str, int]) -> None: ...
"""


def write(folder: Path, text: str = APP, name: str = "shopapp") -> str:
    """Its name on the command line."""
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return f"{name}:service"
