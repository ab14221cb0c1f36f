"""Subscriptions for one who watches: nothing of them is kept, and they are gone when nobody watches any more."""

from aiormq import AMQPError

from unimsg.adapter import Address, ChannelMissing
from unimsg_rabbitmq.connection import Link, answered
from unimsg_rabbitmq.topology import INBOX_ARGUMENTS, binding_key, exists, look_exchange, queues_of


async def subscribe(link: Link, address: Address) -> None:
    """Declares no exchange: who may only watch need not be allowed to. Raises aiormq's errors, and ChannelMissing."""
    if not await exists(link, look_exchange(address.channel)):
        raise ChannelMissing(f"RabbitMQ: topic {address.channel} does not exist")
    try:
        async with link.scratch() as channel:
            for index, name in enumerate(queues_of(address)):
                await answered(channel.queue_declare(name, durable=True, arguments={**INBOX_ARGUMENTS}))
                await answered(channel.queue_bind(name, address.channel, binding_key(address, index)))
    except AMQPError:
        await remove(link, queues_of(address))  # half of it would be of no use, and it lives for 10 minutes
        raise


async def remove(link: Link, names: tuple[str, ...]) -> None:
    """Deletes these queues; RabbitMQ takes a missing one for deleted."""
    async with link.scratch() as channel:
        for name in names:
            await answered(channel.queue_delete(name))
