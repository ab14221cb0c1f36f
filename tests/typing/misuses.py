"""Deliberate misuses: mypy must report each line marked as wrong, and no other (see tests/test_typing.py)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel

import unimsg
from unimsg import Bus, Context, Queue, Reject, ReplyQueue, Retry, RetryAfter, Sender, Service, Topic
from unimsg.codecs import Avro, Json, Protobuf, Text, Xml


class Order(BaseModel):
    customer: str


class Placed(BaseModel):
    number: int


class Pool: ...


@asynccontextmanager
async def pool(bus: Bus) -> AsyncIterator[Pool]:
    yield Pool()


place_order = Queue("orders.place", Order)
placed = Topic("orders.placed", Placed)
numbers = Queue("orders.numbers", list[int])
ask = Queue("orders.ask", Order, replies=Placed)
offer = Topic("orders.offer", Order, replies=float)
results = ReplyQueue("orders.results", Placed)
prices = ReplyQueue("orders.prices", float)
order = Order(customer="Ann")
service = Service("orders")
with_pool = Service("pooled", lifespan=pool)


async def sending(bus: Bus, context: Context, sender: Sender) -> None:
    await bus.send(place_order, Placed(number=1))  # wrong: the body of another channel
    await bus.send(place_order, {"customer": "Ann"})  # wrong: a dict is no model
    await bus.send(numbers, ["1"])  # wrong: inside the body
    await bus.publish(placed, Order(customer="Ann"))  # wrong: the body of another channel
    await bus.publish(place_order, Order(customer="Ann"))  # wrong: publish to a queue
    await bus.send(placed, Placed(number=1))  # wrong: send to a topic
    await context.send(place_order, Placed(number=1))  # wrong: a context is as strict
    await sender.publish(place_order, Order(customer="Ann"))  # wrong: so is any sender
    await bus.send("orders.place", Order(customer="Ann"))  # wrong: a name is no channel
    await bus.send(place_order, Order(customer="Ann"), id=7)  # wrong: an id is text
    await bus.send(place_order, Order(customer="Ann"), key=7)  # wrong: a key is text
    await bus.send(place_order, Order(customer="Ann"), headers={"n": 1})  # wrong: header values are text
    await bus.send(place_order, Order(customer="Ann"), timeout="10")  # wrong: seconds are a number
    await bus.send(place_order, Order(customer="Ann"), delay="5")  # wrong: seconds are a number
    await bus.publish(placed, Placed(number=1), ttl="5")  # wrong: seconds are a number
    await bus.redrive(placed, "mail", where="all")  # wrong: a function decides
    await bus.redrive(placed, limit="10")  # wrong: a count
    await bus.dead_letters(place_order)  # wrong: an iterator, nothing to await
    async with bus.pipeline() as pipeline:
        await pipeline.send(numbers, "12")  # wrong: a pipeline is as strict
    context.attempt = "first"  # wrong: a number
    context.last_attempt()  # wrong: no function
    number: int = await bus.send(numbers, [1])  # wrong: an id is text
    print(number, bus.health().live)  # wrong: not awaited


async def asking(bus: Bus, context: Context, sender: Sender) -> None:
    await bus.request(ask, Placed(number=1))  # wrong: the body of another channel
    await bus.request(offer, order)  # wrong: request to a topic
    number: int = await bus.request(ask, order)  # wrong: the reply is a Placed
    print(number, await bus.request(place_order, order))  # wrong: no reply is declared
    await bus.request(ask, order, reply_to=results)  # wrong: a request has an inbox
    await bus.request(ask, order, id="mine")  # wrong: the id of a request is nobody's
    await bus.request(ask, order, timeout="5")  # wrong: seconds are a number
    await context.request(ask, "order")  # wrong: a context is as strict
    await sender.request(ask, order)  # wrong: not every sender can wait
    bus.survey(ask, order, timeout=1)  # wrong: survey of a queue
    bus.survey(offer, order)  # wrong: when does it end?
    bus.survey(offer, Placed(number=1), timeout=1)  # wrong: the body of another channel
    async with bus.survey(offer, order, timeout=1) as survey:
        for reply in survey:  # wrong: they come one after the other
            print(reply)
        async for message in survey:
            name: str = message.body  # wrong: a float
            print(name)
    await bus.survey(offer, order, timeout=1)  # wrong: a context manager, nothing to await
    await bus.send(ask, order, reply_to=prices)  # wrong: replies of another type
    await bus.send(ask, order, reply_to=ask)  # wrong: no reply queue
    await bus.send(ask, order, reply_to="orders.results")  # wrong: a name is no channel
    await bus.send(place_order, order, reply_to=results)  # wrong: no reply is declared
    await bus.publish(offer, order, reply_to=prices)  # wrong: publish has no reply_to
    await context.send(ask, order, reply_to=prices)  # wrong: a context is as strict
    await sender.send(ask, order, reply_to=prices)  # wrong: so is any sender


@service.handler(ask)  # wrong: replies with something else
async def other_reply(body: Order) -> int:
    return 7


@service.handler(ask)  # wrong: replies with nothing
async def no_reply(body: Order) -> None: ...


@service.handler(ask)  # wrong: a queue is always answered
async def maybe(body: Order) -> Placed | None:
    return None


@service.handler(offer)  # wrong: replies with text
async def priced(body: Order) -> str | None:
    return None


@service.handler(results)  # wrong: failures come, too
async def only_replies(body: Placed) -> None: ...


@service.handler(results)  # wrong: a reply is never answered
async def answered(body: object) -> Placed:
    return Placed(number=1)


async def wrong_body(body: Placed) -> None: ...
async def right(body: Order) -> None: ...
async def with_wrong_state(body: Order, context: Context[Pool]) -> None: ...
async def without_state(body: Order, context: Context) -> None: ...
async def returns(body: Order) -> int:
    return 1


def sync_with_context(body: Order, context: Context) -> None: ...
def sync_returns(body: Order) -> str:
    return ""


async def no_parameter() -> None: ...
async def three(body: Order, context: Context, more: int) -> None: ...
async def around(context: Context) -> None: ...


@service.handler(place_order)  # wrong: takes another body
async def another_body(body: Placed) -> None: ...


@service.handler(placed)  # wrong: returns something nobody declared
async def answers(body: Placed) -> int:
    return body.number


service.handler(place_order)(wrong_body)  # wrong: takes another body
service.handler(place_order)(with_wrong_state)  # wrong: the service has no state
with_pool.handler(place_order)(without_state)  # wrong: the service's state is another
service.handler(place_order)(returns)  # wrong: no reply is declared
service.handler(place_order)(sync_returns)  # wrong: no reply is declared
service.handler(place_order)(sync_with_context)  # wrong: a context needs async def
service.handler(place_order)(no_parameter)  # wrong: takes no body
service.handler(place_order)(three)  # wrong: takes too much
service.handler(place_order, subscription="mail")(right)  # wrong: a queue has no subscriptions
service.handler(place_order, concurrency="many")(right)  # wrong: a count
service.handler(place_order, timeout="long")(right)  # wrong: seconds
service.handler(place_order, retry=3)(right)  # wrong: a policy is no count
service.handler("orders.place")(right)  # wrong: a name is no channel

Service("orders", around=[around])  # wrong: must take the next step too
Service("orders", lifespan=Pool)  # wrong: no context manager made from a bus
Service("orders", sends=["orders.placed"])  # wrong: a name is no channel
Service("orders", grace="25")  # wrong: seconds
Service("orders", retry=[1, 10])  # wrong: a policy is no list
Service("orders", expose_errors="no")  # wrong: yes or no is a bool

Retry("1")  # wrong: seconds are numbers
Retry([1, 10])  # wrong: seconds, one after the other
Retry(1, final=ValueError)  # wrong: several classes
Retry(1, final=(ValueError(),))  # wrong: classes, no errors
RetryAfter("5")  # wrong: seconds
Reject("no such order", 404)  # wrong: a code is a keyword
Reject("no such order", code=404)  # wrong: a code is text

Queue("orders.keyed", Order, key=lambda order: order.number)  # wrong: the body has no such field
Queue("orders.keyed", Order, key=lambda order: 7)  # wrong: a key is text
Queue("orders.kind", Order, kind="request")  # wrong: no such kind
Queue("orders.codec", Order, codec=Json(Placed))  # wrong: the codec of another body
Queue("orders.codec", Order, codec=[Text()])  # wrong: a codec of text
Queue("orders.codec", Timestamp, codec=Protobuf(Struct))  # wrong: the codec of another message
Queue("orders.codec", Order, codec=Avro(Placed, "int"))  # wrong: the codec of another body
Protobuf(Order)  # wrong: no generated class
Xml(Order)  # wrong: no model of pydantic-xml
Queue("orders.options", Order, options=[{"max_body": 5}])  # wrong: options are typed
Queue("orders.ttl", Order, ttl="5")  # wrong: seconds
Topic("orders.order", Order, ordered="yes")  # wrong: yes or no is a bool
ReplyQueue("orders.replies", Placed, replies=int)  # wrong: a reply is never answered
ReplyQueue("orders.replies", Placed, ordered=True)  # wrong: replies have no order
Queue(place_order, Order)  # wrong: a name is text
wider: Queue[object] = place_order  # wrong: it takes orders, not anything

unimsg.connect(place_order)  # wrong: a channel is no service
unimsg.connect(service, url=5)  # wrong: a URL is text
unimsg.run(service, settings={"url": "memory://"})  # wrong: settings are typed
