"""Receiving from an inbox: one partition of the reply topic that all inboxes share, from now on, in no group.

The inbox's name is the record key of what is sent to it, so that sender and receiver agree on the partition. Nothing is
committed: an inbox lives as long as its process.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    TopicPartition,
)

from unimsg.adapter import Address, ChannelMissing, Delivery, Epoch, Receiver, ReceiverHealth, SettlementLost
from unimsg.backoff import Backoff
from unimsg.keys import partition_of
from unimsg.mailbox import Mailbox
from unimsg.surprises import Surprises
from unimsg_kafka.clients import FETCHING, stop_consumer
from unimsg_kafka.errors import log, problem
from unimsg_kafka.options import KafkaOptions
from unimsg_kafka.topics import Topic, Topics
from unimsg_kafka.wire import decode, inbox_of

REPLY_PARTITIONS = 32
REPLY_OPTIONS = KafkaOptions(config={"retention.ms": "600000", "segment.ms": "600000"})
"""A reply that is older than ten minutes has nobody who waits for it."""


class InboxReceiver(Receiver):
    def __init__(self, topics: Topics, topic: Topic, address: Address, *, prefetch: int) -> None:
        self.closed = False
        self._topics, self._topic, self._address = topics, topic, address
        self._prefetch = prefetch
        self._mailbox = Mailbox(prefetch)
        self._epoch = Epoch()
        self._room = asyncio.Event()
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None
        self._surprises = Surprises(log)
        self._since = monotonic()
        self._last_delivery: float | None = None

    async def open(self) -> None:
        """Returns when whatever is sent from now on arrives."""
        place = TopicPartition(self._topic.name, partition_of(self._address.channel, self._topic.partitions))
        consumer = self._topics.clients.consumer(auto_offset_reset="earliest", **FETCHING)
        try:
            await consumer.start()
            consumer.assign([place])
            await consumer.seek_to_end(place)
            await consumer.position(place)  # before it, the seek is only intended
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        self._task = asyncio.create_task(self._poll(consumer))

    async def receive(self) -> Sequence[Delivery]:
        return await self._mailbox.get()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        settled = self._mailbox.settle(deliveries)
        self._room.set()
        if settled and self._epoch.over:
            raise SettlementLost(f"kafka: inbox {self._address.channel} is closed")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        settled = self._mailbox.settle(deliveries)
        self._mailbox.put(Delivery(one.wire, one.epoch, None, one.raw) for one in settled)
        self._room.set()

    async def stop(self) -> None:
        self._mailbox.close()

    async def aclose(self) -> None:
        await self.close(5.0)

    async def close(self, timeout: float) -> None:
        self._mailbox.close()
        self._epoch.end()
        self.closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer, self._topics.admin, timeout)

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(
            self._address,
            consuming=not self._mailbox.closed,
            since=self._since,
            last_delivery=self._last_delivery,
            unsettled=self._mailbox.unsettled,
            problem=self._problem,
        )

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        backoff = Backoff()
        missing = 0
        while not self._mailbox.closed:
            room = self._prefetch - len(self._mailbox) - self._mailbox.unsettled
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                records = await consumer.getmany(timeout_ms=1000, max_records=room)
                missing = missing + 1 if not records and await self._topics.is_gone(self._topic) else 0
            except Exception as error:  # noqa: BLE001  # whatever it is, a receiver must not end silently
                self._problem = problem(self._surprises, self._address.channel, "cannot receive", error)
                await asyncio.sleep(backoff.next())
                continue
            self._problem = None
            backoff.reset()
            if missing > 1:
                self._problem = f"topic {self._topic.name} was deleted"
                self._mailbox.close(ChannelMissing(f"kafka: topic {self._topic.name} was deleted"))
            name = self._address.channel.encode()
            mine = [record for batch in records.values() for record in batch if inbox_of(record) == name]
            if mine:
                self._last_delivery = monotonic()
                self._mailbox.put(Delivery(decode(record), self._epoch, None, record) for record in mine)
