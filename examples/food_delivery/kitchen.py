"""The kitchen: cooks what was ordered, or asks billing for a refund. Sometimes it fails."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from unimsg import Bus, Context, Reject, Retry, Service

from .channels import (
    DeliverGoods,
    HowLong,
    OrderCooked,
    OrderPlaced,
    RefundOrder,
    deliver_goods,
    how_long,
    order_placed,
    order_updates,
    refund_order,
)
from .screen import say

MINUTES = {"margherita": 12, "ramen": 8, "falafel": 10, "tiramisu": 1, "lasagne": 25}
SOLD_OUT = {"tiramisu"}
NEEDS = {"lasagne": "cheese"}


class OutOfStock(Exception):
    """The kitchen has to wait for goods."""


class BoiledOver(Exception):
    """Happens with every first ramen of an order."""


async def timed(context: Context[Any], handle: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Wraps every attempt of every handler of the service: the place for what concerns all of them."""
    began = perf_counter()
    await handle()
    say("kitchen", f"handled {context.message.type} in {(perf_counter() - began) * 1000:.1f} ms")


@asynccontextmanager
async def pantry(bus: Bus) -> AsyncIterator[set[str]]:
    """What is in stock, as long as the service runs."""
    yield set()


service = Service("kitchen", lifespan=pantry, around=[timed], sends=[refund_order, order_updates])


@service.handler(how_long)
async def estimate(asked: HowLong) -> int:
    """Whoever asks waits for what this returns, or is told what it rejects; of other errors, that there was one."""
    unknown = [dish for dish in asked.dishes if dish not in MINUTES]
    if unknown:
        raise Reject(f"nobody here cooks {', '.join(unknown)}", code="unknown-dish")
    return max(MINUTES[dish] for dish in asked.dishes)


@service.handler(order_placed, concurrency=3, retry=Retry(0.5, 1))
async def cook(order: OrderPlaced, context: Context[set[str]]) -> None:
    """The kitchen's own subscription of the topic. Each courier has another: all get every order, and what fails here
    is tried again here alone: three times, half a second and a second apart. Then it is the kitchen's dead letter."""
    if missing := SOLD_OUT.intersection(order.dishes):
        say("kitchen", f"{order.order} impossible: {', '.join(missing)} is sold out")
        await context.send(refund_order, RefundOrder(order.order, order.cents))
        return
    lacking = [NEEDS[dish] for dish in order.dishes if dish in NEEDS and NEEDS[dish] not in context.state]
    if lacking:
        say("kitchen", f"{order.order} delayed: no {', '.join(lacking)}, attempt {context.attempt}")
        raise OutOfStock(*lacking)
    if "ramen" in order.dishes and context.attempt == 1:
        raise BoiledOver(order.order)
    say("kitchen", f"{order.order} cooked: {', '.join(order.dishes)}")
    await context.publish(order_updates, OrderCooked(order.order))


@service.handler(deliver_goods)
async def store(delivery: DeliverGoods, context: Context[set[str]]) -> None:
    context.state.update(delivery.goods)
    say("kitchen", f"got {', '.join(delivery.goods)}")
