"""RabbitMQ as a unimsg broker: names and routes, and the parts that do the work."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Self

from unimsg.adapter import Adapter, AdapterHealth, Address, Capabilities, Kind, Wanted, Wire
from unimsg.errors import PublishError
from unimsg.keys import partition_of
from unimsg_rabbitmq import errors, temporary, topology
from unimsg_rabbitmq.connection import Connection
from unimsg_rabbitmq.delays import MAX_DELAY, delay_queue
from unimsg_rabbitmq.history import MAX_HISTORY
from unimsg_rabbitmq.operations import RabbitOperations
from unimsg_rabbitmq.options import DEFAULT_DELIVERY_LIMIT, RabbitOptions, Server
from unimsg_rabbitmq.publisher import Call, Publisher
from unimsg_rabbitmq.receiver import RabbitReceiver
from unimsg_rabbitmq.starting import Starts
from unimsg_rabbitmq.wire import PREFIX


class RabbitAdapter(Adapter):
    """Two connections: RabbitMQ stops reading from those that publish when it runs out of memory or disk, and what
    receives must go on then."""

    broker = "rabbitmq"
    attribute_prefix = PREFIX
    options_type = RabbitOptions

    def __init__(self, server: Server) -> None:
        self.capabilities = Capabilities(
            max_delay=MAX_DELAY,
            max_history=MAX_HISTORY,
            max_body=server.options.max_message_size,
            counts_redeliveries=True,
            notices_missing_inbox=True,
        )
        self._server = server
        self._sending = Connection(server, "sending")
        self._receiving = Connection(server, "receiving")
        self._publishers: dict[str, Publisher] = {}
        self._receivers: list[RabbitReceiver] = []
        self._limits: dict[str, int] = {}
        """Redeliveries after which RabbitMQ gives a message up, by queue or subscription; negative: never."""
        self._turn = itertools.count()
        self._starts = Starts(self.send)

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        return cls(Server.from_url(url, options))

    async def connect(self, *, timeout: float) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        try:
            await self._sending.open(timeout)
            await self._receiving.open(deadline - clock())
        except BaseException:
            await self.aclose(timeout=timeout)
            raise

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        options = topology.options_of(address, wanted)
        if address.kind is Kind.INBOX:
            return
        limit = topology.arguments_of(address, options)["x-delivery-limit"]
        self._limits[address.name] = limit if isinstance(limit, int) else DEFAULT_DELIVERY_LIMIT
        try:
            async with asyncio.timeout(timeout) as deadline:
                link = await self._receiving.get()
                if wanted.temporary:
                    await temporary.subscribe(link, address)
                    return
                if wanted.start is not None and address.subscription is not None:
                    clock = asyncio.get_running_loop().time
                    # Copying a long history takes its time; only without progress for so long it is given up.
                    await self._starts.begin(
                        link, address, options, wanted, lambda: deadline.reschedule(clock() + timeout)
                    )
                await topology.create(link, address, options, wanted.delays, wanted.history)
        except (*errors.BROKEN, ValueError, TypeError) as error:
            raise errors.operation_failure(error, "declaring", address) from error

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if delay > self.capabilities.max_delay:
            raise ValueError(f"RabbitMQ: a delay of {delay} s is more than {self.capabilities.max_delay} s")
        if delay > 0 and address.ordered:
            raise ValueError(f"RabbitMQ: {address.name} is ordered: what is delayed would be overtaken")
        if not messages:
            return []
        deadline = asyncio.get_running_loop().time() + timeout
        if delay > 0:
            address = Address(delay_queue(address, delay), Kind.QUEUE)
        exchange = _exchange(address)
        routed = [(self._route(address, wire), wire) for wire in messages]
        # A topic without subscriptions takes everything; a queue must exist.
        call = Call(address, routed, mandatory=not exchange)
        return await self._publisher(exchange).send(call, deadline)

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> RabbitReceiver:
        limit = self._limits.get(address.name, DEFAULT_DELIVERY_LIMIT)
        receiver = RabbitReceiver(self._receiving, address, prefetch, self._receivers.remove, grace=grace, limit=limit)
        self._receivers.append(receiver)
        try:
            await receiver.open(timeout)
        except BaseException as error:
            await receiver.aclose()
            if isinstance(error, errors.BROKEN):
                raise errors.operation_failure(error, "receiving from", address) from error
            raise
        return receiver

    def health(self) -> AdapterHealth:
        connections = self._sending, self._receiving
        problems = [connection.problem for connection in connections if connection.problem is not None]
        sending = self._sending.live
        if sending is not None and sending.reader.blocked is not None:
            problems.append(f"RabbitMQ blocks publishing: {sending.reader.blocked}")
        return AdapterHealth(
            connected=all(connection.live is not None for connection in connections),
            problems=problems,
            receivers=[receiver.health() for receiver in self._receivers],
        )

    def operations(self) -> RabbitOperations:
        return RabbitOperations(self._receiving)

    async def aclose(self, *, timeout: float) -> None:
        parts: list[RabbitReceiver | Publisher] = [*self._receivers, *self._publishers.values()]
        try:
            async with asyncio.timeout(timeout / 2):
                await asyncio.gather(*(part.aclose() for part in parts))
        except TimeoutError:
            pass  # a dead broker: what is open is given up
        finally:
            await asyncio.gather(self._sending.aclose(timeout / 4), self._receiving.aclose(timeout / 4))

    def _publisher(self, exchange: str) -> Publisher:
        publisher = self._publishers.get(exchange)
        if publisher is None:
            size = self._server.options.max_message_size
            publisher = self._publishers[exchange] = Publisher(self._sending, exchange, size)
        return publisher

    def _route(self, address: Address, wire: Wire) -> str:
        """The routing key. A message without key goes to any partition, in turn."""
        index = 0
        if address.ordered:
            index = (
                next(self._turn) % address.partitions
                if wire.key is None
                else partition_of(wire.key, address.partitions)
            )
        if _exchange(address):
            return topology.binding_key(address, index)
        return topology.queues_of(address)[index]


def _exchange(address: Address) -> str:
    """A topic's exchange has its name. Everything else goes straight to its queue, through the default exchange."""
    return address.channel if address.kind is Kind.TOPIC and address.subscription is None else ""
