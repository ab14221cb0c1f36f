"""What the suite must know about a broker, and the bad things that it must be able to do to it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from unimsg.adapter import Adapter, Address, Wanted

Ability = Literal[
    "away",
    "backstop",
    "broken_tls",
    "counts_shutdowns",
    "cut",
    "cut_order",
    "declared_order",
    "delete",
    "fair_counts",
    "foreign",
    "full",
    "hand_over",
    "hosts",
    "join_order",
    "kill",
    "leave_order",
    "partitions",
    "password",
    "permissions",
    "processes",
    "racing",
    "refuse",
    "restart",
    "revoke",
    "stall",
    "too_large",
    "vhost",
]
"""What a case may need, beside the port:

- away: the network goes and comes back (`Network.leave`, `Network.back`)
- backstop: the broker gives a message up that was delivered too often (`Harness.backstop`)
- broken_tls: `at(tls=True)` asks for TLS, so that TLS can meet plain text
- counts_shutdowns: what a shut down process held counts as delivered
- cut: all connections are reset (`Network.cut`)
- cut_order: the keys of an ordered channel go on after a cut, within patience
- declared_order: the broker knows whether a channel is ordered by key
- delete: a channel can be deleted behind the adapter's back
- fair_counts: what a killed process held counts as delivered once, and goes to living ones only
- foreign: the broker's plain client can read and write
- full: a queue can be made to refuse everything, and to take it again (`Harness.full`)
- hand_over: what waits inside a stopped receiver goes to others before it is closed
- hosts: the adapter connects to a host and a port, so that it can be given wrong ones
- join_order, leave_order: the order of a key is kept by this broker while receivers join, leave
- kill: the death of a process is noticed, within patience
- partitions: keys are spread over a count of partitions that the broker knows
- password, vhost: the broker refuses a wrong one
- permissions: there are users that may not do everything
- processes: several processes reach the same broker
- racing: of several adapters that make one subscription at once, none undoes what another made
- refuse: a channel can be made that refuses some messages
- restart: the broker can be stopped and started with what it stores
- revoke: the permission to write to a queue can be taken away and given back (`revoke`, `grant`)
- stall: connections stand still without being closed (`Network.stall`, `Network.flow`)
- too_large: there is a size that the broker takes no message of
"""


PARTS: Mapping[str, str] = {
    "away": "network",
    "backstop": "backstop",
    "broken_tls": "at",
    "cut": "network",
    "delete": "delete",
    "foreign": "put",
    "full": "full",
    "hosts": "at",
    "password": "with_password",
    "permissions": "forbid",
    "refuse": "refusing",
    "restart": "restart",
    "revoke": "revoke",
    "stall": "network",
    "too_large": "too_large",
    "vhost": "at_vhost",
}
"""By ability, the part of a harness that it is made of."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message as the broker's plain client sees it."""

    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Headers (properties, attributes) with their names as on the wire, prefix included."""
    key: str | None = None
    content_type: str | None = None


class Network(ABC):
    """The way to the broker, which a case can break. `url` leads through it."""

    url: str
    port: int = 0
    """Of the way's beginning, on 127.0.0.1."""

    @abstractmethod
    async def cut(self) -> None:
        """Resets every connection. New ones are let in."""

    async def leave(self) -> None:
        """Resets every connection and lets no new one in, until `back`."""
        raise NotImplementedError

    async def back(self) -> None:
        raise NotImplementedError

    def stall(self) -> None:
        """Carries nothing in either direction, and closes nothing, until `flow`."""
        raise NotImplementedError

    def flow(self) -> None:
        raise NotImplementedError


