"""Typed options: of a channel on RabbitMQ, and of the broker itself, with what its URL says."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr
from yarl import URL

from unimsg.errors import ConfigurationError
from unimsg.network import host_and_port, tls_context
from unimsg.options import BrokerOptions, ChannelOptions

DEFAULT_DELIVERY_LIMIT = 100
DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
MOST_PARTITIONS = 256


class RabbitOptions(ChannelOptions):
    """Options of one channel. All but `partitions` become arguments of its queues, which RabbitMQ never changes: what
    differs from an existing queue is a TopologyError."""

    broker: ClassVar[str] = "rabbitmq"

    partitions: int = Field(default=8, ge=1, le=MOST_PARTITIONS)
    """Queues that an ordered channel is split into by key; so many receivers share it at most."""
    max_length: int | None = Field(default=None, ge=1)
    """Messages that each queue holds; what is sent beyond is `Refused`. The limit is soft: some more may fit."""
    delivery_limit: int = Field(default=DEFAULT_DELIVERY_LIMIT, ge=1)
    """Deliveries of one message, shutdowns and lost connections included, before it is moved to `<name>..dead`."""
    arguments: dict[str, bool | int | str] = Field(default_factory=dict)
    """More arguments of the queues, as RabbitMQ names them ("x-max-length-bytes"). They win over ours."""


class RabbitBrokerOptions(BrokerOptions):
    """Options of the connection, from the URL's query and the broker's table in the configuration."""

    heartbeat: int = Field(default=10, ge=1, le=600)
    """Seconds. A connection on which nothing was read for twice as long is closed and made again."""
    max_message_size: int = Field(default=16 * 1024 * 1024, ge=1)
    """Bytes of the largest body, as RabbitMQ's own `max_message_size`. What is larger is refused before it is sent:
    RabbitMQ would close the channel, and the messages behind it would be in doubt."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where RabbitMQ is, and who connects."""

    hosts: tuple[tuple[str, int], ...]
    vhost: str
    user: str
    password: SecretStr
    tls: ssl.SSLContext | None
    options: RabbitBrokerOptions

    @classmethod
    def from_url(cls, url: str, values: Mapping[str, object]) -> Self:
        """`amqp(s)://user@host1:port,host2:port/vhost?heartbeat=10`.

        Raises:
            ConfigurationError: malformed, or an unknown or invalid option.
        """
        parts = urlsplit(url)
        options = RabbitBrokerOptions.read(f"{parts.scheme}://", {**dict(parse_qsl(parts.query)), **values})
        userinfo, _, hosts = parts.netloc.rpartition("@")
        user, _, password = (unquote(part) for part in userinfo.partition(":"))
        secure = parts.scheme == "amqps"
        if options.tls and not secure:
            raise ConfigurationError("amqp://: the tls options need an encrypted connection: write amqps://")
        return cls(
            hosts=tuple(host_and_port("amqp://", host, DEFAULT_PORTS[parts.scheme]) for host in hosts.split(",")),
            vhost=unquote(parts.path[1:]) or "/",
            user=user or "guest",
            password=options.password or SecretStr(password or "guest"),
            tls=tls_context("amqps://", options.tls) if secure else None,
            options=options,
        )

    def url(self, host: str, port: int) -> URL:
        """For aiormq. It holds the password."""
        return URL.build(
            scheme="amqps" if self.tls else "amqp",
            user=self.user,
            password=self.password.get_secret_value(),
            host=host,
            port=port,
            path="/" if self.vhost == "/" else f"/{self.vhost}",
            query={"heartbeat": str(self.options.heartbeat)},
        )
