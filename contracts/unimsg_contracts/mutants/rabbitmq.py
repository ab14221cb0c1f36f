"""Mutants of the RabbitMQ adapter, in its own code."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

from pamqp.commands import Basic
from unimsg_rabbitmq import errors, operations, topology
from unimsg_rabbitmq.adapter import RabbitAdapter
from unimsg_rabbitmq.connection import Connection
from unimsg_rabbitmq.delays import Arguments, delay_queues
from unimsg_rabbitmq.options import RabbitOptions
from unimsg_rabbitmq.receiver import RabbitReceiver
from unimsg_rabbitmq.session import Session
from unimsg_rabbitmq.wire import wire_of

from unimsg.adapter import Address, Delivery, Wire
from unimsg.errors import PublishError, Refused


@contextmanager
def no_single_active_consumer() -> Iterator[None]:
    """All receivers of a partition get its messages by turns."""
    original = topology.arguments_of

    def arguments_of(address: Address, options: RabbitOptions) -> Arguments:
        arguments = original(address, options)
        arguments.pop("x-single-active-consumer", None)
        return arguments

    with patch.object(topology, "arguments_of", arguments_of):
        yield


@contextmanager
def cancels_at_stop() -> Iterator[None]:
    """Ends its consumers at `stop`, on an ordered channel too."""

    async def give_back_surplus(_receiver: RabbitReceiver, session: Session) -> None:
        await session.cancel()

    with patch.object(RabbitReceiver, "_give_back_surplus", give_back_surplus):
        yield


@contextmanager
def knows_no_last_chance() -> Iterator[None]:
    """Says nothing of what will be given up if it comes once more."""
    arrived = RabbitReceiver.arrived

    def quiet(receiver: RabbitReceiver, delivery: Delivery) -> None:
        receiver._limit = -1
        arrived(receiver, delivery)

    with patch.object(RabbitReceiver, "arrived", quiet):
        yield


@contextmanager
def calls_a_partial_refusal_rejected() -> Iterator[None]:
    """Says "stored nowhere" when one queue of several refused."""

    def nacked(address: Address, id: str) -> PublishError:
        return Refused("refused", channel=address.name, message_id=id)

    with patch.object(errors, "nacked", nacked):
        yield


def _other_delay_queues(change: Callable[[Arguments], Arguments]) -> AbstractContextManager[object]:
    def changed(address: Address, delays: tuple[float, ...]) -> list[tuple[str, Arguments]]:
        return [(name, change(arguments)) for name, arguments in delay_queues(address, delays)]

    return patch.object(topology, "delay_queues", changed)


@contextmanager
def delays_a_moment_only() -> Iterator[None]:
    """Whatever the delay, the queue lets its messages go after a millisecond."""
    with _other_delay_queues(lambda arguments: {**arguments, "x-message-ttl": 1}):
        yield


@contextmanager
def drops_what_is_due() -> Iterator[None]:
    """Its delay queues lead nowhere."""
    leads = ("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy")
    with _other_delay_queues(lambda arguments: {name: arguments[name] for name in arguments if name not in leads}):
        yield


@contextmanager
def delays_without_headers() -> Iterator[None]:
    """What was kept back arrives as a body alone."""
    send = RabbitAdapter.send

    async def bare_send(
        adapter: RabbitAdapter, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        wires = [Wire(wire.id, wire.body) for wire in messages] if delay else messages
        return await send(adapter, address, wires, timeout=timeout, delay=delay)

    with patch.object(RabbitAdapter, "send", bare_send):
        yield


@contextmanager
def forgets_what_it_shows() -> Iterator[None]:
    """What was looked at is acknowledged."""

    async def look(
        connection: Connection, queue: str, limit: int, timeout: float
    ) -> AsyncGenerator[Sequence[Wire], None]:
        wires: list[Wire] = []
        async with (await connection.get()).scratch() as channel:
            while len(wires) < limit:
                message = await channel.basic_get(queue, no_ack=True)
                if not isinstance(message.delivery, Basic.GetOk):
                    break
                wires.append(wire_of(message.header.properties, message.body))
        if wires:
            yield wires

    with patch.object(operations, "look", look):
        yield
