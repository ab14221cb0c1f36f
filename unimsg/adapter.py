"""The port: what maps unimsg onto one broker. Every docstring is an obligation of whoever implements it.

The core calls an adapter from one event loop. It may call every method concurrently with every other, except
where a method says otherwise. An adapter owns names, topology, connecting and reconnecting, the form on the
wire, publish outcomes, leases, settlement and the mapping of its client's errors. It owns no policy: retry,
order inside a process, concurrency, deadlines of handlers, duplicates and codecs are the core's. Handlers run
in the core's own tasks, never on a client's callback, and the core settles each delivery that it was handed
exactly once. `unimsg.memory` is the executable specification of this file. What operators need, `Operations`, stands in
`unimsg.operations`, and is imported from here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unimsg.errors import PublishError, UnimsgError

if TYPE_CHECKING:
    from unimsg.operations import About, Difference, Missing, Operations, Right
    from unimsg.options import BrokerOptions, ChannelOptions

__all__ = [
    "About",
    "Adapter",
    "AdapterHealth",
    "Address",
    "BrokerOptions",
    "Capabilities",
    "ChannelMissing",
    "ChannelOptions",
    "Delivery",
    "Difference",
    "Epoch",
    "Kind",
    "Missing",
    "Operations",
    "Receiver",
    "ReceiverClosed",
    "ReceiverHealth",
    "Right",
    "SettlementLost",
    "Wanted",
    "Wire",
]


class Kind(Enum):
    QUEUE = "queue"
    """Point-to-point: each message goes to one receiver."""
    TOPIC = "topic"
    """Publish-subscribe: each message goes to every subscription."""
    INBOX = "inbox"
    """A private channel of one process, for replies."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where messages go or come from. `channel` is the broker's name of it, prefix included."""

    channel: str
    kind: Kind
    subscription: str | None = None
    """Of a topic: as a source, the durable reader; as a target, this subscription only (retry, redrive)."""
    partitions: int = 0
    """Above 0: ordered by key. Immutable for the life of the channel, and part of the address because a sender
    must know it without asking the broker (RabbitMQ hashes the key on the sending side)."""

    @property
    def ordered(self) -> bool:
        return self.partitions > 0

    @property
    def name(self) -> str:
        """The name that derived resources carry. The empty part keeps it apart from every channel's name."""
        return f"{self.channel}..{self.subscription}" if self.subscription else self.channel


@dataclass(frozen=True, slots=True, init=False)
class Wire:
    """A message as it travels.

    `headers` are names and text values, in the CloudEvents binary form with the adapter's `attribute_prefix`, and
    `content-type`. The core makes and reads them all but two, which the adapter carries itself: the id (attribute
    `id`, and the broker's native id if it has one) and the key (attribute `partitionkey`, and the broker's native
    key if it has one). Neither stands in `headers`.

    Of a message that another program wrote: without an id the adapter makes one up, the same for each redelivery
    where the broker allows it; header values that are not text become text (what cannot is dropped); a broker's
    own bookkeeping headers are dropped.
    """

    id: str
    body: bytes
    headers: Mapping[str, str]
    key: str | None

    def __init__(self, id: str, body: bytes, headers: Mapping[str, str] | None = None, key: str | None = None) -> None:
        _set_id(self, id)
        _set_body(self, body)
        _set_headers(self, {} if headers is None else headers)
        _set_key(self, key)


# What dataclasses generate looks each field up by name, which takes as long as all else about the making of a message.
_set_id, _set_body, _set_headers, _set_key = (vars(Wire)[name].__set__ for name in ("id", "body", "headers", "key"))


