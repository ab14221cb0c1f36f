"""The port's part for operators: looking at channels, deleting them, and what may be wrong with a connection.

Its names are imported from `unimsg.adapter`. As there, every docstring is an obligation.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from unimsg.adapter import Address, ChannelMissing, Wanted, Wire


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the broker differs from what is wanted."""

    what: str
    """The broker's resource, in its words: "queue orders.place", "topic web.clicks partitions"."""
    wanted: str
    found: str | None
    """None: it does not exist."""


class Right(Enum):
    MAKE = "make"
    """To `ensure` it, also where it does not exist yet."""
    SEND = "send"
    RECEIVE = "receive"


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a user may not do."""

    right: Right
    what: str
    """In the broker's words, as an operator grants it: "write on exchange orders.placed"."""
    unknown: str | None = None
    """Why it cannot be told whether it is missing; None: it is."""


@dataclass(frozen=True, slots=True)
class About:
    """Who is at the two ends of a connection, in words for an operator, without secrets."""

    broker: str
    """With its version, as far as it tells it: "RabbitMQ 4.0.5"."""
    client: str
    """The library that speaks to it: "aiormq 7.2.0"."""
    time: datetime | None = None
    """The broker's clock; None: it tells nobody."""
    problems: Sequence[str] = ()
    """What in the broker's own settings endangers a promise of unimsg, and what to do about it."""


class Operations(ABC):
    """What operators need. It never consumes a message and counts as no delivery."""

    @abstractmethod
    async def inspect(self, address: Address, wanted: Wanted, *, timeout: float) -> Sequence[Difference]:
        """Compares the broker with what is wanted. Empty: `ensure` would change nothing and refuse nothing.

        Raises: as `Adapter.ensure`, but for TopologyError.
        """

    @abstractmethod
    async def backlog(self, address: Address, *, timeout: float) -> int | None:
        """How many messages wait in this queue or subscription, not counting those handed out where the broker tells
        them apart; None where the broker does not tell at all.

        Raises:
            ChannelMissing: it does not exist.
            ConnectError, PermissionDenied: as everywhere.
        """

    @abstractmethod
    def browse(self, address: Address, *, limit: int, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        """What waits in this queue or subscription, `limit` at most, in pages, the oldest first as far as the broker
        has an order. It consumes nothing, and counts as no delivery that matters. What a receiver holds may be left
        out; what was shown may be kept from receivers until it was read to its end or closed, and is there for them
        then.

        A page is not empty, has 1,000 messages at most, and of bodies 16 MiB, but for one that is larger by itself. Of
        earlier pages nothing but what it takes to give them back stays in memory. `timeout`: seconds for each page.

        Raises:
            ChannelMissing: it does not exist.
            ConnectError, PermissionDenied: as everywhere.
        """

    def history(self, topic: Address, since: datetime, *, timeout: float) -> AsyncGenerator[Sequence[Wire], None]:
        """What was sent to a topic from `since` until now, in batches; of one key in the order sent. It disturbs no
        subscription, and leaves nothing behind when it was read to its end or closed. Not called where
        `Capabilities.max_history` is None. `timeout`: seconds for each batch.

        Raises:
            ChannelMissing: it does not exist, or keeps no history.
            ConnectError, PermissionDenied: as everywhere.
        """
        raise ChannelMissing(f"{topic.name} keeps no history")

    @abstractmethod
    async def find(self, address: Address, *, timeout: float) -> Address:
        """`address` as the broker has it, with its partitions: for who has no declaration of the channel. A broker that
        knows no order by key of its channels, and routes by it alike in any case, has none.

        Raises:
            ChannelMissing: it does not exist.
            TopologyError: a queue is asked for and it is a topic, or the reverse, where the broker tells them apart.
            ConnectError, PermissionDenied: as everywhere.
        """

    @abstractmethod
    async def delete(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        """Deletes a queue or a subscription with what waits in it, and its dead letters; the topic stays. Nothing that
        `ensure` with this `wanted` made for it alone is left on the broker. One that does not exist is fine. Its
        receivers are closed before; where one is open elsewhere, it gets ChannelMissing, or the broker refuses.

        Raises:
            ValueError: a topic without subscription: others may have subscribed.
            TopologyError: the broker deletes nothing that has receivers, and it has.
            ConnectError, PermissionDenied: as everywhere.
        """

    async def permissions(self, address: Address, right: Right, *, timeout: float) -> Sequence[Missing]:
        """What this user lacks to do it, or may lack where the broker does not tell; empty: nothing. It tries nothing
        out that could have an effect. The channel need not exist. To RECEIVE from an inbox includes to make it.

        Raises:
            ConnectError: as everywhere.
        """
        return [Missing(right, f"{right.value} {address.name}", "this adapter cannot ask")]

    async def about(self, *, timeout: float) -> About:
        """What the broker and its client say of themselves.

        Raises:
            ConnectError: as everywhere.
        """
        return About("a broker", "an adapter that does not say what it uses")
