"""Natural uses that must pass `mypy --strict`. It is type-checked, never run (see tests/test_typing.py)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue
from pydantic import BaseModel
from pydantic_xml import BaseXmlModel

import unimsg
from unimsg import (
    Bus,
    Context,
    DeadLetter,
    Message,
    Queue,
    Reject,
    RemoteError,
    ReplyQueue,
    RequestTimeout,
    Retry,
    RetryAfter,
    Sender,
    Service,
    Settings,
    Survey,
    Topic,
)
from unimsg.codecs import Avro, Binary, Json, Protobuf, Text, Xml


class PlaceOrder(BaseModel):
    customer: str
    total: int


@unimsg.message("com.acme.order-placed.v1")
class OrderPlaced(BaseModel):
    order_id: str


@unimsg.message("com.acme.order-cancelled.v1")
@dataclass
class OrderCancelled:
    order_id: str


class Reading(TypedDict):
    sensor: str
    celsius: float


class Animal(BaseModel):
    name: str = ""


class Dog(Animal): ...


place_order = Queue("orders.place", PlaceOrder)
orders = Topic("orders.events", OrderPlaced | OrderCancelled, key=lambda event: event.order_id)
readings = Topic("sensors.readings", Reading, key=lambda reading: reading["sensor"], kind="document")
numbers = Queue("zoo.numbers", list[int], ordered=True)
animals = Queue("zoo.animals", Animal)
text = Queue("zoo.text", str)
blobs = Queue("zoo.blobs", bytes, codec=Binary())
either = Queue("zoo.either", Animal, codec=[Json(Animal)])
plain = Queue("zoo.plain", str, codec=Text())


class Letter(BaseXmlModel): ...


class Parcel(BaseXmlModel): ...


def from_stamp(wire: Timestamp) -> Dog:
    return Dog(name=str(wire.seconds))


def to_stamp(body: Dog) -> Timestamp:
    return Timestamp(seconds=int(body.name))


stamps = Queue("zoo.stamps", Timestamp, codec=Protobuf(Timestamp), key=lambda stamp: str(stamp.seconds))
stamps_by_default = Topic("zoo.stamps.default", Timestamp | StringValue)
mapped = Queue("zoo.mapped", Dog, codec=[Protobuf(Timestamp, to_wire=to_stamp, from_wire=from_stamp), Json(Dog)])
several = Queue("zoo.several", OrderPlaced | OrderCancelled, codec=[Avro(OrderPlaced | OrderCancelled, [])])
post = Queue("zoo.post", Letter | Parcel, codec=[Xml(Letter | Parcel), Json(Letter | Parcel)])


# Sending: bus, context and pipeline are each a Sender, so domain code need not know where it runs.


async def domain(sender: Sender) -> str:
    await sender.publish(orders, OrderCancelled("7"))
    return await sender.send(place_order, PlaceOrder(customer="Ann", total=1), headers={"tenant": "acme"})


async def everywhere(bus: Bus) -> None:
    await domain(bus)
    async with bus.pipeline(in_flight=100) as pipeline:
        await domain(pipeline)
        await pipeline.send(numbers, [1, 2], key="k")
    ids = await asyncio.gather(*(bus.send(text, f"{n}", id=f"id-{n}", timeout=1) for n in range(3)))
    first: str = ids[0]
    headers: Mapping[str, str] = {"tenant": first}
    await bus.publish(readings, Reading(sensor="a", celsius=1.5), headers=headers)
    await bus.send(text, "later", delay=60, ttl=3600.5)
    await bus.publish(readings, Reading(sensor="a", celsius=1), delay=0.5)
    await bus.send(animals, Dog())  # a subclass is an Animal
    await bus.send(blobs, b"x", key=None, id=None)


# Asking.

ask = Queue("shop.ask", PlaceOrder, replies=OrderPlaced | OrderCancelled)
count = Queue("shop.count", str, replies=int)
tell = Queue("shop.tell", str, replies=None)
offer = Topic("shop.offer", PlaceOrder, replies=float)
results = ReplyQueue("shop.results", OrderPlaced | OrderCancelled)
objects = ReplyQueue("shop.objects", object)
order = PlaceOrder(customer="Ann", total=1)


async def asking(bus: Bus, sender: Sender, context: Context) -> int:
    reply = await bus.request(ask, order, timeout=2, key="k", headers={"tenant": "acme"})
    print(reply.order_id, await bus.request(ask, order), isinstance(reply, OrderCancelled))
    await bus.request(tell, "hello")
    number: int = await context.request(count, "x", timeout=0.5)
    for body in await asyncio.gather(*(bus.request(count, text) for text in "ab")):
        number += body
    try:
        number = await bus.request(count, "x")
    except RemoteError as error:
        print(error.code, error.text)
    except RequestTimeout:
        number = 0
    id: str = await sender.send(ask, order, reply_to=results)
    print(id, await context.send(ask, order, reply_to=results, delay=5, ttl=60))
    await bus.send(count, "x", reply_to=objects)  # takes any reply
    await bus.send(ask, order)  # nobody need wait for the reply
    async with bus.pipeline() as pipeline:
        await pipeline.send(ask, order, reply_to=results)
    return number


async def surveying(bus: Bus) -> float:
    async with bus.survey(offer, order, timeout=2, at_most=3) as survey:
        async for reply in survey:
            price: float = reply.body
            print(reply.source, reply.causation_id, price)
        failures: list[str] = [failure.code for failure in survey.failures]
    print(failures)
    async with bus.survey(offer, order, timeout=2) as all_of_them:
        return await cheapest(all_of_them)


async def cheapest(survey: Survey[float]) -> float:
    return min([reply.body async for reply in survey])


B = TypeVar("B")
R = TypeVar("R")


async def asked_twice(bus: Bus, channel: Queue[B, R], body: B) -> R:  # a user's generic function
    await bus.request(channel, body)
    return await bus.request(channel, body, timeout=1)


async def forward(sender: Sender, channel: Queue[B], body: B) -> str:  # a user's generic function
    return await sender.send(channel, body)


def anything(channel: Queue[Any] | Topic[Any]) -> str:
    return channel.name


# Handling.


class Pool:
    async def fetch(self) -> int:
        return 1


@asynccontextmanager
async def pool(bus: Bus) -> AsyncIterator[Pool]:
    await domain(bus)
    yield Pool()


async def timed(context: Context[Any], handle: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await handle()


service = Service("orders", lifespan=pool, around=[timed], grace=5, retry=Retry(1, 0.5, final=(KeyError, OSError)))
stateless = Service("mail", retry=Retry(), expose_errors=True, sends=[place_order, orders])
brief = Queue("orders.brief", str, ttl=0.5)


@service.handler(place_order, concurrency=50, timeout=30, retry=Retry(1, 10))
async def place(order: PlaceOrder, context: Context[Pool]) -> None:
    attempt: int = context.attempt
    if context.last_attempt:
        raise Reject("no such customer", code="unknown-customer")
    if attempt > 1:
        raise RetryAfter(60, "the shop is closed")
    await context.send(text, "later", delay=5)
    number = await context.state.fetch()
    await context.publish(orders, OrderPlaced(order_id=f"{order.customer}-{number}"))
    await context.bus.send(text, "at once")
    message: Message[object] = context.message
    print(message.id, message.headers["tenant"], message.time.isoformat(), context.subscription, context.lost)


@service.handler(orders, subscription="audit")
async def audit(event: OrderPlaced | OrderCancelled) -> None:
    if isinstance(event, OrderCancelled):
        print(event.order_id)


@stateless.handler(orders)
def mail(event: OrderPlaced | OrderCancelled) -> None:  # a plain function runs in a thread
    print(event.order_id)


@stateless.handler(readings)
async def show(reading: Reading, context: Context) -> None:
    print(reading["celsius"], context.state)


@stateless.handler(animals)
async def pet(animal: object) -> None:  # what takes more than the body is fine
    print(animal)


class Billing:
    """Constructor injection: a bound method is a handler, and still an ordinary method."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    async def charge(self, numbers: list[int], context: Context) -> None:
        await domain(context)


