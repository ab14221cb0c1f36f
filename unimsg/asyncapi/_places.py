"""Where channels live, as the settings say. Nothing is connected, and no secret is read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from unimsg._routes import options_of
from unimsg._suggestion import suggestion
from unimsg.channel import Channel
from unimsg.errors import ConfigurationError
from unimsg.memory import MemoryAdapter
from unimsg.registry import adapter_type

if TYPE_CHECKING:
    from unimsg.adapter import Adapter
    from unimsg.config import BrokerSettings, Settings
    from unimsg.options import ChannelOptions


@dataclass(frozen=True, slots=True)
class Broker:
    """A configured broker, or the one in memory."""

    name: str
    kind: str
    """`Adapter.broker`: "rabbitmq", "kafka"."""
    prefix: str
    """Before the names of CloudEvents attributes."""
    url: str
    """Without the password."""
    options: dict[str, Any]
    """Its own, from the URL's query and its table, not checked."""


@dataclass(frozen=True, slots=True)
class Place:
    """Of one channel."""

    broker: Broker
    name: str
    """The broker's name for the channel."""
    options: "ChannelOptions"


class Places:
    """By channel."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._brokers: dict[str, tuple[Broker, type[Adapter]]] = {}

    def get(self, channel: Channel[Any, Any]) -> Place:
        """Raises ConfigurationError: its broker is not configured or its client not installed; a wrong option."""
        settings = self._settings.channel(channel.name)
        broker, adapter = self._broker(settings.broker)
        name = settings.name or self._settings.prefix + channel._namespace + channel.name
        return Place(broker, name, options_of(channel, adapter, settings))

    def _broker(self, name: str | None) -> "tuple[Broker, type[Adapter]]":
        if name is None and not self._settings.brokers:
            return _MEMORY
        name = name or "default"
        if name not in self._brokers:
            if name not in self._settings.brokers:
                hint = suggestion(name, self._settings.brokers) or ": none is configured; set UNIMSG_URL"
                raise ConfigurationError(f"brokers.{name} is not configured{hint}")
            settings = self._settings.brokers[name]
            adapter = adapter_type(name, settings)
            self._brokers[name] = (_broker(name, settings, adapter), adapter)
        return self._brokers[name]


def _broker(name: str, settings: "BrokerSettings", adapter: "type[Adapter]") -> Broker:
    options = {**dict(parse_qsl(urlsplit(settings.url).query)), **(settings.model_extra or {})}
    return Broker(name, adapter.broker, adapter.attribute_prefix, settings.url, options)


_MEMORY = (Broker("default", MemoryAdapter.broker, MemoryAdapter.attribute_prefix, "memory://", {}), MemoryAdapter)
