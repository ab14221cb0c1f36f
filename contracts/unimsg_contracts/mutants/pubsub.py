"""Mutants of the Pub/Sub adapter, in its own code."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from unimsg_pubsub.leases import Leases
from unimsg_pubsub.receiver import PubSubReceiver


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
