"""Mutants of the RabbitMQ adapter, in its own code."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from unimsg_rabbitmq import errors, topology
from unimsg_rabbitmq.delays import Arguments
from unimsg_rabbitmq.options import RabbitOptions
from unimsg_rabbitmq.receiver import RabbitReceiver
from unimsg_rabbitmq.session import Session

from unimsg.adapter import Address
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
def calls_a_partial_refusal_rejected() -> Iterator[None]:
    """Says "stored nowhere" when one queue of several refused."""

    def nacked(address: Address, id: str) -> PublishError:
        return Refused("refused", channel=address.name, message_id=id)

    with patch.object(errors, "nacked", nacked):
        yield
