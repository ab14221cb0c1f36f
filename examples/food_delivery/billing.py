"""Billing: charges each order once, and pays back what could not be cooked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from unimsg import Bus, Context, Reject, Service

from .channels import (
    OrderPlaced,
    OrderRefunded,
    Receipt,
    RefundOrder,
    collect_payment,
    order_updates,
    refund_order,
)
from .screen import euros, say


class Ledger:
    """Each entry counts once, whatever comes twice, and in any order: a refund may come before its charge."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], int] = {}

    @property
    def balance(self) -> int:
        return sum(self._entries.values())

    def enter(self, order: str, what: str, cents: int) -> None:
        self._entries[order, what] = cents


@asynccontextmanager
async def ledger(bus: Bus) -> AsyncIterator[Ledger]:
    """The service's state: made before its first message, left after its last one."""
    book = Ledger()
    yield book
    say("billing", f"closed with {euros(book.balance)}")


CREDIT = 5000
"""Cents, of one order."""

service = Service("billing", lifespan=ledger, sends=[order_updates])


@service.handler(collect_payment)
async def charge(order: OrderPlaced, context: Context[Ledger]) -> Receipt:
    """Its reply goes where the message says. What is rejected is a dead letter, and whoever sent it is told."""
    if order.cents > CREDIT:
        raise Reject(f"{order.customer} has no {euros(order.cents)}", code="no-cover")
    context.state.enter(order.order, "charge", order.cents)
    say("billing", f"{order.order} charged to {order.customer}: {euros(order.cents)}")
    return Receipt(order)


@service.handler(refund_order)
async def refund(order: RefundOrder, context: Context[Ledger]) -> None:
    context.state.enter(order.order, "refund", -order.cents)
    say("billing", f"{order.order} refunded: {euros(order.cents)}")
    await context.publish(order_updates, OrderRefunded(order.order, order.cents))
