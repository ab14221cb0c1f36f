"""Who uses which channel."""

import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from unimsg.channel import Channel
from unimsg.errors import ConfigurationError
from unimsg.service import Handler, Service


@dataclass(frozen=True, slots=True)
class Side:
    """What the services of a document do with messages."""

    reads: bool
    writes: bool


@dataclass(slots=True)
class Use:
    """Of one channel, by all services of a document."""

    declarations: list[Channel[Any, Any]]
    """It may be declared more than once, where services do not share a module."""
    handlers: list[tuple[Service[Any], Handler]] = field(default_factory=list)
    senders: list[Service[Any]] = field(default_factory=list)

    @property
    def channel(self) -> Channel[Any, Any]:
        return self.declarations[0]

    @property
    def side(self) -> Side:
        return Side(reads=bool(self.handlers), writes=bool(self.senders))

    @property
    def side_of_replies(self) -> Side:
        """Who receives a request writes its reply."""
        return Side(reads=bool(self.senders), writes=bool(self.handlers))

    @property
    def is_topic(self) -> bool:
        return self.channel._kind_of_channel == "topic"


def uses_of(services: Sequence[Service[Any]]) -> dict[str, Use]:
    """By the channels' names, in order of their first mention.

    Raises:
        ConfigurationError: two services of one name; a channel that is declared twice, differently.
    """
    names = [service.name for service in services]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"two services are called {twice[0]}: give each a name of its own")
    uses: dict[str, Use] = {}
    for service in services:
        for handler in service.handlers:
            _use(uses, handler.channel).handlers.append((service, handler))
        for channel in dict.fromkeys(service.sends):
            _use(uses, channel).senders.append(service)
    return uses


def _use(uses: dict[str, Use], channel: Channel[Any, Any]) -> Use:
    use = uses.setdefault(channel.name, Use([channel]))
    if channel not in use.declarations:
        other = use.channel
        if (other._kind_of_channel, other.ordered) != (channel._kind_of_channel, channel.ordered):
            raise ConfigurationError(
                f"{channel.name} is declared twice, differently: as {other!r} and as {channel!r} (kind of channel or "
                "order); declare it once and import it"
            )
        use.declarations.append(channel)
    return use


def about_service(service: Service[Any]) -> str | None:
    """The docstring of the module that its handlers are in."""
    modules = {inspect.getmodule(function_of(handler)) for handler in service.handlers}
    return _clean(inspect.getdoc(modules.pop())) if len(modules) == 1 else None


def about_handler(handler: Handler) -> Iterator[str]:
    """Its docstring: the first paragraph, and the rest."""
    text = _clean(inspect.getdoc(function_of(handler)))
    first, _, rest = (text or "").partition("\n\n")
    yield " ".join(first.split())
    yield rest.strip()


def name_of(handler: Handler) -> str:
    function = function_of(handler)
    return str(getattr(function, "__qualname__", type(function).__name__)).replace("<locals>.", "")


def function_of(handler: Handler) -> Any:  # anything that can be called
    function: Any = handler.function
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _clean(text: str | None) -> str | None:
    return text.strip() or None if text else None
