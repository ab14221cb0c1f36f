"""Options that several commands have, and the settings that they lead to."""

from typing import Annotated

import typer

from unimsg.config import Settings
from unimsg.errors import ConfigurationError

Url = Annotated[
    str | None,
    typer.Option("--url", help="The default broker, instead of the configured one: amqp://, kafka://, pubsub://."),
]
App = Annotated[
    list[str] | None,
    typer.Option("--app", help="module:service whose declarations are meant; can be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
Name = Annotated[str, typer.Argument(metavar="CHANNEL[/SUBSCRIPTION]", show_default=False)]

HOW_TO_CONFIGURE = (
    "no broker is configured: set UNIMSG_URL, or url in unimsg.toml, or give --url; to try it out in this process "
    "alone: --url memory://"
)


def configured(url: str | None) -> Settings:
    """File, environment and option.

    Raises:
        ConfigurationError: wrong, or nothing is configured.
    """
    settings = Settings.load()
    if url is not None:
        settings = settings.with_url(url)
    if not settings.brokers:
        raise ConfigurationError(HOW_TO_CONFIGURE)
    return settings


def for_operators(url: str | None) -> Settings:
    """The same for commands that use channels as they are: who misspells one must not make it."""
    return configured(url).model_copy(update={"topology": "off"})
