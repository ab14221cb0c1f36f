"""What operators need to know of a channel."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime

from unimsg.adapter import Address, ChannelMissing, Difference, Kind, Operations, Wanted, Wire
from unimsg.errors import CapabilityError
from unimsg_rabbitmq import errors, starting, topology
from unimsg_rabbitmq.connection import Connection
from unimsg_rabbitmq.history import read
from unimsg_rabbitmq.look import look


class RabbitOperations(Operations):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        options = topology.options_of(address, wanted)
        if address.kind is Kind.INBOX:
            return []
        try:
            async with asyncio.timeout(timeout):
                link = await self._connection.get()
                found = await topology.compare(link, address, options, wanted.delays, wanted.history)
                return found if wanted.start is None else [*found, *await starting.compare(link, address)]
        except errors.BROKEN as error:
            raise errors.operation_failure(error, "inspecting", address) from error

    async def backlog(self, address: Address, *, timeout: float) -> int | None:
        """Messages that wait, those handed out not counted; None for a topic, which holds none itself."""
        try:
            async with asyncio.timeout(timeout):
                link = await self._connection.get()
                if address.kind is not Kind.TOPIC or address.subscription is not None:
                    return await topology.messages_in(link, topology.queues_of(address))
                if await topology.exists(link, topology.look_exchange(address.channel)):
                    return None
        except errors.BROKEN as error:
            raise errors.operation_failure(error, "counting the messages of", address) from error
        raise ChannelMissing(f"RabbitMQ: {address.name} does not exist")

    async def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        """Each look counts as one delivery of what it shows; `..dead` queues have no limit of them.

        Raises: as `Operations.browse`, and CapabilityError for an ordered address.
        """
        if (
            address.ordered
        ):  # what one consumer gives back goes behind what others gave back: keys would lose their order
            raise CapabilityError(
                f"RabbitMQ: {address.name} is ordered: looking at it could break the order of its keys"
            )
        try:
            async with aclosing(look(self._connection, address.name, limit, timeout)) as pages:
                async for page in pages:
                    yield page
        except errors.BROKEN as error:
            raise errors.operation_failure(error, "looking at", address) from error

    def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        return read(self._connection, topic, since, timeout)
