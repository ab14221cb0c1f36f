"""Names of queues and exchanges, their arguments, and making and comparing them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import lru_cache

import aiormq
from aiormq.abc import AbstractChannel
from pamqp.common import FieldTable

from unimsg.adapter import Address, Difference, Kind, Wanted
from unimsg.errors import CapabilityError, TopologyError
from unimsg_rabbitmq import history
from unimsg_rabbitmq.connection import Link, answered
from unimsg_rabbitmq.delays import MAX_DELAY, Arguments, delay_queues, delays_of, is_topic
from unimsg_rabbitmq.errors import difference
from unimsg_rabbitmq.options import RabbitOptions

Declare = Callable[[AbstractChannel], Awaitable[object]]
DEAD = "..dead"
INBOX_ARGUMENTS: Arguments = {"x-queue-type": "classic", "x-expires": 600_000}
"""Not exclusive to a connection: replies that come while that is made again stay. Gone 10 minutes after its process."""


@lru_cache(maxsize=1024)
def queues_of(address: Address) -> tuple[str, ...]:
    """The queues that hold the messages of a queue, a subscription or an inbox."""
    if address.ordered:
        return tuple(f"{address.name}..p{index}" for index in range(address.partitions))
    return (address.name,)


def binding_key(address: Address, index: int) -> str:
    return f"p{index}" if address.ordered else ""


def binding_keys(address: Address) -> tuple[str, ...]:
    """All that messages of a topic are routed by."""
    return tuple(binding_key(address, index) for index in range(max(1, address.partitions)))


def arguments_of(address: Address, options: RabbitOptions) -> Arguments:
    """Final from the first day: RabbitMQ never changes a queue's arguments."""
    if address.name.endswith(DEAD):
        return dict(DEAD_ARGUMENTS)
    arguments: Arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": options.delivery_limit,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": address.name + DEAD,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    if address.ordered:
        arguments["x-single-active-consumer"] = True
    if options.max_length is not None:
        arguments["x-max-length"] = options.max_length
    return arguments | options.arguments


DEAD_ARGUMENTS: Arguments = {"x-queue-type": "quorum", "x-delivery-limit": -1, "x-overflow": "reject-publish"}
"""Nothing leaves a dead-letter queue by itself: looking at it counts as deliveries too."""


def options_of(address: Address, wanted: Wanted) -> RabbitOptions:
    """The options in `wanted`.

    Raises:
        CapabilityError: it wants what this adapter does not do.
    """
    if wanted.start is not None and address.ordered:
        raise CapabilityError(
            f"RabbitMQ: {address.name} is ordered: where its history meets what is sent now, keys would get out of "
            "order: leave replay= out, and call bus.replay once the subscription exists"
        )
    if wanted.delays and address.ordered:
        raise CapabilityError(f"RabbitMQ: {address.name}: ordered: what is delayed would be overtaken")
    if any(not 0 < delay <= MAX_DELAY for delay in wanted.delays):
        raise CapabilityError(f"RabbitMQ: {address.name}: a delay of more than {MAX_DELAY:g} s")
    return wanted.options if isinstance(wanted.options, RabbitOptions) else RabbitOptions()


async def create(
    link: Link,
    address: Address,
    options: RabbitOptions,
    delays: tuple[float, ...] = (),
    kept: timedelta | None = None,
    *,
    bound: bool = True,
) -> None:
    """Makes what is missing. Raises aiormq's errors, and TopologyError where another shape of it exists. `kept`: the
    topic's history. Not `bound`: a subscription gets nothing yet."""
    await _refuse_other_shapes(link, address)
    async with link.scratch() as channel:
        steps = [*_declarations(address, options, kept, bound=bound), *_delay_declarations(address, delays)]
        for declare in steps:
            await answered(declare(channel))


async def make_mark(link: Link, name: str) -> None:
    """An exchange that does nothing, and outlives this process."""
    async with link.scratch() as channel:
        await answered(channel.exchange_declare(name, exchange_type="fanout", durable=True, internal=True))


async def remove_mark(link: Link, name: str) -> None:
    async with link.scratch() as channel:
        await answered(channel.exchange_delete(name))


async def compare(
    link: Link,
    address: Address,
    options: RabbitOptions,
    delays: tuple[float, ...] = (),
    kept: timedelta | None = None,
) -> list[Difference]:
    """What `create` would make or refuse; makes nothing. Bindings cannot be seen with AMQP 0-9-1."""
    try:
        await _refuse_other_shapes(link, address)
    except TopologyError as error:
        return [Difference(f"{address.kind.value} {address.name}", f"{address.partitions} partitions", str(error))]
    found: list[Difference] = []
    if address.kind is Kind.TOPIC:
        exchange = address.channel
        found += await _compared(link, f"exchange {exchange}", look_exchange(exchange), _declare_exchange(address))
    if kept is not None and address.kind is Kind.TOPIC:
        name = history.stream_of(address)
        declare = _declare_queue(name, history.arguments_of(kept))
        found += await _compared(link, f"queue {name}", look_queue(name), declare)
    if delays and is_topic(address):
        name = delays_of(address)
        found += await _compared(link, f"exchange {name}", look_exchange(name), _declare_delays(name))
    queues = [] if is_topic(address) else _queues(address, options)
    for name, arguments in (*queues, *delay_queues(address, delays)):
        found += await _compared(link, f"queue {name}", look_queue(name), _declare_queue(name, arguments))
    return found


async def exists(link: Link, look: Declare) -> bool:
    async with link.scratch() as channel:
        try:
            await answered(look(channel))
        except aiormq.ChannelNotFoundEntity:
            return False
    return True


def look_queue(name: str) -> Declare:
    return lambda channel: channel.queue_declare(name, passive=True)


