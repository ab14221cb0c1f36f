"""What a channel is on the broker, for who has no declaration of it. Nothing here changes anything."""

import aiormq

from unimsg.adapter import Address, ChannelMissing, Kind
from unimsg.errors import TopologyError
from unimsg_rabbitmq.connection import Link, answered
from unimsg_rabbitmq.errors import difference
from unimsg_rabbitmq.options import MOST_PARTITIONS
from unimsg_rabbitmq.topology import exists, look_exchange, look_queue, partitions_of_queue

NO_EXCHANGE = 1
"""An alternate exchange must have a name. RabbitMQ compares this with what is there, and creates nothing with it."""


async def find(link: Link, address: Address) -> Address:
    """As `Operations.find`. Raises aiormq's errors, too."""
    name, kind = address.name, address.kind
    if kind is Kind.TOPIC and address.subscription is None:
        if await exists(link, look_exchange(name)):
            return Address(name, kind, partitions=await _partitions_of_topic(link, name))
    elif await exists(link, look_queue(name)):
        return Address(address.channel, kind, address.subscription)
    elif count := await partitions_of_queue(link, name):
        return Address(address.channel, kind, address.subscription, count)
    await _refuse_the_other_kind(link, address)
    raise ChannelMissing(f"RabbitMQ: {name} does not exist")


async def _refuse_the_other_kind(link: Link, address: Address) -> None:
    name = address.channel
    if address.kind is Kind.QUEUE and await exists(link, look_exchange(name)):
        raise TopologyError(f"RabbitMQ: {name} is a topic, not a queue")
    if address.kind is Kind.TOPIC and (
        await exists(link, look_queue(name)) or await exists(link, look_queue(f"{name}..p0"))
    ):
        raise TopologyError(f"RabbitMQ: {name} is a queue, not a topic")


async def _partitions_of_topic(link: Link, name: str) -> int:
    """It is in the name of the exchange's alternate. Only declaring tells that, and needs the right to configure."""
    async with link.scratch() as channel:
        declared = channel.exchange_declare(
            name, exchange_type="direct", durable=True, arguments={"alternate-exchange": NO_EXCHANGE}
        )
        try:
            await answered(declared)
        except aiormq.ChannelPreconditionFailed as error:
            alternate = difference(error)[2]
            number = alternate.removeprefix(f"{name}..p")
            return int(number) if number != alternate and number.isdecimal() else 0
        except aiormq.ChannelAccessRefused:
            pass
    for count in range(1, MOST_PARTITIONS + 1):
        if await exists(link, look_exchange(f"{name}..p{count}")):
            return count
    return 0