class Harness(ABC):
    """One broker for one run of the suite. Subclass it for an adapter of your own.

    `start` and `stop` are called once a run, outside of any event loop; everything else inside the loop of a case.
    """

    name: ClassVar[str]
    """Of the broker, as in `--broker NAME` and in the table at the end."""
    adapter_type: ClassVar[type[Adapter]]
    url: str = ""
    """Of the running broker, without a password; set by `start`."""
    options: Mapping[str, object] = {}
    """For `Adapter.from_url`, beside the url: the password."""
    patience: float = 5.0
    """Seconds within which what must happen on a healthy broker has happened, on a busy machine."""
    recovery: float = 10.0
    """The same after a fault: a lost connection, a killed process, a restart."""
    slow_recovery: float = 150.0
    """The same in a case that runs in the slow tier because of what this broker needs for it: see `slow`."""
    lease: float = 0.0
    """Seconds after which the broker takes an unsettled message back unless the adapter prevents it; 0: never."""
    too_large: int = 0
    """Bytes of a body that the broker refuses, on a channel made with `refusing` or without."""
    backstop_limit: int = 5
    """The least for `backstop` with which a killer's neighbours are safe."""
    unproved: ClassVar[Mapping[str, str]] = {}
    """For an `Ability`: why cases that need it do not run here. Printed at the end of the run."""
    slow: ClassVar[Mapping[str, str]] = {}
    """For an `Ability`: why cases that need it run in the slow tier (`--tier N`) only."""
    leftovers: bool = False
    """Whether the broker outlives the run, so that each case must delete the channels that it made."""

    def missing(self) -> str | None:
        """Why this broker cannot run on this machine, looked up without starting anything; None: it can."""
        return None

    def start(self) -> None:  # noqa: B027  # a broker that is always there needs none
        """Starts the broker, or finds it. Raises with what to do if that is not possible."""

    def stop(self) -> None:  # noqa: B027
        """Stops what `start` started. Called also after a failed `start`."""

    def version(self) -> str:
        """Of the broker, for the table; empty if not known."""
        return ""

    def adapter(
        self,
        adapter_type: type[Adapter] | None = None,
        *,
        url: str | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Adapter:
        """An adapter for this broker, not yet connected."""
        return (adapter_type or self.adapter_type).from_url(
            url or self.url, self.options if options is None else options
        )

    def reason_against(self, ability: str) -> str | None:
        """Why a case that needs `ability` cannot run here; None: it can. What the harness does not have is a reason."""
        if ability in self.unproved:
            return self.unproved[ability]
        part = PARTS.get(ability)
        if part is not None and getattr(type(self), part) is getattr(Harness, part):
            return f"{type(self).__name__} has no {part}"
        return None

    def network(self) -> AbstractAsyncContextManager[Network]:
        """A way to the broker that can be broken. Abilities cut, away, stall."""
        raise NotImplementedError

    def backstop(self, limit: int) -> Mapping[str, Any]:
        """Settings of a channel whose messages the broker gives up after `limit` deliveries. Ability backstop."""
        raise NotImplementedError

    async def delete(self, address: Address) -> None:
        """Deletes the channel, or the subscription if `address` has one. Missing ones are fine. Ability delete."""
        raise NotImplementedError

    async def sweep(self, address: Address) -> None:
        """At the end of a case, on a broker that has `leftovers`: deletes the channel or subscription, and what was
        derived from it."""
        await self.delete(address)

    def refusing(self) -> Wanted:
        """What to `ensure` so that the channel refuses `refused_body` at the latest after 50 of them, and takes an
        empty body at first. Ability refuse."""
        raise NotImplementedError

    refused_body: bytes = b"x"

    def full(self, address: Address) -> AbstractAsyncContextManager[None]:
        """Inside, this queue, which exists, refuses whatever is sent to it. Nothing must be in it. Ability full."""
        raise NotImplementedError

    async def revoke(self, address: Address) -> tuple[str, Mapping[str, object]]:
        """An url and options of a user that may do everything but, until `grant`, write to this queue; or to any queue,
        where the broker does not tell them apart. Ability revoke."""
        raise NotImplementedError

    async def grant(self, address: Address) -> None:
        """Takes `revoke` back."""
        raise NotImplementedError

    def at(self, host: str, port: int, *, tls: bool = False) -> str:
        """`url` with another host and port, and with TLS if asked for. Abilities hosts, broken_tls."""
        raise NotImplementedError

    def secret(self, password: str) -> Mapping[str, object]:
        """Options with this password in them, to see that it is never shown; empty if the adapter takes none."""
        return {}

    def with_password(self, password: str) -> tuple[str, Mapping[str, object]]:
        """An url and options with a user that exists and this password. Ability password."""
        raise NotImplementedError

    def at_vhost(self, vhost: str) -> str:
        """`url` with another virtual host. Ability vhost."""
        raise NotImplementedError

    async def forbid(self, address: Address) -> tuple[str, Mapping[str, object]]:
        """An url and options of a user that may do nothing with this channel. Ability permissions."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Stops the broker and starts it again; returns when it serves. Ability restart."""
        raise NotImplementedError

    async def put(self, address: Address, message: Foreign) -> None:
        """Writes to a queue or topic as another program would, with the plain client. Ability foreign."""
        raise NotImplementedError

    async def put_odd(self, address: Address) -> None:
        """Writes one message with the oddest headers and attributes that the plain client lets through."""
        await self.put(address, Foreign(b"odd"))

    async def read(self, address: Address, count: int) -> list[Foreign]:
        """Reads `count` messages of a queue or subscription with the plain client. Ability foreign."""
        raise NotImplementedError

    @abstractmethod
    def where(self) -> str:
        """What runs, in words for the summary: "container rabbitmq:4.0-management", "UNIMSG_TEST_KAFKA_URL"."""