def look_exchange(name: str) -> Declare:
    return lambda channel: channel.exchange_declare(name, passive=True)


def _declare_exchange(address: Address) -> Declare:
    arguments: FieldTable | None = {"alternate-exchange": _mark(address)} if address.ordered else None
    return lambda channel: channel.exchange_declare(
        address.channel, exchange_type="direct", durable=True, arguments=arguments
    )


def _declare_mark(address: Address) -> Declare:
    return lambda channel: channel.exchange_declare(_mark(address), exchange_type="fanout", durable=True, internal=True)


def _mark(address: Address) -> str:
    """An exchange that nothing is bound to. As the alternate of an ordered topic's exchange, an argument that never
    changes, it makes RabbitMQ refuse a sender with another number of partitions, whose messages would else go to
    partitions that no subscription has, and be dropped."""
    return f"{address.channel}..p{address.partitions}"


def _declare_queue(name: str, arguments: Arguments) -> Declare:
    # A new dict: its type is invariant, and aiormq's values are of more types.
    return lambda channel: channel.queue_declare(name, durable=True, arguments={**arguments})


def _bind(name: str, exchange: str, key: str) -> Declare:
    return lambda channel: channel.queue_bind(name, exchange, key)


def _queues(address: Address, options: RabbitOptions) -> list[tuple[str, Arguments]]:
    """Each queue after the one that it dead-letters to. Partitions from the last to the first: where the first exists,
    all exist, also while another process makes them."""
    arguments = arguments_of(address, options)
    queues = [(name, arguments) for name in reversed(queues_of(address))]
    if not address.name.endswith(DEAD):
        queues.insert(0, (address.name + DEAD, DEAD_ARGUMENTS))
    return queues


def _declarations(address: Address, options: RabbitOptions, kept: timedelta | None, *, bound: bool) -> list[Declare]:
    steps: list[Declare] = []
    if address.kind is Kind.TOPIC:
        steps.append(_declare_exchange(address))
        if address.ordered:
            steps.append(_declare_mark(address))
        if kept is not None:
            stream = history.stream_of(address)
            steps.append(_declare_queue(stream, history.arguments_of(kept)))
            steps += [_bind(stream, address.channel, key) for key in binding_keys(address)]
        if address.subscription is None:
            return steps
    steps += [_declare_queue(name, arguments) for name, arguments in _queues(address, options)]
    if address.kind is Kind.TOPIC and bound:
        names = enumerate(queues_of(address))
        steps += [_bind(name, address.channel, binding_key(address, index)) for index, name in names]
    return steps


def _declare_delays(name: str) -> Declare:
    return lambda channel: channel.exchange_declare(name, exchange_type="fanout", durable=True, internal=True)


def _feed(topic: Address, exchange: str) -> Declare:
    return lambda channel: channel.exchange_bind(topic.channel, exchange, binding_key(topic, 0))


def _delay_declarations(address: Address, delays: tuple[float, ...]) -> list[Declare]:
    queues = [_declare_queue(name, arguments) for name, arguments in delay_queues(address, delays)]
    if not queues or not is_topic(address):
        return queues
    name = delays_of(address)
    return [_declare_delays(name), _feed(address, name), queues[0], _bind(name, name, ""), *queues[1:]]


async def _refuse_other_shapes(link: Link, address: Address) -> None:
    """A queue and a topic never share a name; a channel is ordered or not, with one number of partitions, for life."""
    name, count = address.name, address.partitions
    topic = address.kind is Kind.TOPIC
    if address.subscription is None and await exists(
        link, look_queue(address.channel) if topic else look_exchange(address.channel)
    ):
        kind = "queue" if topic else "topic"
        raise TopologyError(f"RabbitMQ: {name} exists as a {kind}: a queue and a topic never share a name")
    if topic and address.subscription is None:
        return
    first = await exists(link, look_queue(f"{name}..p0"))
    if not address.ordered and first:
        raise TopologyError(f"RabbitMQ: {name} exists as an ordered channel: declare it so everywhere, or drain it")
    if not address.ordered:
        return
    if not first:
        if await exists(link, look_queue(name)):
            raise TopologyError(f"RabbitMQ: {name} exists and is not ordered: declare it so everywhere, or drain it")
        return
    same = await exists(link, look_queue(f"{name}..p{count - 1}")) and not await exists(
        link, look_queue(f"{name}..p{count}")
    )
    if not same:
        found = await partitions_of_queue(link, name)
        raise TopologyError(
            f"RabbitMQ: {name} exists with {found} partitions, wanted {count}: another number would move keys; "
            "declare it with the same partitions everywhere"
        )


async def partitions_of_queue(link: Link, name: str) -> int:
    """Of an ordered queue or subscription; 0: there is none of this name."""
    count = 0
    while await exists(link, look_queue(f"{name}..p{count}")):
        count += 1
    return count


async def _compared(link: Link, what: str, look: Declare, declare: Declare) -> list[Difference]:
    """Declaring what exists with equal arguments changes nothing, and tells the first argument that differs. It needs
    the permission to configure; without it, only existence is compared."""
    if not await exists(link, look):
        return [Difference(what, "exists", None)]
    async with link.scratch() as channel:
        try:
            await answered(declare(channel))
        except aiormq.ChannelPreconditionFailed as error:
            argument, wanted, found = difference(error)
            return [Difference(f"{what} {argument}", wanted, found)]
        except aiormq.ChannelAccessRefused:
            return []
    return []


async def messages_in(link: Link, names: tuple[str, ...]) -> int:
    """How many wait to be delivered. Raises aiormq's error where a queue is missing."""
    total = 0
    async with link.scratch() as channel:
        for name in names:
            total += (await answered(channel.queue_declare(name, passive=True))).message_count or 0
    return total
