"""Receives from the queues of one address, each over a channel of its own."""

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import cast
from uuid import uuid4

from unimsg.adapter import Address, ChannelMissing, Delivery, Kind, Receiver, ReceiverHealth, SettlementLost
from unimsg.backoff import Backoff
from unimsg.mailbox import Mailbox
from unimsg.surprises import Surprises
from unimsg_rabbitmq import errors, topology
from unimsg_rabbitmq.connection import Connection, Link
from unimsg_rabbitmq.options import DEFAULT_DELIVERY_LIMIT
from unimsg_rabbitmq.session import Session

log = logging.getLogger(__name__)
OPEN_TIMEOUT = 30.0
MISSING_FOR = 3.0
"""Seconds that a queue must stay away to count as deleted: one that is made anew at once is received from again."""
LOOK_EVERY = 1.0
"""Seconds between two looks whether RabbitMQ withholds a partition."""
LATE = 5.0
"""Seconds beyond the grace period for the settlements of a partition that is handed over."""

LEAST_OF_A_PARTITION = 20
"""Messages that RabbitMQ may send of one partition, however small `prefetch` is."""


class RabbitReceiver(Receiver):
    """Of an ordered address it consumes all partitions; each goes to the receiver of the highest priority for it."""

    def __init__(
        self,
        connection: Connection,
        address: Address,
        prefetch: int,
        on_end: Callable[["RabbitReceiver"], None],
        *,
        grace: float = 25.0,
        limit: int = DEFAULT_DELIVERY_LIMIT,
    ) -> None:
        """`limit`: of redeliveries, as far as this process knows, for RabbitMQ tells nobody; negative: none."""
        self.address = address
        self.connection = connection
        self.stopped = False
        self._on_end = on_end
        self._grace = grace
        self._limit = limit
        self._mailbox = Mailbox(prefetch)
        self._surplus: list[Delivery] = []  # came after `stop`
        id, queues = uuid4().hex, topology.queues_of(address)
        # As many of each partition: the mailbox keeps the sum. What goes back stays in order only for those who take as
        # many as before, and a failing key holds no other up before so many of its partition wait behind it.
        self._per_queue = max(prefetch, LEAST_OF_A_PARTITION) if address.ordered else prefetch
        self._feeds = [_Feed(self, queue, self._per_queue, _rank(queue, id)) for queue in queues]
        self._handed_over: set[Session] = set()
        self._watch: asyncio.Task[None] | None = None
        self._closed = False
        self._last_delivery: float | None = None

    async def open(self, timeout: float) -> None:
        """Begins. Raises aiormq's errors and TimeoutError."""
        async with asyncio.timeout(timeout):
            outcomes = await asyncio.gather(*(feed.open() for feed in self._feeds), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        if self.address.ordered:
            self._watch = asyncio.create_task(self._watch_takeovers())

    async def receive(self) -> Sequence[Delivery]:
        return await self._mailbox.get()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        settled = self._mailbox.settle(deliveries)
        counted = await self._settle(Session.acks, settled)
        if self._handed_over:
            self._end_settled()
        if counted < len(settled):
            lost = len(settled) - counted
            raise SettlementLost(
                f"RabbitMQ: the channel of {lost} messages of {self.address.name} is gone: they come again"
            )

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        settled = self._mailbox.settle(deliveries)
        if not self.address.ordered:
            await self._settle(Session.requeues, settled)
            return
        # Never requeue one by one on a single active consumer: with a take-over pending, RabbitMQ 4.0 then gives the
        # queue's messages to nobody. Closing the channel puts all back in front, in order.
        if not self.stopped:
            for session in {_origin(delivery)[0] for delivery in settled}:
                self._hand_over(session, "messages were given back")
        self._end_settled()

    async def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        self._surplus += self._mailbox.close()
        await asyncio.gather(*(self._give_back_surplus(feed.session) for feed in self._feeds if feed.session))

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = self.stopped = True
        self._mailbox.close()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await asyncio.gather(*(feed.aclose(delete=self.address.kind is Kind.INBOX) for feed in self._feeds))
        self._on_end(self)

    def health(self) -> ReceiverHealth:
        return ReceiverHealth(
            self.address,
            consuming=all(feed.consuming for feed in self._feeds) and not self.stopped,
            since=max(feed.since for feed in self._feeds),
            last_delivery=self._last_delivery,
            unsettled=self._mailbox.unsettled,
            problem=next((feed.problem for feed in self._feeds if feed.problem), None),
        )

    # -- from its feeds

    def arrived(self, delivery: Delivery) -> None:
        self._last_delivery = monotonic()
        delivery.last_chance = 0 <= self._limit <= (delivery.redelivered or 0)
        if self._mailbox.closed:
            self._surplus.append(delivery)
        else:
            self._mailbox.put((delivery,))

    def missing(self) -> None:
        self._mailbox.close(ChannelMissing(f"RabbitMQ: {self.address.name} was deleted"))

    async def _give_back_surplus(self, session: Session) -> None:
        # Of an ordered address nothing goes back before the channel closes: after basic.cancel, the next receiver
        # would be given later messages of a key that still runs here.
        if not self.address.ordered:
            await session.cancel()
            surplus, self._surplus = self._surplus, []
            await self._settle(Session.requeues, surplus)

    async def _settle(
        self, frames_of: Callable[[Session, Sequence[int]], list[bytes]], deliveries: Iterable[Delivery]
    ) -> int:
        """Writes all settlements at once; returns how many count."""
        tags: defaultdict[Session, list[int]] = defaultdict(list)
        for delivery in deliveries:
            session, tag = _origin(delivery)
            if not session.epoch.over:
                tags[session].append(tag)
        written: defaultdict[Link, list[bytes]] = defaultdict(list)
        count: Counter[Link] = Counter()
        for session, of_session in tags.items():
            written[session.link] += frames_of(session, of_session)
            count[session.link] += len(of_session)
        counted = 0
        for link, frames in written.items():
            with contextlib.suppress(OSError):
                link.transport.write(b"".join(frames))
                await link.transport.drain()
                counted += count[link]
        return counted

    # -- handing a partition over

    async def _watch_takeovers(self) -> None:
        """Lets go of partitions that another receiver waits for. RabbitMQ gives one to a receiver of higher priority
        only when the old one holds nothing of it, gives the old one nothing more until then, and tells neither: a
        message that waits long for its next try would keep the whole partition from both."""
        before: dict[Session, float] = {}
        bug: str | None = None
        while not self.stopped:
            await asyncio.sleep(LOOK_EVERY)
            try:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    withheld = await self._withheld()
                for session, newest in withheld.items():
                    if before.get(session) == newest:
                        self._hand_over(session, "another receiver waits for it")
                self._end_settled()
                before = withheld
            except errors.BROKEN:
                before = {}
            except Exception as error:  # whatever it is: the next look may be well; its traceback once is enough
                if bug != repr(error):
                    bug = repr(error)
                    log.exception("RabbitMQ: looking after the partitions of %s failed", self.address.name)

    async def _withheld(self) -> dict[Session, float]:
        """Where messages wait, there is room for them, and none comes: the time of the newest that came."""
        withheld: dict[Session, float] = {}
        for feed in self._feeds:
            session = feed.session
            if session is None or session.epoch.draining or not 0 < session.unsettled < self._per_queue:
                continue
            newest = session.newest
            if monotonic() - newest > LOOK_EVERY and await topology.messages_in(session.link, (session.queue,)):
                withheld[session] = newest
        return withheld

    def _hand_over(self, session: Session, why: str) -> None:
        """What runs of it ends within the grace period; then its channel is closed, and another one consumes again."""
        if session.epoch.draining:
            return
        log.info("RabbitMQ: %s is given back: %s", session.queue, why)
        self._handed_over.add(session)
        session.epoch.drain()
        asyncio.get_running_loop().call_later(self._grace + LATE, session.end, why)

    def _end_settled(self) -> None:
        held = {delivery.epoch for delivery in self._mailbox.handed_out()}
        for session in [session for session in self._handed_over if session.epoch not in held]:
            self._handed_over.discard(session)
            session.end("it was given back")


class _Feed:
    """Keeps one queue's session open, again and again, until the receiver is stopped."""

    def __init__(self, receiver: RabbitReceiver, queue: str, prefetch: int, rank: int) -> None:
        self.session: Session | None = None
        self.consuming = False
        self.since = monotonic()
        self.problem: str | None = None
        self._surprises = Surprises(log)
        self._receiver = receiver
        self._queue = queue
        self._prefetch = prefetch
        self._rank = rank if receiver.address.ordered else None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        session = await self._begin()
        self._task = asyncio.create_task(self._run(session), name=f"unimsg-rabbitmq-{self._queue}")

    async def aclose(self, *, delete: bool) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        session, self.session = self.session, None
        if session is not None:
            await session.aclose(delete=delete)

    async def _run(self, session: Session | None) -> None:
        backoff, missing_since = Backoff(), None
        while True:
            try:
                if session is not None:
                    opened, session, missing_since = session, None, None
                    backoff.reset()
                    await self._until_over(opened)
                if self._receiver.stopped:
                    return
                await asyncio.sleep(backoff.next())
                async with asyncio.timeout(OPEN_TIMEOUT):
                    session = await self._begin()
            except errors.Ended:
                return
            except errors.BROKEN as error:
                self._fails(str(errors.operation_failure(error, "receiving from", self._receiver.address)))
                missing_since = (missing_since or monotonic()) if errors.is_absent(error) else None
                if missing_since is not None and monotonic() - missing_since > MISSING_FOR:
                    self._receiver.missing()
                    return
            except Exception as error:  # noqa: BLE001  # whatever it is: a receiver never dies silently
                self._fails(self._surprises.tell(f"RabbitMQ: receiving from {self._queue} failed", error))

    async def _until_over(self, session: Session) -> None:
        if self._receiver.stopped:
            await self._receiver._give_back_surplus(session)
        await asyncio.wait([session.over])
        self._fails(f"RabbitMQ: receiving from {self._queue} was interrupted: {session.over.result()}")
        await session.aclose()

    async def _begin(self) -> Session:
        link = await self._receiver.connection.get()
        # Known before it is open: what it delivers at once may be settled at once.
        session = self.session = Session(link, self._queue, self._receiver.arrived)
        try:
            await session.open(self._prefetch, self._rank, inbox=self._receiver.address.kind is Kind.INBOX)
        except BaseException:
            await session.aclose()
            raise
        self.consuming, self.since, self.problem = True, monotonic(), None
        return session

    def _fails(self, problem: str) -> None:
        self.problem = problem
        if self.consuming:
            self.consuming, self.since = False, monotonic()


def _origin(delivery: Delivery) -> tuple[Session, int]:
    """Its session and its delivery tag."""
    return cast("tuple[Session, int]", delivery.token)  # the session put them there


def _rank(queue: str, receiver: str) -> int:
    """By rendezvous: each receiver draws a number for each partition, and the highest gets it. So partitions spread
    over the receivers, and few move when one comes or goes."""
    digest = hashlib.blake2b(f"{queue} {receiver}".encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big")
