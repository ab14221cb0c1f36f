"""Couriers: each is a service of its own, says what a trip costs, and rides if it was chosen."""

from unimsg import Service

from .channels import Offer, OrderPlaced, Trip, delivery_wanted, order_placed
from .screen import say


def courier(name: str, cents: int) -> Service:
    service = Service(name)

    @service.handler(delivery_wanted)
    async def offer(trip: Trip) -> Offer:
        return Offer(name, cents)

    @service.handler(order_placed)
    async def ride(order: OrderPlaced) -> None:
        if order.courier == name:
            say(name, f"{order.order} rides to {order.customer}")

    return service


services = [courier("bike", 300), courier("car", 450)]
