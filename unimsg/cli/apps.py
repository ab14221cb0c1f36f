"""Services that are named on the command line."""

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from unimsg import Service
from unimsg.errors import ConfigurationError


def load(spec: str) -> list[Service[Any]]:
    """The services at `module:name`, where the name is that of a Service or of a sequence of them. The module is looked
    for in the working directory, too.

    Raises:
        ConfigurationError: no such module or name, it is no service, or the module fails when it is imported.
    """
    module_name, divider, name = spec.partition(":")
    if not (module_name and divider and name):
        raise ConfigurationError(f"{spec}: name a service as module:name, as in shop.main:service")
    found = _imported(spec, module_name)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            services = _services_in(found)
            hint = f"; it has {', '.join(services)}" if services else ""
            raise ConfigurationError(f"{spec}: module {module_name} has no {name}{hint}") from None
    several = list(found) if isinstance(found, list | tuple) else [found]
    for service in several:
        if not isinstance(service, Service):
            raise ConfigurationError(f"{spec} is a {type(service).__name__}, not a unimsg.Service")
    if not several:
        raise ConfigurationError(f"{spec} is empty: no service is in it")
    return several


def load_all(specs: Iterable[str] | None) -> Sequence[Service[Any]]:
    """All of them, each once."""
    services: dict[int, Service[Any]] = {}
    for spec in specs or ():
        services.update({id(service): service for service in load(spec)})
    return list(services.values())


def _imported(spec: str, name: str) -> Any:  # a module: whatever it holds
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(f"{spec}: no module {error.name} in {here} or on the path") from None
        raise ConfigurationError(f"{spec}: module {name} needs {error.name}, which is not installed") from error
    except SyntaxError as error:
        raise ConfigurationError(f"{spec}: {error.filename}, line {error.lineno}: {error.msg}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{spec}: {error}") from error
    except Exception as error:  # whatever a user's module does: it is told, and --debug shows where
        raise ConfigurationError(f"{spec}: importing {name} failed: {type(error).__name__}: {error}") from error


def _services_in(module: Any) -> list[str]:  # whatever was imported
    return (
        [name for name, value in vars(module).items() if isinstance(value, Service)]
        if hasattr(module, "__dict__")
        else []
    )