stateless.handler(numbers, concurrency=5)(Billing(0.2).charge)


async def tested() -> None:
    await audit(OrderCancelled("7"))  # the decorated function stays what it was
    mail(OrderPlaced(order_id="7"))


@stateless.handler(ask)
async def answer(body: PlaceOrder) -> OrderPlaced:  # one of those declared
    return OrderPlaced(order_id=body.customer)


@stateless.handler(count)
def counted(body: str) -> int:
    return len(body)


@stateless.handler(tell)
async def heard(body: str) -> None: ...


@service.handler(offer)
async def priced(body: PlaceOrder, context: Context[Pool]) -> float | None:
    return None if body.total else 1.5


@stateless.handler(results)
async def result(body: OrderPlaced | OrderCancelled | RemoteError, context: Context) -> None:
    print(body.code if isinstance(body, RemoteError) else body.order_id, context.message.causation_id)


# What failed.


def old(letter: DeadLetter) -> bool:
    return letter.attempts > 3 and letter.message.body.startswith(b"{") and letter.last_failed > letter.first_failed


async def mend(bus: Bus) -> int:
    async for letter in bus.dead_letters(place_order):
        print(letter.reason, letter.error_type, letter.error_text, letter.origin, letter.handler, letter.message.id)
    moved: int = await bus.redrive(orders, "audit", where=old, limit=100, rate=0.5)
    return moved + await bus.redrive(place_order)


# Connecting.


async def main() -> None:
    async with unimsg.connect(service, stateless, url="memory://") as bus:
        health = await bus.health()
        print(health.live, health.ready, list(health.problems), health.as_dict())
    async with unimsg.connect(settings=Settings(url="memory://", prefix="ann.")) as client:
        try:
            await forward(client, text, "x")
        except unimsg.PublishUnconfirmed as error:
            await client.send(text, "x", id=error.message_id)


if __name__ == "__main__":
    unimsg.run(service, stateless)
