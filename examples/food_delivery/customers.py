"""Customers: they order, and wait until each order has come to its end."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import cycle, islice
from uuid import uuid4

from unimsg import Bus

from .channels import OrderCooked, OrderPaid, OrderRefunded, OrderRefused, PlaceOrder, Update, place_order
from .screen import say

WISHES = [
    ("Ann", ["margherita", "falafel"]),
    ("Bob", ["ramen"]),
    ("Ann", ["tiramisu"]),
    ("Cleo", ["pineapple pizza"]),
    ("Bob", ["ramen", "margherita"]),
    ("Dora", ["lasagne"]),
    ("Eve", ["lasagne"] * 5),  # more than she has
]
ENDS = [{OrderRefused}, {OrderPaid, OrderCooked}, {OrderPaid, OrderRefunded}]


def some_orders(count: int) -> list[PlaceOrder]:
    """Each with a number of its own, so that nobody takes an earlier run's order for one of these."""
    return [PlaceOrder(uuid4().hex[:8], customer, dishes) for customer, dishes in islice(cycle(WISHES), count)]


async def place(bus: Bus, orders: Sequence[PlaceOrder]) -> None:
    """A pipeline does not wait for each confirmation; leaving its block waits for all."""
    async with bus.pipeline() as pipeline:
        for order in orders:
            await pipeline.send(place_order, order)
    say("customers", f"placed {len(orders)} orders")


class Waiting:
    """Hears the updates of some orders, until each has come to its end."""

    def __init__(self, orders: Sequence[PlaceOrder]) -> None:
        self._heard: dict[str, set[type]] = {order.order: set() for order in orders}
        self._all_ended: Future[None] = Future()

    def hear(self, update: Update) -> None:
        """A handler may be a plain function. It runs in a thread and may block, as the driver of a doorbell does. One
        at a time, by its concurrency."""
        heard = self._heard.get(update.order)
        if heard is None:
            return  # an order of an earlier run, or one that has ended
        heard.add(type(update))
        if heard in ENDS:
            del self._heard[update.order]
            say("customers", f"{update.order} {'enjoyed' if OrderCooked in heard else 'stays hungry'}")
        if not self._heard and not self._all_ended.done():
            self._all_ended.set_result(None)

    async def all_ended(self) -> None:
        await asyncio.wrap_future(self._all_ended)
