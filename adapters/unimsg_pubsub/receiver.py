"""The port's receiver: a stream that feeds a mailbox, leases on all that is in it, and settlements by unary calls."""

import asyncio
from collections.abc import Sequence
from typing import Any

from google.api_core.exceptions import GoogleAPICallError

from unimsg.adapter import Address, ChannelMissing, Delivery, Epoch, Kind, Receiver, ReceiverHealth, SettlementLost
from unimsg.errors import UnimsgError
from unimsg.mailbox import MAX_BYTES, Mailbox
from unimsg_pubsub import errors, wire
from unimsg_pubsub.leases import Leases, tokens
from unimsg_pubsub.link import Link
from unimsg_pubsub.log import log
from unimsg_pubsub.options import DEFAULT_DELIVERY_LIMIT
from unimsg_pubsub.settlements import Lost, Settlements
from unimsg_pubsub.streams import Stream
from unimsg_pubsub.topology import Topology

ACK_TIME = 10.0
BACK_TIME = 2.0
CLOSE_TIME = 10.0
"""Seconds, reconnection included, for one acknowledgement, for giving back, and for all of closing."""
RENEWED_AT = 0.5
"""Of what a stream may have outstanding: when so much of it is set aside, another stream brings the rest."""


class PubSubReceiver(Receiver):
    """Receives from one subscription.

    Its epoch does not end with a stream: what a stream gave stays leased to this process, is extended, and its
    acknowledgement counts, also by another connection. The epoch ends when the leases ran out unextended, when the
    subscription is gone, and at `aclose`.
    """

    def __init__(self, link: Link, topology: Topology, address: Address, *, prefetch: int, ack_deadline: int) -> None:
        self.address = address
        self._topology = topology
        self._name = topology.subscription(address)
        self._limit = topology.limits.get(address.name, DEFAULT_DELIVERY_LIMIT)
        self._mailbox = Mailbox(prefetch)
        self._epoch = Epoch()
        self._settlements = Settlements(link, self._name)
        self._stream = Stream(
            link,
            self._name,
            ack_deadline,
            room=lambda: self._leases.room(),
            on_messages=self._take,
            on_missing=self._missing,
        )
        self._leases = Leases(
            self._settlements, ack_deadline, prefetch, on_room=self._stream.look_again, on_lapse=self._lapse
        )
        self._acks: set[asyncio.Task[Lost]] = set()
        self._aside = 0.0
        self._stopped = False
        self.closed = False

    def start(self) -> None:
        self._leases.start()
        self._stream.start()

    async def receive(self) -> Sequence[Delivery]:
        return await self._mailbox.get()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        settled = self._mailbox.settle(deliveries)
        leased = set(self._leases.drop(settled))
        # Also what is not leased any more: unless it was given to another receiver meanwhile, it still counts.
        failed = await asyncio.shield(self._acknowledge(tokens(settled)))
        lost = [each for each in settled if each not in leased or str(each.token) in failed]
        if lost:
            why = next((failure.why for failure in failed.values()), "their leases had run out")
            raise SettlementLost(f"pubsub: {self.address.name}: {len(lost)} messages may come again ({why})")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self._give_back(self._leases.drop(self._mailbox.settle(deliveries)))

    @property
    def is_open(self) -> bool:
        """Whether what waits would come now."""
        return self._stream.open and not self._stream.outdated

    def set_aside(self, deliveries: Sequence[Delivery]) -> None:
        """Keeps them from others until `aclose`, and their bodies no more: there is room for as many again."""
        settled = self._mailbox.settle(deliveries)
        self._leases.set_aside(settled)
        size = sum(len(delivery.wire.body) for delivery in settled)
        self._aside += max(len(settled) / self._mailbox.limit, size / MAX_BYTES)
        if self._aside >= RENEWED_AT:
            self._aside = 0.0
            self._stream.renew()

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._mailbox.close()
        # Of an ordered subscription the open stream keeps the keys here, while their handlers still run.
        if not self.address.ordered:
            await self._stream.end()
            handed_out = set(self._mailbox.handed_out())
            waiting = [each for each in self._leases.held() if each not in handed_out]
            await self._give_back(self._leases.drop(waiting))

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = self._stopped = True
        self._mailbox.close()
        try:
            async with asyncio.timeout(CLOSE_TIME):
                await self._hand_over()
        except TimeoutError:
            log.info("pubsub: %s: closed without an answer; what was unsettled comes again", self.address.name)
        finally:
            self._epoch.end()
            await self._stream.abort()
            await self._leases.aclose()

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(
            self.address,
            consuming=self._stream.open and not self._stopped,
            since=self._stream.since,
            last_delivery=self._stream.last_message,
            unsettled=self._mailbox.unsettled,
            problem=self._stream.problem or self._leases.surprises.problem,
        )

    def _take(self, received: Any) -> None:
        """Protobuf ReceivedMessages of the stream."""
        strays: list[str] = []
        deliveries: list[Delivery] = []
        inbox = self.address.channel if self.address.kind is Kind.INBOX else None
        for each in received:
            if inbox is not None and each.message.attributes.get(wire.INBOX) != inbox:
                strays.append(each.ack_id)  # the emulator applies no filter
                continue
            # The broker counts from 1, and only where the subscription has a dead-letter policy; else 0.
            redelivered = each.delivery_attempt - 1 if each.delivery_attempt else None
            delivery = Delivery(wire.decode(each.message), self._epoch, each.ack_id, each, redelivered)
            delivery.last_chance = each.delivery_attempt >= self._limit
            deliveries.append(delivery)
        self._leases.add(deliveries)
        self._mailbox.put(deliveries)
        if strays:
            self._acknowledge(strays)

    def _acknowledge(self, ids: Sequence[str]) -> asyncio.Task[Lost]:
        """A task of its own: an acknowledgement that was given goes on, also when who gave it is cancelled."""
        task = asyncio.create_task(self._settlements.ack(ids, within=ACK_TIME))
        self._acks.add(task)
        task.add_done_callback(self._acks.discard)
        return task

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """In this order. What Pub/Sub cannot be told comes again when its lease runs out."""
        await self._settlements.lease(tokens(deliveries), 0, within=BACK_TIME)

    async def _hand_over(self) -> None:
        if self._acks:
            await asyncio.wait(self._acks)
        if not self.address.ordered:
            await self._stream.end()
        # Ordered: given back in order while the stream is open. The other way round the emulator gives later messages
        # of a key to other receivers first.
        await self._give_back(self._leases.drop_all())
        await self._stream.end()
        await self._give_back(self._leases.drop_all())
        if self.address.kind is Kind.INBOX:
            await self._delete_inbox()

    async def _delete_inbox(self) -> None:
        try:
            await self._topology.delete_subscription(self._name, timeout=BACK_TIME)
        except UnimsgError as error:
            log.info("pubsub: %s was not deleted, and expires in a day: %s", self._name, error)

    def _lapse(self) -> None:
        """Nothing could be extended for too long: other receivers get it all."""
        self._leases.drop_all()
        lapsed, self._epoch = self._epoch, Epoch()
        lapsed.end()

    async def _missing(self, error: GoogleAPICallError) -> bool:
        """The subscription does not exist: an inbox is made again, anything else is its owner's to decide."""
        self._lapse()
        if self.address.kind is not Kind.INBOX:
            self._mailbox.close(ChannelMissing(f"pubsub: {self.address.name} was deleted ({errors.why(error)})"))
            return False
        try:
            await self._topology.make_inbox(self.address, timeout=ACK_TIME)
        except UnimsgError as failure:
            log.info("pubsub: %s could not be made again: %s", self._name, failure)
        return True
