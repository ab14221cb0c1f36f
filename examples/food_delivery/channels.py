"""What the services tell each other. All of them import this module, and nothing else of each other."""

from dataclasses import dataclass

import unimsg


@dataclass(frozen=True)
class PlaceOrder:
    order: str
    customer: str
    dishes: list[str]


@dataclass(frozen=True)
class HowLong:
    dishes: list[str]


@dataclass(frozen=True)
class Trip:
    customer: str


@dataclass(frozen=True)
class Offer:
    courier: str
    cents: int


@dataclass(frozen=True)
class OrderPlaced:
    order: str
    customer: str
    dishes: list[str]
    cents: int
    courier: str


@dataclass(frozen=True)
class Receipt:
    paid: OrderPlaced


@dataclass(frozen=True)
class RefundOrder:
    order: str
    cents: int


@dataclass(frozen=True)
class DeliverGoods:
    goods: list[str]


# Where one channel carries several kinds of body, each has a name of its own on the wire.
@unimsg.message("food.order-refused")
@dataclass(frozen=True)
class OrderRefused:
    order: str
    why: str


@unimsg.message("food.order-paid")
@dataclass(frozen=True)
class OrderPaid:
    order: str
    cents: int


@unimsg.message("food.order-cooked")
@dataclass(frozen=True)
class OrderCooked:
    order: str


@unimsg.message("food.order-refunded")
@dataclass(frozen=True)
class OrderRefunded:
    order: str
    cents: int


Update = OrderRefused | OrderPaid | OrderCooked | OrderRefunded

# Commands: each message goes to one receiver. The key keeps a customer's orders in the order they were placed.
place_order = unimsg.Queue("food.place-order", PlaceOrder, key=lambda order: order.customer)
refund_order = unimsg.Queue("food.refund-order", RefundOrder)
deliver_goods = unimsg.Queue("food.deliver-goods", DeliverGoods)

# What is replied to: minutes to whoever waits; receipts into a queue, where they wait for the order service.
how_long = unimsg.Queue("food.how-long", HowLong, replies=int)
collect_payment = unimsg.Queue("food.collect-payment", OrderPlaced, replies=Receipt)
payments = unimsg.ReplyQueue("food.payments", Receipt)

# Events: each message goes to every subscription, and to one receiver of each. To the last one each may reply.
order_placed = unimsg.Topic("food.order-placed", OrderPlaced)
order_updates = unimsg.Topic("food.order-updates", Update, key=lambda update: update.order)
delivery_wanted = unimsg.Topic("food.delivery-wanted", Trip, replies=Offer)