class Epoch:
    """The connection, assignment or stream that gave a delivery; it goes from live to draining to over.

    Draining: nothing of it is started any more, what runs is finished, settlements count. Over: settlements raise
    `SettlementLost` and the broker delivers again. A lost connection goes from live to over at once. Whoever drains it
    ends it, when all that was handed out is settled, or the grace period is over by far. Of an ordered address nothing
    goes back before that, released or never handed out: an older message of its key may still run.
    """

    __slots__ = ("_callbacks", "draining", "over")

    def __init__(self) -> None:
        self.draining = False
        self.over = False
        self._callbacks: list[Callable[[], None]] = []

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Calls back once, when draining begins; at once if it has begun. For the core."""
        if self.draining:
            callback()
        else:
            self._callbacks.append(callback)

    def drain(self) -> None:
        """Start nothing of it any more. The core then settles everything of it within its grace period."""
        if not self.draining:
            self.draining = True
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()

    def end(self) -> None:
        """No settlement of it can succeed any more."""
        self.over = True
        self.drain()


@dataclass(slots=True, eq=False)
class Delivery:
    """One message handed to this process, until it is settled. Compared by identity."""

    wire: Wire
    epoch: Epoch
    token: object
    """What the adapter needs to settle it; the core never looks inside."""
    raw: object = None
    """The client's own message, for users who need more than the API shows."""
    redelivered: int | None = None
    """The broker's hint how often it was delivered before, None where it does not count. Never an attempt number:
    every broker's counter also counts shutdowns."""
    given_up: bool = False
    """Its receivers died too often, as an adapter knows whose broker moves nothing away by itself: the core makes it a
    dead letter instead of handling it."""
    last_chance: bool = False
    """The broker gives it up if it comes back once more, and with it all that came as often: of an ordered address also
    what only waited behind it. So the core makes the first such one of each key a dead letter instead of handling it,
    and goes on with the next. Only where `Capabilities.counts_redeliveries`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker can do, where brokers differ."""

    max_delay: float = 0.0
    """Seconds that `send(delay=)` can do; 0: not at all, and the core holds delayed messages itself."""
    max_history: timedelta | None = None
    """How far back a topic can be replayed; None: not at all."""
    max_body: int = 1_000_000
    """Bytes of the largest body that the broker can be configured to take."""
    counts_redeliveries: bool = False
    """Whether the broker counts, for all that a process held, when it dies: `Delivery.redelivered`. The core then holds
    what came several times alone. An adapter that sees to that itself leaves it False, and says `given_up`."""
    notices_missing_inbox: bool = False
    """Whether a send to an inbox whose process is gone fails with `Unroutable`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a channel should be, beside its address."""

    options: "ChannelOptions | None" = None
    """This broker's own typed options; None: its defaults."""
    start: datetime | None = None
    """Where a subscription that does not exist yet begins; None: with what is sent after `ensure` returned."""
    history: timedelta | None = None
    """How far back the topic must be replayable; never beyond `Capabilities.max_history`, and None where that is: the
    core refuses the rest."""
    delays: tuple[float, ...] = ()
    """Seconds that `send(delay=)` to this address will be called with; none beyond `Capabilities.max_delay`."""
    temporary: bool = False
    """Of a subscription to a topic that exists: for one receiver, without dead letters. `Operations.delete` removes it;
    where its process dies before that, the broker does by itself within a time that the broker's page tells."""


@dataclass(frozen=True, slots=True)
class ReceiverHealth:
    """How one receiver does."""

    address: Address
    consuming: bool
    """Whether the broker would deliver to it now, as far as this process knows."""
    since: float
    """`time.monotonic()` of the last change of `consuming`."""
    last_delivery: float | None
    """`time.monotonic()` of the newest delivery, None before the first."""
    unsettled: int
    problem: str | None = None
    """What is wrong, in words for an operator, without secrets."""


@dataclass(frozen=True, slots=True)
class AdapterHealth:
    """How the way to the broker does, as far as this process knows."""

    connected: bool
    problems: Sequence[str] = ()
    """Each in words for an operator, without secrets: "RabbitMQ blocks publishing: memory alarm"."""
    receivers: Sequence[ReceiverHealth] = ()


class SettlementLost(UnimsgError):
    """Some settlements did not count: the broker may deliver those messages again."""


class ChannelMissing(UnimsgError):
    """The queue, topic or subscription does not exist."""


class ReceiverClosed(UnimsgError):
    """The receiver was stopped or closed."""


class Receiver(ABC):
    """Hands out the messages of one address, and takes their settlements. Made by `Adapter.receiver`."""

    @abstractmethod
    async def receive(self) -> Sequence[Delivery]:
        """Waits for messages and returns one or more, as they are there; one caller at a time.

        At most `prefetch` deliveries are handed out and unsettled, whatever the broker does. Cancelling it loses
        nothing. It reconnects inside, for ever, and never hands out a delivery whose epoch is draining. What was
        handed out and what waits inside stays leased.

        Raises:
            ReceiverClosed: after `stop` or `aclose`.
            ChannelMissing: the channel was deleted.
        """

    @abstractmethod
    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settles them as done, in any order.

        Raises:
            SettlementLost: at least one may come back; the others are settled all the same.
        """

    @abstractmethod
    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Gives them back: delivered again soon, here or elsewhere. Counts as nothing. Never raises for an epoch that
        is over. On an ordered address the core calls it for draining and over epochs only, and for a key's messages in
        any order: they go back when their epoch is over, with all else of it, each key's in the order sent."""

    @abstractmethod
    async def stop(self) -> None:
        """Hand out nothing more. What was handed out stays leased and can be settled. What waits inside goes to other
        receivers at once, but on an ordered address only where nothing of its key runs here."""

    @abstractmethod
    async def aclose(self) -> None:
        """Ends it. The broker has every ack given before; everything unsettled goes back, keys in order. Bounded in
        time, idempotent, never raises for a dead broker."""


