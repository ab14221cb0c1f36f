"""The order service: asks the others what it must know, sees to the payment, and tells everybody what was ordered."""

from unimsg import Bus, Context, RemoteError, Service

from .channels import (
    HowLong,
    Offer,
    OrderPaid,
    OrderPlaced,
    OrderRefused,
    PlaceOrder,
    Receipt,
    Trip,
    collect_payment,
    delivery_wanted,
    how_long,
    order_placed,
    order_updates,
    payments,
    place_order,
)
from .screen import euros, say

PRICES = {"margherita": 950, "ramen": 1250, "falafel": 700, "tiramisu": 550, "lasagne": 1100}
ENOUGH_OFFERS = 2

service = Service("orders", sends=[how_long, delivery_wanted, collect_payment, order_placed, order_updates])


@service.handler(place_order)
async def place(order: PlaceOrder, context: Context) -> None:
    """What is sent through the context goes out when this has ended well, and not at all if it fails."""
    try:
        minutes = await context.request(how_long, HowLong(order.dishes), timeout=10)
    except RemoteError as refusal:  # the kitchen's `Reject`, with its text
        await _refuse(order.order, refusal.text, context)
        return
    offer = await cheapest_offer(context.bus, order.customer)
    cents = sum(PRICES[dish] for dish in order.dishes) + offer.cents
    what = f"{', '.join(order.dishes)}, {euros(cents)}, in {minutes} minutes"
    say("orders", f"{order.order} accepted, for {order.customer}: {what}")
    # The reply finds this service, whichever of its processes runs by then. It carries this message's id.
    bill = OrderPlaced(order.order, order.customer, order.dishes, cents, offer.courier)
    await context.send(collect_payment, bill, id=f"bill-{order.order}", reply_to=payments)


@service.handler(payments)
async def paid(result: Receipt | RemoteError, context: Context) -> None:
    """A reply, or why there is none; the id of what it is the reply to says which order it was."""
    if isinstance(result, RemoteError):
        await _refuse((context.message.causation_id or "").removeprefix("bill-"), result.text, context)
        return
    order = result.paid
    say("orders", f"{order.order} paid: {euros(order.cents)}")
    await context.publish(order_updates, OrderPaid(order.order, order.cents))
    await context.publish(order_placed, order)


async def cheapest_offer(bus: Bus, customer: str) -> Offer:
    """Of those that come in time. Where none does, this fails, and the order is tried again a little later."""
    async with bus.survey(delivery_wanted, Trip(customer), timeout=10, at_most=ENOUGH_OFFERS) as survey:
        offers = [reply.body async for reply in survey]
    return min(offers, key=lambda offer: offer.cents)


async def _refuse(order: str, why: str, context: Context) -> None:
    say("orders", f"{order} refused: {why}")
    await context.publish(order_updates, OrderRefused(order, why))
