"""The shop: services that use all that a document can show."""

import dataclasses
import enum
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired

from protos import order_class
from pydantic import BaseModel, Field
from pydantic_xml import BaseXmlModel, attr, element, wrapped
from typing_extensions import TypedDict
from unimsg_kafka import KafkaOptions
from unimsg_pubsub import PubSubOptions
from unimsg_rabbitmq import RabbitOptions

import unimsg
from unimsg.channel import ReplyQueue
from unimsg.codecs import Avro, Json


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Item(BaseModel):
    dish: str = Field(min_length=1, description="As on the menu.", examples=["ramen"])
    count: int = Field(1, ge=1, le=99)
    size: Size = Size.SMALL
    extras: "list[Item]" = []


class Cash(BaseModel):
    by: Literal["cash"]


class Card(BaseModel):
    by: Literal["card"]
    number: str


class Address(BaseModel):
    """Where to bring it."""

    city: str
    zip: str = Field(pattern=r"^\d{5}$", examples=["10115"])


class Order(BaseModel):
    """What a customer wants.

    Paid on delivery, unless by card.
    """

    customer: str
    items: list[Item]
    to: Address = Field(description="The door.")
    pay: Annotated[Cash | Card, Field(discriminator="by")]
    at: datetime
    note: str | None = None
    price: Decimal = Decimal(0)
    place: tuple[float, float] | None = None
    more: dict[str, Any] = {}


@dataclasses.dataclass
class Placed:
    number: int
    customer: str
    tags: list[str] = dataclasses.field(default_factory=list)


class Tick(TypedDict):
    n: int
    why: NotRequired[str]


class Row(BaseXmlModel, tag="row"):
    number: int = attr(name="no")
    text: str


class Invoice(BaseXmlModel, tag="invoice"):
    """As the accountants want it."""

    id: int = attr()
    rows: list[Row] = element(tag="row", default=[])
    city: str = wrapped("address", element("city"))


@unimsg.message("com.acme/paid.v2")
@dataclasses.dataclass
class Paid:
    order: str


@unimsg.message("com.acme.refused")
@dataclasses.dataclass
class Refused:
    order: str
    why: str


@unimsg.message("com.acme.paid.v1")
@dataclasses.dataclass
class OldPaid:
    id: str


class Quote(BaseModel):
    """What it costs."""

    cents: int = Field(ge=0)


def newer(old: OldPaid) -> Paid:
    return Paid(old.id)


AVRO = {
    "type": "record",
    "name": "shop.Placed",
    "doc": "It was placed.",
    "fields": [
        {"name": "number", "type": "long"},
        {"name": "customer", "type": {"type": "record", "name": "Customer", "fields": [{"name": "n", "type": "int"}]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
    ],
}
OLD_AVRO = {"type": "record", "name": "shop.Placed", "fields": [{"name": "number", "type": "int"}]}

place_order = unimsg.Queue(
    "orders.place",
    Order,
    key=lambda order: order.customer,
    ttl=3600,
    options=[
        RabbitOptions(partitions=4),
        KafkaOptions(partitions=12, replication=3, config={"retention.ms": "604800000", "cleanup.policy": "delete"}),
        PubSubOptions(),
    ],
)
placed = unimsg.Topic("orders.placed", Placed, history=timedelta(days=2))
outcome = unimsg.Topic("orders.outcome", Paid | Refused, key=lambda each: f"{each.order}", upgrades=[newer])
ticks = unimsg.Topic("clock.ticks", Tick, kind="document", ordered=True)
lines = unimsg.Queue("logs.lines", str)
blobs = unimsg.Queue("logs.blobs", bytes)
wired = unimsg.Queue("orders.wired", order_class())
invoices = unimsg.Topic("orders.invoices", Invoice)
numbers = unimsg.Queue("orders.numbers", list[int])
stored = unimsg.Topic("orders.stored", Placed, codec=[Avro(Placed, AVRO, reads=[OLD_AVRO]), Json(Placed)])
quote = unimsg.Queue("prices.quote", Order, replies=Quote)
offers = unimsg.Topic("prices.offers", Tick, replies=Paid | Refused)
answers = ReplyQueue("orders.answers", Quote)

orders = unimsg.Service(
    "orders", sends=(placed, outcome, invoices, wired, quote, placed), retry=unimsg.Retry(1, 5), grace=1
)
billing = unimsg.Service("billing", sends=(ticks,))


@orders.handler(place_order)
async def take(order: Order) -> None:
    """Takes an order,
    if the kitchen is open.

    It is *refused* where it is not.
    """


@orders.handler(answers)
async def hear(answer: Quote | unimsg.RemoteError) -> None: ...


@billing.handler(placed)
async def bill(order: Placed, context: unimsg.Context) -> None: ...


@billing.handler(outcome, subscription="audit", store=unimsg.MemoryStore(), retry=unimsg.Retry(), timeout=7)
def audit(each: Paid | Refused) -> None: ...


@billing.batch_handler(lines, size=10, within=2)
async def keep(many: Any) -> None: ...


@billing.handler(blobs)
async def keep_blob(blob: bytes) -> None: ...


@billing.handler(wired)
async def read(order: Any) -> None: ...


@billing.handler(numbers)
async def add(some: list[int]) -> None: ...


@billing.handler(stored)
async def store(order: Placed) -> None: ...


@billing.handler(quote)
async def price(order: Order) -> Quote:
    """Says what it costs."""
    return Quote(cents=1)


@billing.handler(offers)
async def offer(tick: Tick) -> Paid | Refused | None: ...


SERVICES = (orders, billing)
