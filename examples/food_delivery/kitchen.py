"""The kitchen: cooks what was ordered, or asks billing for a refund."""

from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

from unimsg import Context, Service

from .channels import OrderCooked, OrderPlaced, RefundOrder, order_placed, order_updates, refund_order
from .screen import say

SOLD_OUT = {"tiramisu"}


async def timed(context: Context[Any], handle: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Wraps every handler of the service: the place for what concerns all of them."""
    began = perf_counter()
    await handle()
    say("kitchen", f"handled {context.message.type} in {(perf_counter() - began) * 1000:.1f} ms")


service = Service("kitchen", around=[timed])


@service.handler(order_placed, concurrency=3)
async def cook(order: OrderPlaced, context: Context) -> None:
    """The kitchen's own subscription of the topic. Billing has another: both get every order."""
    if missing := SOLD_OUT.intersection(order.dishes):
        say("kitchen", f"{order.order} impossible: {', '.join(missing)} is sold out")
        await context.send(refund_order, RefundOrder(order.order, order.cents))
    else:
        say("kitchen", f"{order.order} cooked: {', '.join(order.dishes)}")
        await context.publish(order_updates, OrderCooked(order.order))
