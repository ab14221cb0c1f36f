"""Mutants of the Pub/Sub adapter, in its own code."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from unimsg_pubsub import wire
from unimsg_pubsub.leases import Leases, tokens
from unimsg_pubsub.receiver import PubSubReceiver
from unimsg_pubsub.topology import Topology

from unimsg.adapter import Delivery


@contextmanager
def no_lease_keeper() -> Iterator[None]:
    """Extends no lease."""

    async def extend(_leases: Leases, *, within: float) -> None: ...

    with patch.object(Leases, "_extend", extend):
        yield


@contextmanager
def gives_back_at_stop() -> Iterator[None]:
    """Gives back what waits at `stop`, on an ordered channel too."""

    async def stop(receiver: PubSubReceiver) -> None:
        receiver._mailbox.close()
        await receiver._stream.end()
        handed_out = set(receiver._mailbox.handed_out())
        await receiver._give_back(receiver._leases.drop([d for d in receiver._leases.held() if d not in handed_out]))

    with patch.object(PubSubReceiver, "stop", stop):
        yield


@contextmanager
def acknowledges_what_it_shows() -> Iterator[None]:
    """Browsing consumes."""

    def acknowledged(receiver: PubSubReceiver, deliveries: Sequence[Delivery]) -> None:
        receiver._leases.drop(receiver._mailbox.settle(deliveries))
        receiver._acknowledge(tokens(deliveries))

    with patch.object(PubSubReceiver, "set_aside", acknowledged):
        yield


@contextmanager
def keeps_what_it_shows() -> Iterator[None]:
    """Gives nothing back: it comes again when its lease has run out."""

    async def give_back(_receiver: PubSubReceiver, _deliveries: Sequence[Delivery]) -> None: ...

    with patch.object(PubSubReceiver, "_give_back", give_back):
        yield


@contextmanager
def no_dead_letter_policy() -> Iterator[None]:
    """Messages come again for ever."""
    with patch.object(Topology, "_wanted_policy", lambda *_: None):
        yield


@contextmanager
def gives_up_without_a_word() -> Iterator[None]:
    """What Pub/Sub itself moved says nothing of why."""
    with patch.object(wire, "_record", lambda *_: {}):
        yield
