"""The configured brokers of one bus, each connected when it is first needed."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unimsg._return import ReturnPath
from unimsg._suggestion import suggestion
from unimsg._topology import Preparation
from unimsg.adapter import Adapter
from unimsg.errors import ConfigurationError
from unimsg.registry import adapter_for, adapter_type

if TYPE_CHECKING:
    from unimsg.config import Settings

log = logging.getLogger("unimsg")

OWN_KINDS = frozenset({"memory", "rabbitmq", "kafka", "pubsub"})
"""`Adapter.broker` of the adapters in this distribution."""


class Broker:
    """One adapter and what was done with it so far."""

    def __init__(self, name: str, adapter: Adapter, settings: "Settings") -> None:
        self.name = name
        self.adapter = adapter
        self.preparation = Preparation(adapter, settings.topology)
        self.prefix = settings.prefix
        self.return_path = ReturnPath(adapter, settings.prefix)
        self._connect_timeout = settings.brokers[name].connect_timeout
        self._connecting: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the first connection was made; later ones are the adapter's job."""
        task = self._connecting
        return task is not None and task.done() and not task.cancelled() and task.exception() is None

    async def connect(self) -> None:
        """Makes the first connection; concurrent callers share it, and a failed one is tried again by the next.

        Raises:
            ConnectError, AuthenticationError: as `Adapter.connect`.
        """
        if self._connecting is None or (self._connecting.done() and not self.connected):
            self._connecting = asyncio.create_task(self.adapter.connect(timeout=self._connect_timeout))
            # Whoever waited may have given up meanwhile: then nobody asks for its error.
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._connecting)  # a caller that gives up does not take it from the others

    async def aclose(self, timeout: float) -> None:
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        await self.adapter.aclose(timeout=timeout)


class Brokers:
    """By the names they have in the configuration."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._brokers: dict[str, Broker] = {}

    def get(self, name: str) -> Broker:
        """Raises ConfigurationError if it is not configured, or wrongly. No network."""
        broker = self._brokers.get(name)
        if broker is None:
            if name not in self._settings.brokers:
                hint = suggestion(name, self._settings.brokers) or ": none is configured; set UNIMSG_URL"
                raise ConfigurationError(f"brokers.{name} is not configured{hint}")
            adapter = adapter_for(name, self._settings.brokers[name])
            broker = self._brokers[name] = Broker(name, adapter, self._settings)
        return broker

    def kinds(self) -> set[str]:
        """What brokers there are: ours, and those configured, as far as their clients are installed."""
        found = set(OWN_KINDS)
        for name, broker in self._settings.brokers.items():
            with contextlib.suppress(ConfigurationError):  # told to whoever uses that broker
                found.add(adapter_type(name, broker).broker)
        return found

    def __iter__(self) -> Iterator[Broker]:
        return iter(self._brokers.values())

    async def aclose(self, timeout: float) -> None:
        await asyncio.gather(*(broker.aclose(timeout) for broker in self._brokers.values()))