class Adapter(ABC):
    """One connection, in the wide sense, to one broker."""

    broker: ClassVar[str]
    """The broker's name in configuration: "rabbitmq", "kafka"."""
    attribute_prefix: ClassVar[str] = "ce-"
    """Before the names of CloudEvents attributes among the headers, as the broker's CloudEvents binding has it."""
    capabilities: Capabilities = Capabilities()
    options_type: "ClassVar[type[ChannelOptions]]"
    """The model of this broker's options per channel."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        """Parses; no network. `url` carries no password: that is `options["password"]`. Both the URL's query and
        `options` are read into one subclass of `BrokerOptions` by its `read`.

        Raises:
            ConfigurationError: malformed URL; unknown option, with a suggestion.
        """

    @abstractmethod
    async def connect(self, *, timeout: float) -> None:
        """Makes the first connection; later ones are made inside, for ever. Called once, before all else.

        Raises:
            ConnectError: not reached within `timeout` seconds; `reason` tells the cause.
            AuthenticationError: reached, and refused. Neither names a secret.
        """

    @abstractmethod
    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        """Makes the channel exist. Idempotent; several processes may do it at once.

        A queue: whatever is sent after it returns arrives, also before a receiver was ever made. A topic without
        subscription: the publisher's half. With one: whatever is sent after it returns arrives there, and nothing
        older unless `wanted.start` says so; calling it again moves nothing. An inbox: nothing to do.

        Raises:
            TopologyError: it exists and differs in what cannot be changed: says how, and what to do.
            CapabilityError: this broker cannot do what is wanted.
            PermissionDenied: names the operation and the channel.
            ConnectError: not within `timeout` seconds.
        """

    @abstractmethod
    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        """Stores messages durably; one outcome each, in order. Never raises, but for cancellation.

        None: confirmed by the broker. `PublishRejected` and below: certainly not stored, because it never left this
        process or the broker said no. `PublishUnconfirmed`: may be stored. One bad message does not fail its
        neighbours. Returns within `timeout` seconds, waiting for a connection included. Messages of one key on an
        ordered address are stored in the order of the sequence and of the calls, also when calls overlap. Creates no
        channel: a missing one is `Unroutable`. To a topic without subscriptions: success.

        `delay`: no receiver sees it sooner, in seconds; one that `Wanted.delays` had when the address was made
        (ValueError beyond `capabilities.max_delay`). What waits survives a restart of whatever the broker survives.
        A topic's subscription is a target where `max_delay` is more than 0.
        """

    @abstractmethod
    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        """Begins to receive from a queue, from a topic's subscription, or from an inbox, which is made here: whatever
        is sent to it from now on arrives, and it is gone after `aclose` or after the process. Waits for no other
        receiver and for no assignment. `grace`: seconds that the core may need to settle the deliveries of a draining
        epoch.

        Raises:
            ChannelMissing: it does not exist.
            PermissionDenied: names the operation and the channel.
            ConnectError: not within `timeout` seconds.
        """

    @abstractmethod
    def health(self) -> AdapterHealth:
        """What this process knows. No I/O."""

    @abstractmethod
    def operations(self) -> "Operations": ...

    @abstractmethod
    async def aclose(self, *, timeout: float) -> None:
        """Closes receivers that are still open, flushes, disconnects. Idempotent, bounded by `timeout` seconds, never
        raises for a dead broker."""


def __getattr__(name: str) -> Any:  # a class of the modules below
    """The part for operators stands in a file of its own. The options' models are imported when they are asked for:
    pydantic takes longer to import than all of unimsg."""
    if name in ("About", "Difference", "Missing", "Operations", "Right"):
        from unimsg import operations

        return getattr(operations, name)
    if name in ("BrokerOptions", "ChannelOptions"):
        from unimsg import options

        return getattr(options, name)
    raise AttributeError(name)
