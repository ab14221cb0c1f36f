"""The order service: checks what customers want, and tells the others."""

from unimsg import Context, Service

from .channels import OrderPlaced, OrderRefused, PlaceOrder, order_placed, order_updates, place_order
from .screen import euros, say

MENU = {"margherita": 950, "ramen": 1250, "falafel": 700, "tiramisu": 550, "lasagne": 1100}

service = Service("orders")


@service.handler(place_order)
async def place(order: PlaceOrder, context: Context) -> None:
    """What is published through the context goes out when this has ended well, and not at all if it fails."""
    unknown = [dish for dish in order.dishes if dish not in MENU]
    if unknown:
        say("orders", f"{order.order} refused: {', '.join(unknown)} is not on the menu")
        await context.publish(order_updates, OrderRefused(order.order, f"not on the menu: {', '.join(unknown)}"))
        return
    cents = sum(MENU[dish] for dish in order.dishes)
    say("orders", f"{order.order} accepted, for {order.customer}: {', '.join(order.dishes)}, {euros(cents)}")
    await context.publish(order_placed, OrderPlaced(order.order, order.customer, order.dishes, cents))
