"""What can be set: for one broker (its URL, its configuration table) and for one channel."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from unimsg.errors import ConfigurationError
from unimsg.options import BrokerOptions, ChannelOptions

__all__ = ["PubSubBrokerOptions", "PubSubOptions", "parse_url"]

DEFAULT_DELIVERY_LIMIT = 100
Retention = Annotated[timedelta, Field(ge=timedelta(minutes=10), le=timedelta(days=31))]


class PubSubOptions(ChannelOptions):
    """Options of one channel on Pub/Sub. They are set on its subscription; labels also on its topic."""

    broker: ClassVar[str] = "pubsub"

    exactly_once: bool | None = None
    """Exactly-once delivery of the subscription: an acknowledgement that counted is final. None: as it is, off for a
    new one. Publishers can still send a message twice."""
    retention: Retention | None = None
    """How long a message waits for its receiver, 10 minutes to 31 days. None: as it is, 7 days for a new one."""
    delivery_limit: int = Field(default=DEFAULT_DELIVERY_LIMIT, ge=5, le=100)
    """Deliveries of one message after which Pub/Sub moves it to `<name>..dead`: its receivers died, or gave it back,
    each time. A dead-letter policy that names another topic is left as it is."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the topic and the subscription, set when they are created."""


class PubSubBrokerOptions(BrokerOptions):
    """Options of one project."""

    emulator: str | None = None
    """host:port of an emulator, spoken to in plain text and without credentials; else, without an
    `endpoint`, `PUBSUB_EMULATOR_HOST`."""
    credentials_file: str | None = None
    """JSON file with the credentials of a service account or of workload identity; without it the Application Default
    Credentials are used."""
    endpoint: str = "pubsub.googleapis.com:443"
    """Of the service. Ordered channels need the same regional one for all their publishers:
    "europe-west1-pubsub.googleapis.com:443"."""
    ack_deadline: int = Field(default=10, ge=10, le=600)
    """Seconds after which a message comes again if this process died. Extended three times as often while it lives."""

    @property
    def target(self) -> str:
        """host:port to connect to."""
        return self.emulator or self.endpoint


def parse_url(url: str, options: Mapping[str, object]) -> tuple[str, PubSubBrokerOptions]:
    """The project and the options in `pubsub://project?option=value`; those in `options` win.

    Raises:
        ConfigurationError: malformed; unknown option; an option that Pub/Sub has no use for.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ConfigurationError("pubsub://…: Pub/Sub knows no user in its URL: set credentials_file instead")
    if not parts.netloc or parts.path.strip("/"):
        raise ConfigurationError(f"{parts.scheme}://{parts.netloc}{parts.path}: write pubsub://project")
    read = PubSubBrokerOptions.read("pubsub://", {**dict(parse_qsl(parts.query, keep_blank_values=True)), **options})
    if read.password is not None:
        raise ConfigurationError("pubsub://.password: Pub/Sub knows no password: set credentials_file instead")
    said = read.model_fields_set & {"emulator", "endpoint"}
    if not said and (emulator := os.environ.get("PUBSUB_EMULATOR_HOST")):  # what is written here wins
        read = read.model_copy(update={"emulator": emulator})
    return parts.netloc, read
