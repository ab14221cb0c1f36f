"""Which adapter serves a URL."""

from typing import TYPE_CHECKING

from unimsg._suggestion import suggestion
from unimsg.adapter import Adapter
from unimsg.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from unimsg.config import BrokerSettings

__all__ = ["adapter_for", "register"]

GROUP = "unimsg.adapters"
_registered: dict[str, type[Adapter]] = {}


def register(scheme: str, adapter: type[Adapter] | None) -> None:
    """Makes URLs of `scheme` use `adapter` in this process, before any installed one; None: no more.

    An adapter in a distribution of its own declares an entry point instead, in the group `unimsg.adapters`, named as
    the scheme.
    """
    if adapter is None:
        _registered.pop(scheme, None)
    else:
        _registered[scheme] = adapter


def adapter_for(name: str, broker: "BrokerSettings") -> Adapter:
    """The adapter of a configured broker, not connected. No network.

    Raises:
        ConfigurationError: unknown scheme; the client is not installed (says how); bad URL or option.
    """
    return adapter_type(name, broker).from_url(broker.url, broker.options(name))


def adapter_type(name: str, broker: "BrokerSettings") -> type[Adapter]:
    """Raises ConfigurationError: unknown scheme; the client is not installed (says how)."""
    scheme, divider, _ = broker.url.partition("://")
    if not divider:
        raise ConfigurationError(f"brokers.{name}.url must begin with a scheme, as in amqp://localhost")
    return _find(scheme, name)


def _find(scheme: str, name: str) -> type[Adapter]:
    if scheme in _registered:
        return _registered[scheme]
    from importlib.metadata import entry_points  # slow to import, and only needed here

    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if scheme not in installed:
        hint = suggestion(scheme, [*installed, *_registered])
        raise ConfigurationError(f"brokers.{name}.url: unknown scheme {scheme}://{hint}")
    return _load(installed[scheme])


def _load(entry: "EntryPoint") -> type[Adapter]:
    try:
        adapter: type[Adapter] = entry.load()
    except ImportError as error:
        package = entry.module.partition(".")[0]
        own = package.startswith("unimsg_")
        extra = f"unimsg[{package.removeprefix('unimsg_')}]" if own else package
        raise ConfigurationError(
            f"{entry.name}:// needs a client that is not installed ({error.name}): pip install '{extra}'"
        ) from error
    return adapter
