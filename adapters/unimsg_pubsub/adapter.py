"""The adapter for Google Cloud Pub/Sub and its emulator."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Self

from google.pubsub_v1 import types

from unimsg.adapter import (
    Adapter,
    AdapterHealth,
    Address,
    Capabilities,
    Kind,
    Wanted,
    Wire,
)
from unimsg.errors import PermissionDenied, PublishError, Unroutable
from unimsg_pubsub.history import MAX_HISTORY
from unimsg_pubsub.link import Link
from unimsg_pubsub.operations import PubSubOperations
from unimsg_pubsub.options import PubSubBrokerOptions, PubSubOptions, parse_url
from unimsg_pubsub.publisher import Publisher
from unimsg_pubsub.receiver import PubSubReceiver
from unimsg_pubsub.topology import Topology
from unimsg_pubsub.wire import MOST_BYTES, PREFIX

__all__ = ["PubSubAdapter"]


class PubSubAdapter(Adapter):
    """One project."""

    broker = "pubsub"
    attribute_prefix = PREFIX
    capabilities = Capabilities(
        max_body=MOST_BYTES - 20_000,  # headers, at most 16 KB, count as well
        max_history=MAX_HISTORY,
        counts_redeliveries=True,
    )
    options_type = PubSubOptions

    def __init__(self, project: str, options: PubSubBrokerOptions) -> None:
        self._project = project
        self._options = options
        self._receivers: list[PubSubReceiver] = []
        self._gone: set[Address] = set()
        """Queues that a send found missing."""
        self._looks: dict[Address, asyncio.Future[types.Subscription]] = {}
        self._link: Link | None = None

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        return cls(*parse_url(url, options))

    async def connect(self, *, timeout: float) -> None:
        self._link = await Link.open(self._project, self._options, timeout=timeout)
        self._topology = Topology(self._project, self._link, self._options.ack_deadline)
        self._publisher = Publisher(self._link)

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        if wanted.temporary:
            await self._topology.make_temporary(address, timeout=timeout)
        else:
            await self._topology.ensure(address, wanted, timeout=timeout)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        if delay > self.capabilities.max_delay:
            raise ValueError("pubsub: Pub/Sub delays no message: whoever sends has to hold it")
        if address in self._gone and not await self._is_back(address, timeout):
            return [_unroutable(address, message) for message in messages]
        outcomes = await self._publisher.send(self._topology.topic(address), address, messages, timeout=timeout)
        if address.kind is Kind.QUEUE and any(isinstance(outcome, Unroutable) for outcome in outcomes):
            self._gone.add(address)
        return outcomes

    async def _is_back(self, address: Address, timeout: float) -> bool:
        """Whether a queue that was missing has its subscription again. Who makes it makes the topic first: what is sent
        in between is confirmed, and stored nowhere. Overlapping calls wait for one look, and go on in their order."""
        look = self._looks.get(address)
        if look is None:
            name = self._topology.subscription(address)
            look = self._looks[address] = asyncio.ensure_future(
                self._topology.get_subscription(name, monotonic() + timeout)
            )
            look.add_done_callback(partial(self._looked, address))
        await asyncio.wait([look], timeout=timeout)
        return address not in self._gone

    def _looked(self, address: Address, look: "asyncio.Future[types.Subscription]") -> None:
        del self._looks[address]
        if not look.cancelled() and (look.exception() is None or isinstance(look.exception(), PermissionDenied)):
            self._gone.discard(address)  # it is there, or it is not ours to look

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> PubSubReceiver:
        if address.kind is Kind.INBOX:
            await self._topology.make_inbox(address, timeout=timeout)
        else:
            await self._topology.get_subscription(self._topology.subscription(address), monotonic() + timeout)
        receiver = PubSubReceiver(
            self._connected(), self._topology, address, prefetch=prefetch, ack_deadline=self._options.ack_deadline
        )
        self._receivers = [each for each in self._receivers if not each.closed]
        self._receivers.append(receiver)
        receiver.start()
        return receiver

    def health(self) -> AdapterHealth:
        connected = self._link is not None and self._link.connected
        problems = [] if connected else [f"no connection to {self._options.target}"]
        return AdapterHealth(connected, problems, [each.health() for each in self._receivers if not each.closed])

    def operations(self) -> PubSubOperations:
        return PubSubOperations(self._connected(), self._topology, self._options.ack_deadline)

    async def aclose(self, *, timeout: float) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(self._publisher.flush(), *(each.aclose() for each in self._receivers))
        except TimeoutError:
            pass  # each receiver has let go of what it had
        finally:
            await link.aclose()

    def _connected(self) -> Link:
        if self._link is None:
            raise RuntimeError("connect() comes first, and nothing after aclose()")
        return self._link


def _unroutable(address: Address, message: Wire) -> Unroutable:
    text = f"pubsub: {address.name}: no subscription holds its messages: create the queue's subscription, too"
    return Unroutable(text, channel=address.name, message_id=message.id)
