"""What operators need to know of a channel."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from importlib.metadata import version

from unimsg.adapter import (
    About,
    Address,
    ChannelMissing,
    Difference,
    Kind,
    Missing,
    Operations,
    Right,
    Wanted,
    Wire,
)
from unimsg.errors import CapabilityError, ConnectError
from unimsg_rabbitmq import errors, rights, shapes, starting, temporary, topology
from unimsg_rabbitmq.connection import Connection
from unimsg_rabbitmq.delays import delay_queues, is_topic
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
        if address.ordered:  # what one gives back goes behind what others gave back: keys would lose their order
            raise CapabilityError(
                f"RabbitMQ: {address.name} is ordered: looking at it could break the order of its keys"
            )
        try:
            async with aclosing(look(self._connection, address.name, limit, timeout)) as pages:
                async for page in pages:
                    yield page
        except errors.BROKEN as error:
            raise errors.operation_failure(error, "looking at", address) from error

    async def find(self, address: Address, *, timeout: float) -> Address:
        try:
            async with asyncio.timeout(timeout):
                return await shapes.find(await self._connection.get(), address)
        except errors.BROKEN as error:
            raise errors.operation_failure(error, "looking for", address) from error

    async def delete(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        if is_topic(address):
            raise ValueError(f"RabbitMQ: {address.name} is a topic: only queues and subscriptions are deleted")
        waiting = [name for name, _ in delay_queues(address, wanted.delays)]
        try:
            async with asyncio.timeout(timeout):
                link = await self._connection.get()
                await temporary.remove(link, (*topology.queues_of(address), address.name + topology.DEAD, *waiting))
        except errors.BROKEN as error:
            raise errors.operation_failure(error, "deleting", address) from error

    async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
        if address.kind is Kind.INBOX and right is Right.MAKE:
            return []
        try:
            async with asyncio.timeout(timeout):
                return await rights.missing(await self._connection.get(), address, right)
        except errors.BROKEN as error:
            raise errors.operation_failure(error, "asking for the permissions of", address) from error

    async def about(self, *, timeout: float) -> About:
        """RabbitMQ tells nobody its time."""
        try:
            async with asyncio.timeout(timeout):
                broker = (await self._connection.get()).broker
        except TimeoutError as error:
            raise ConnectError("RabbitMQ: no connection in time", reason="timeout") from error
        return About(broker, f"aiormq {version('aiormq')}")

    def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        return read(self._connection, topic, since, timeout)
