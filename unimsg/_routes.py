"""Where a declared channel lives: its broker, its address there, and how its messages are made."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from unimsg._brokers import OWN_KINDS, Broker, Brokers
from unimsg._delays import Delays
from unimsg._message import CONTENT_TYPE, after, check_headers, check_id, check_key, now, now_and_id
from unimsg._publisher import Publisher
from unimsg._suggestion import suggestion
from unimsg.adapter import Adapter, Address, Kind, Wanted, Wire
from unimsg.channel import Channel
from unimsg.errors import CapabilityError, ConfigurationError, ConnectError, EncodeError, PublishRejected

if TYPE_CHECKING:
    from unimsg.config import ChannelSettings, Settings
    from unimsg.options import ChannelOptions

DEFAULT_PARTITIONS = 8
DEFAULT_MAX_BODY = 1_000_000
OPEN_TIMEOUT = 30.0
"""Seconds for making a channel. A sender's own timeout ends its wait earlier."""


class Route:
    """One channel on one broker."""

    def __init__(self, channel: Channel[Any, Any], broker: Broker, name: str, options: "ChannelOptions") -> None:
        self.channel = channel
        self.broker = broker
        # Only brokers that have partitions have an option for them; an ordered address needs a count on all.
        partitions = getattr(options, "partitions", None) or DEFAULT_PARTITIONS
        self.partitions: int = partitions if channel.ordered else 0
        self.kind = Kind.QUEUE if channel._kind_of_channel == "queue" else Kind.TOPIC
        self.address = Address(name, self.kind, partitions=self.partitions)
        self.is_topic = self.kind is Kind.TOPIC
        self.wanted = Wanted(options, history=channel.history)
        _check_history(channel, broker)
        self.prefix = broker.adapter.attribute_prefix
        self.max_body = options.max_body or DEFAULT_MAX_BODY
        if self.max_body > broker.adapter.capabilities.max_body:
            raise CapabilityError(
                f"{channel.name}: max_body = {self.max_body}, and {broker.adapter.broker} takes "
                f"{broker.adapter.capabilities.max_body} bytes at most: send a reference to the data instead"
            )
        self._time = f"{self.prefix}time"
        self._expiry = f"{self.prefix}expirytime"
        self._attributes: dict[tuple[str, str, str], dict[str, str]] = {}
        self.publisher = Publisher(broker.adapter, self.address, self._make)
        self.delays = Delays(broker, self.address, self.wanted, self.publisher)

    def subscription(self, name: str | None) -> Address:
        """The address that a handler reads."""
        return self.address if name is None else Address(self.address.channel, self.kind, name, self.partitions)

    def wire(
        self,
        body: object,
        *,
        source: str,
        key: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] = {},
        extensions: Mapping[str, str] = {},
        ttl: float | None = None,
    ) -> Wire:
        """The message as it travels.

        `extensions`: CloudEvents attributes without prefix. `ttl`: seconds, instead of the channel's.

        Raises:
            EncodeError: body, key, id, headers or size invalid.
        """
        channel = self.channel
        type_, content_type, data = channel.encode(body)
        if len(data) > self.max_body:
            raise EncodeError(
                f"{channel.name}: a body of {len(data)} bytes, at most {self.max_body}: raise max_body in its "
                "options, or send a reference to the data"
            )
        key = self._key(body, key)
        if id is None:
            moment, id = now_and_id()
        else:
            check_id(id)
            moment = now()
        attributes = self._attributes.get((source, type_, content_type))
        if attributes is None:
            attributes = self._constant_attributes(source, type_, content_type)
        travelling = {**attributes, self._time: moment}
        if extensions:
            travelling.update({f"{self.prefix}{name}": value for name, value in extensions.items()})
        if ttl is not None or (ttl := channel.ttl) is not None:
            travelling[self._expiry] = after(ttl)
        if headers:
            check_headers(channel.name, headers)
            travelling.update(headers)
        return Wire(id, data, travelling, key)

    async def made(self, message_id: str, timeout: float) -> None:
        """Makes the channel, unless that was done; `message_id`: of what is sent because of that.

        Raises:
            PublishRejected: not within `timeout` seconds.
            ConfigurationError, PermissionDenied: it is not as it must be.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._make()
        except (ConnectError, TimeoutError) as error:
            why = str(error) or f"its broker did not answer within {timeout:g} s"
            raise PublishRejected(
                f"{self.channel.name}: not made: {why}", channel=self.channel.name, message_id=message_id
            ) from error

    async def _make(self) -> None:
        await self.broker.connect()
        await self.broker.preparation.prepare(self.address, self.wanted, timeout=OPEN_TIMEOUT)

    def _key(self, body: object, key: str | None) -> str | None:
        channel = self.channel
        if key is None and channel.key_of is not None:
            key = channel.key_of(body)
        if key is not None:
            check_key(channel.name, key)
        elif channel.ordered:
            raise EncodeError(f"{channel.name} is ordered: pass key=, or declare the channel with key=")
        return key

    def _constant_attributes(self, source: str, type_: str, content_type: str) -> dict[str, str]:
        prefix = self.prefix
        attributes = {
            f"{prefix}specversion": "1.0",
            f"{prefix}source": source,
            f"{prefix}type": type_,
            f"{prefix}messagekind": self.channel.kind,
            CONTENT_TYPE: content_type,
        }
        self._attributes[source, type_, content_type] = attributes
        return attributes


def _check_history(channel: Channel[Any, Any], broker: Broker) -> None:
    most, kind = broker.adapter.capabilities.max_history, broker.adapter.broker
    if channel.history is not None and most is None:
        raise CapabilityError(
            f"{channel.name}: a history of {channel.history}, and {kind} keeps none: leave history out, or use another "
            "broker"
        )
    if channel.history is not None and most is not None and channel.history > most:
        raise CapabilityError(f"{channel.name}: a history of {channel.history}, and {kind} keeps {most} at most")


class Routes:
    """All channels that a bus has used or handles."""

    def __init__(self, settings: "Settings", brokers: Brokers) -> None:
        self._settings = settings
        self._brokers = brokers
        self._routes: dict[Channel[Any, Any], Route] = {}
        self._by_name: dict[tuple[str, str], Route] = {}

    def get(self, channel: Channel[Any, Any]) -> Route:
        """Raises:
        ConfigurationError: its broker is not configured; its options do not fit; another channel has its name.
        CapabilityError: its broker cannot do what it needs.
        """
        route = self._routes.get(channel)
        return route if route is not None else self._make(channel)

    def locate(self, name: str) -> tuple[Broker, str]:
        """The broker that carries the channel of this name, and its name there."""
        settings = self._settings.channel(name)
        return self._brokers.get(settings.broker or "default"), settings.name or self._settings.prefix + name

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def _make(self, channel: Channel[Any, Any]) -> Route:
        self._settings.check_channel_names([known.name for known in self._routes] + [channel.name])
        settings = self._settings.channel(channel.name)
        broker = self._brokers.get(settings.broker or "default")
        if settings.name and channel._namespace:
            raise ConfigurationError(f"channels.{channel.name}.name: a ReplyQueue has the name that its shape demands")
        name = settings.name or f"{self._settings.prefix}{channel._namespace}{channel.name}"
        tables = settings.model_extra or {}
        if not tables.keys() <= OWN_KINDS:  # else no other client need be loaded to know them
            self._refuse_unknown_tables(channel, tables)
        options = options_of(channel, broker.adapter, settings)
        route = Route(channel, broker, name, options)
        self._refuse_second_declaration(route)
        self._routes[channel] = route
        return route

    def _refuse_unknown_tables(self, channel: Channel[Any, Any], tables: Mapping[str, Any]) -> None:
        kinds = self._brokers.kinds()
        for key in tables.keys() - kinds:
            raise ConfigurationError(f"channels.{channel.name}.{key}: no broker has this name{suggestion(key, kinds)}")

    def _refuse_second_declaration(self, route: Route) -> None:
        """A queue and a topic never share a name, and one name has one order."""
        other = self._by_name.setdefault((route.broker.name, route.address.channel), route)
        if other.channel.name != route.channel.name:
            raise ConfigurationError(
                f"{other.channel.name} and {route.channel.name} are both called {route.address.channel} on the broker: "
                "give each a name= of its own in its settings"
            )
        if other.address != route.address:
            raise ConfigurationError(
                f"{route.channel.name} is declared twice, differently: as {other.channel!r} and as {route.channel!r} "
                "(kind of channel, order or partitions); declare it once and import it"
            )


def options_of(
    channel: Channel[Any, Any], adapter: Adapter | type[Adapter], settings: "ChannelSettings"
) -> "ChannelOptions":
    """Those in code that are for this broker, then those of the configuration, which win.

    Raises:
        ConfigurationError: an unknown or invalid option.
    """
    from unimsg.options import validated  # not above: it needs pydantic, which takes long to import

    values: dict[str, Any] = {}
    for option in channel.options:
        if option.broker in ("", adapter.broker):
            values.update(option.model_dump(exclude_unset=True))
    if settings.max_body is not None:
        values["max_body"] = settings.max_body
    values.update((settings.model_extra or {}).get(adapter.broker, {}))
    return validated(adapter.options_type, f"channels.{channel.name}.{adapter.broker}", values)
