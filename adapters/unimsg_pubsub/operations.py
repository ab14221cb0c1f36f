"""What operators ask."""

from collections.abc import Sequence
from time import monotonic

from unimsg.adapter import Address, ChannelMissing, Difference, Kind, Operations, Wanted
from unimsg_pubsub.options import PubSubOptions
from unimsg_pubsub.topology import Topology, options_of, topic_changes


class PubSubOperations(Operations):
    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        options = options_of(address, wanted)
        if address.kind is Kind.INBOX:
            return []
        until = monotonic() + timeout
        try:
            topic = await self._topology.get_topic(self._topology.source(address), until)
        except ChannelMissing:
            return [Difference(f"topic {address.channel}", "exists", None)]
        differences = [each.difference for each in topic_changes(address, topic)]
        if address.kind is Kind.QUEUE or address.subscription:
            differences += await self._of_subscription(address, options, until)
        return differences

    async def backlog(self, address: Address, *, timeout: float) -> int | None:
        """None: the service only tells it through Cloud Monitoring, minutes late."""
        until = monotonic() + timeout
        if address.kind is Kind.TOPIC and address.subscription is None:
            await self._topology.get_topic(self._topology.source(address), until)
        else:
            await self._topology.get_subscription(self._topology.subscription(address), until)
        return None

    async def _of_subscription(self, address: Address, options: PubSubOptions, until: float) -> list[Difference]:
        try:
            found = await self._topology.get_subscription(self._topology.subscription(address), until)
        except ChannelMissing:
            return [Difference(f"subscription {address.name}", "exists", None)]
        return [each.difference for each in self._topology.subscription_changes(address, options, found)]
