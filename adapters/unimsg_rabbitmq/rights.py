"""What a user may not do, asked with commands that RabbitMQ refuses in any case, or that change nothing.

It looks at the right before it looks at what is asked: "ACCESS_REFUSED" tells a missing right, any other answer that
it is there. Seen on RabbitMQ 4.0; the tests ask it each time.
"""

from collections.abc import Sequence

import aiormq
from aiormq.abc import DeliveredMessage

from unimsg.adapter import Address, Kind, Missing, Right
from unimsg_rabbitmq.connection import Link, answered
from unimsg_rabbitmq.delays import delay_queue
from unimsg_rabbitmq.topology import DEAD, Declare, queues_of

NO_NAME = 1
"""No exchange has a number for a name: nothing is created with it."""
NO_KEY = "unimsg..nothing-is-bound-by-this"
DEFAULT_EXCHANGE = "amq.default"
"""How the exchange without a name is called in permissions."""


async def missing(link: Link, address: Address, right: Right) -> Sequence[Missing]:
    """Raises aiormq's errors if the connection is lost."""
    found: dict[str, Missing] = {}
    for what, ask in _questions(address, right):
        refused = await _refusal(link, ask)
        if refused is not None:
            what = refused or what
            found[what] = Missing(right, what)
    return list(found.values())


def _questions(address: Address, right: Right) -> list[tuple[str, Declare]]:
    """What has to be allowed, and how to ask for it."""
    is_topic = address.kind is Kind.TOPIC
    queues = [] if is_topic and address.subscription is None else list(queues_of(address))
    if right is Right.RECEIVE:
        if address.kind is Kind.INBOX:
            return [(f"configure on queue {queues[0]}", _declare_queue(queues[0])), *_reading(queues)]
        return _reading(queues)
    if right is Right.SEND:
        exchange = address.channel if is_topic and address.subscription is None else DEFAULT_EXCHANGE
        return [(f"write on exchange {exchange}", _write_exchange(exchange))]
    questions: list[tuple[str, Declare]] = []
    if is_topic:
        questions.append((f"configure on exchange {address.channel}", _declare_exchange(address.channel)))
        if address.ordered:
            mark = f"{address.channel}..p{address.partitions}"
            questions.append((f"configure on exchange {mark}", _declare_exchange(mark)))
            questions.append((f"write on exchange {mark}", _write_exchange(mark)))
        questions += [(f"read on exchange {address.channel}", _unbind(name, address.channel)) for name in queues]
    if queues and not address.name.endswith(DEAD):  # they dead-letter through the default exchange
        questions.append((f"write on exchange {DEFAULT_EXCHANGE}", _write_exchange(DEFAULT_EXCHANGE)))
        questions += _reading(queues)
        queues += [address.name + DEAD, delay_queue(address, 1.0)]  # one of those where retries wait
    return [*questions, *((f"configure on queue {name}", _declare_queue(name)) for name in queues)]


def _reading(queues: Sequence[str]) -> list[tuple[str, Declare]]:
    return [(f"read on queue {name}", _consume(name)) for name in queues]


async def _refusal(link: Link, ask: Declare) -> str | None:
    """The right that is missing, in RabbitMQ's words if it has them; None: none."""
    async with link.scratch() as channel:
        try:
            await answered(ask(channel))
        except aiormq.ChannelAccessRefused as error:
            return _named(str(error.args[-1]) if error.args else "")
        except (aiormq.ChannelPreconditionFailed, aiormq.ChannelNotFoundEntity):
            return None
    return None


def _named(text: str) -> str:
    """Of "ACCESS_REFUSED - read access to queue 'orders' in vhost '/' refused for user 'x'": "read on queue orders"."""
    _, divider, rest = text.partition("ACCESS_REFUSED - ")
    right, found, resource = rest.partition(" access to ")
    return f"{right} on {resource.partition(' in vhost')[0]}".replace("'", "") if divider and found else ""


def _declare_queue(name: str) -> Declare:
    return lambda channel: channel.queue_declare(name, durable=True, arguments={"x-dead-letter-exchange": NO_NAME})


def _declare_exchange(name: str) -> Declare:
    arguments = {"alternate-exchange": NO_NAME}
    return lambda channel: channel.exchange_declare(name, exchange_type="direct", durable=True, arguments={**arguments})


def _write_exchange(name: str) -> Declare:
    """Nothing is bound so. RabbitMQ asks for the right to write to the destination first."""
    return lambda channel: channel.exchange_unbind(destination=name, source=name, routing_key=NO_KEY)


def _unbind(queue: str, exchange: str) -> Declare:
    """Needs to write to the queue and to read from the exchange, as binding does."""
    return lambda channel: channel.queue_unbind(queue, exchange, NO_KEY)


def _consume(name: str) -> Declare:
    """A priority is a number."""
    return lambda channel: channel.basic_consume(name, _unused, arguments={"x-priority": "none"})


async def _unused(_: DeliveredMessage) -> None:
    """aiormq wants a callback."""
