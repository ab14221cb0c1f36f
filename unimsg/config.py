"""Configuration: from code, file, environment and argument, weakest first."""

import fnmatch
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator

from unimsg._suggestion import suggestion
from unimsg._urls import hosts_of, split_password
from unimsg._waiting import MAX_DELAY
from unimsg.errors import ConfigurationError
from unimsg.network import is_loopback
from unimsg.options import BrokerOptions, explain, validated

__all__ = ["BrokerSettings", "ChannelSettings", "HandlerSettings", "Settings", "Topology"]

Topology = Literal["create", "verify", "off"]

FILE_NAME = "unimsg.toml"
FILE_VARIABLE = "UNIMSG_CONFIG"
_VARIABLES = ("URL", "TOPOLOGY", "PREFIX", "BROKERS", "CHANNELS", "HANDLERS", "CONFIG")
_PASSWORDS = {"password", "password_file", "password_env"}


class BrokerSettings(BaseModel):
    """One broker: `[brokers.NAME]`. Keys that are not listed here are the adapter's own options."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    url: str
    """Never with a password: one that stands in it is taken out and put into `password`."""
    password: SecretStr | None = None
    password_file: str | None = None
    password_env: str | None = None

    @property
    def connect_timeout(self) -> float:
        """Seconds for the first connection, as the adapter's options have it: from the table, else from the URL."""
        said: dict[str, Any] = {**dict(parse_qsl(urlsplit(self.url).query)), **(self.model_extra or {})}
        return float(said.get("connect_timeout", BrokerOptions.model_fields["connect_timeout"].default))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:  # what pydantic shows of it
        """The adapter's own options without their values: one of them may be a misspelt password."""
        extra = self.model_extra or {}
        return ((name, "…" if name in extra else value) for name, value in super().__repr_args__())

    @model_validator(mode="before")
    @classmethod
    def _url_is_not_misspelt(cls, values: Any) -> Any:  # what pydantic was given
        if isinstance(values, dict) and "url" not in values:
            for key in values:
                if "did you mean" in (hint := suggestion(str(key), ["url"])):
                    raise ValueError(f"{key}: unknown option{hint}")
        return values

    @model_validator(mode="before")
    @classmethod
    def _take_password_out_of_url(cls, values: Any) -> Any:  # what pydantic was given
        if isinstance(values, dict) and isinstance(values.get("url"), str):
            url, password = split_password(values["url"])
            if password is not None:
                return {"password": password, **values, "url": url}
        return values

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if sum(value is not None for value in (self.password, self.password_file, self.password_env)) > 1:
            raise ValueError("more than one of password (also in the URL), password_file and password_env")
        return self

    def options(self, name: str) -> dict[str, object]:
        """The adapter's own options, with the password from wherever it is kept.

        Raises:
            ConfigurationError: its file or variable is missing.
        """
        options: dict[str, object] = dict(self.model_extra or {})
        password = self._password(name)
        if password is not None:
            options["password"] = password
        return options

    def _password(self, name: str) -> SecretStr | None:
        where = f"brokers.{name}"
        if self.password_file is not None:
            try:
                return SecretStr(Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n"))
            except OSError as error:
                raise ConfigurationError(
                    f"{where}.password_file: cannot read {self.password_file}: {error.strerror}"
                ) from None
            except UnicodeDecodeError:
                raise ConfigurationError(f"{where}.password_file: {self.password_file} is not UTF-8 text") from None
        if self.password_env is not None:
            if self.password_env not in os.environ:
                raise ConfigurationError(f"{where}.password_env: the variable {self.password_env} is not set")
            return SecretStr(os.environ[self.password_env])
        return self.password


class ChannelSettings(BaseModel):
    """Channels whose name fits a pattern: `[channels."web.*"]`. Tables in it are options for one broker's channels:
    `kafka = { partitions = 24 }`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    broker: str | None = None
    """The key in `brokers`; "default" unless a pattern says otherwise."""
    name: str | None = None
    """The broker's name for the channel where others own it; taken as it is, without the prefix."""
    max_body: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _extras_are_tables(self) -> Self:
        for key, value in (self.model_extra or {}).items():
            if not isinstance(value, Mapping):
                raise ValueError(f"{key} is unknown{suggestion(key, type(self).model_fields)}")
        return self


class HandlerSettings(BaseModel):
    """A handler: `[handlers."billing.charge"]`, or `[handlers."orders.placed/billing"]` for a subscription."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int | None = Field(default=None, ge=1)
    prefetch: int | None = Field(default=None, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    retry: tuple[Annotated[float, Field(ge=0, le=MAX_DELAY)], ...] | None = None
    """Seconds between the attempts, as in `Retry(1, 10, 60)`."""


class Settings(BaseModel):
    """Everything that can be configured; mirrors unimsg.toml. Given to `connect` it replaces file and environment;
    `Settings.load()` merges them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str | None = None
    """Short for `brokers.default.url`; moved there."""
    topology: Topology = "create"
    """create: whoever uses a channel first makes it. verify: a missing or different one is an error at start-up.
    off: not looked at."""
    prefix: str = Field(default="", max_length=40, pattern=r"^([a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*\.?)?$")
    """Before the name of every channel, to share a broker: "ann."."""
    brokers: dict[str, BrokerSettings] = {}
    channels: dict[str, ChannelSettings] = {}
    handlers: dict[str, HandlerSettings] = {}

    _environment: dict[str, ChannelSettings] = PrivateAttr(default_factory=dict)
    """Channels named in the environment, where dots and dashes are underscores."""

    def __init__(self, **values: Any) -> None:  # validated by pydantic
        """Raises ConfigurationError, which names each wrong key and shows no value."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(explain(type(self), "", error)) from None

    @model_validator(mode="before")
    @classmethod
    def _url_is_the_default_broker(cls, values: Any) -> Any:  # what pydantic was given
        return _with_url_moved(values) if isinstance(values, dict) else values

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """The file merged with the environment, which wins.

        `path`: the file; None: the one that UNIMSG_CONFIG names, else unimsg.toml in the working directory or the
        nearest folder above it, else none.

        Raises:
            ConfigurationError: the file is missing or malformed, a key or value is wrong, or it holds a password for
                a host that is not this machine.
        """
        file = find_file(path)
        values = _with_url_moved(_read_file(file)) if file is not None else {}
        environment = _with_url_moved(_read_environment())
        values = _without_weaker_passwords(values, environment)
        by_variable = environment.pop("channels", {})
        settings = cls(**_merge(values, environment))
        exact = {key: value for key, value in by_variable.items() if not re.fullmatch(r"[a-z0-9_]+", key)}
        if exact:  # given whole as JSON, with the channels' own names
            settings = cls(**_merge(_merge(values, environment), {"channels": exact}))
        settings._environment = {
            key: _channel_settings(key, value) for key, value in by_variable.items() if key not in exact
        }
        return settings

    def with_url(self, url: str) -> Self:
        """A copy whose default broker is at `url`; of the old one nothing is kept, its password least of all."""
        broker = validated(BrokerSettings, "url", {"url": url})
        copy = self.model_copy(update={"brokers": {**self.brokers, "default": broker}})
        copy._environment = self._environment
        return copy

    def channel(self, name: str) -> ChannelSettings:
        """What all patterns that fit a channel say about it together, the most specific one last."""
        fitting = sorted(
            (pattern for pattern in self.channels if fnmatch.fnmatchcase(name, pattern)),
            key=lambda pattern: (pattern == name, len(re.split(r"[*?[]", pattern)[0]), len(pattern)),
        )
        found = [self.channels[pattern] for pattern in fitting]
        variable = _variable_name(name)
        if variable in self._environment:
            found.append(self._environment[variable])
        merged: dict[str, Any] = {}
        for settings in found:
            merged = _merge(merged, settings.model_dump(exclude_unset=True))
        return ChannelSettings(**merged)

    def handler(self, source: str) -> HandlerSettings:
        """What is said about a handler, named `channel` or `topic/subscription`."""
        return self.handlers.get(source, HandlerSettings())

    def check_channel_names(self, names: list[str]) -> None:
        """Raises ConfigurationError if a variable of the environment fits two of these channels."""
        seen: dict[str, str] = {}
        for name in names:
            variable = _variable_name(name)
            other = seen.setdefault(variable, name)
            if other != name and variable in self._environment:
                raise ConfigurationError(
                    f"UNIMSG_CHANNELS__{variable.upper()}__… fits both {other} and {name}: give UNIMSG_CHANNELS whole, "
                    "as JSON"
                )


def _variable_name(channel: str) -> str:
    return channel.replace(".", "_").replace("-", "_")


def _channel_settings(key: str, value: Mapping[str, Any]) -> ChannelSettings:
    try:
        return ChannelSettings(**value)
    except ValidationError as error:
        raise ConfigurationError(explain(ChannelSettings, f"UNIMSG_CHANNELS: {key}", error)) from None


def find_file(path: str | Path | None = None) -> Path | None:
    """The file that `Settings.load` reads, if any."""
    if path is not None:
        return Path(path)
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    here = Path.cwd()
    return next((folder / FILE_NAME for folder in [here, *here.parents] if (folder / FILE_NAME).is_file()), None)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from None
    for name, table in _as_dict(_with_url_moved(values).get("brokers")).items():
        _refuse_committed_password(file, name, _as_dict(table))
    return values


def _refuse_committed_password(file: Path, name: str, table: Mapping[str, Any]) -> None:
    """A password without a URL beside it may go to any host."""
    url = table.get("url")
    try:
        written = "password" in table or (isinstance(url, str) and split_password(url)[1] is not None)
    except ValueError as error:
        raise ConfigurationError(f"{file}: brokers.{name}.url: {error}") from None
    if written and not (isinstance(url, str) and all(is_loopback(host) for host in hosts_of(url))):
        raise ConfigurationError(
            f"{file}: brokers.{name} has a password for a host that is not this machine; files get committed: write "
            "password_file or password_env instead, or put the URL into UNIMSG_URL"
        )


def _read_environment() -> dict[str, Any]:
    # Imported here: its import takes longer than all of ours, and a program with explicit settings never needs it.
    from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

    _refuse_misspelt_variables()

    class Environment(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="UNIMSG_", env_nested_delimiter="__", hide_input_in_errors=True)
        url: str | None = None
        topology: str | None = None
        prefix: str | None = None
        brokers: dict[str, dict[str, Any]] | None = None
        channels: dict[str, dict[str, Any]] | None = None
        handlers: dict[str, dict[str, Any]] | None = None

    try:
        return Environment().model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ConfigurationError(f"environment: {explain(Environment, 'UNIMSG', error)}") from None
    except SettingsError:  # its text may show the value
        raise ConfigurationError(
            "environment: UNIMSG_BROKERS, UNIMSG_CHANNELS and UNIMSG_HANDLERS must be JSON objects"
        ) from None


def _refuse_misspelt_variables() -> None:
    for variable in os.environ:
        first = variable.partition("__")[0]
        if not first.startswith("UNIMSG_") or first.removeprefix("UNIMSG_") in _VARIABLES:
            continue
        # Only what is nearly one of ours: others may have variables of their own that begin as ours do.
        hint = suggestion(first.removeprefix("UNIMSG_"), _VARIABLES)
        if "did you mean " in hint:
            raise ConfigurationError(f"environment: {variable} is unknown{hint.replace('mean ', 'mean UNIMSG_')}")


def _with_url_moved(values: Mapping[str, Any]) -> dict[str, Any]:
    """`url` at the top is short for `brokers.default.url`. Moved before sources are merged: the stronger one wins,
    whichever form it has."""
    values = dict(values)
    url = values.pop("url", None)
    if url is not None:
        brokers = _as_dict(values.get("brokers"))
        values["brokers"] = {**brokers, "default": {**_as_dict(brokers.get("default")), "url": url}}
    return values


def _without_weaker_passwords(values: dict[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """A password that the environment gives, in a URL or apart, replaces the file's, wherever that one is kept."""
    brokers = _as_dict(values.get("brokers"))
    for name, table in _as_dict(environment.get("brokers")).items():
        own = _as_dict(brokers.get(name))
        if own and (_PASSWORDS & table.keys() or _password_in(table)):
            kept = {key: value for key, value in own.items() if key not in _PASSWORDS}
            brokers[name] = {**kept, "url": split_password(kept["url"])[0]} if "url" in kept else kept
    return {**values, "brokers": brokers} if brokers else values


def _password_in(table: Mapping[str, Any]) -> bool:
    """Whether its URL has one. A malformed URL is refused elsewhere."""
    try:
        return split_password(str(table.get("url", "")))[1] is not None
    except ValueError:
        return False


def _merge(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; anything else of `strong` replaces."""
    merged = dict(weak)
    for key, value in strong.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _as_dict(value: Any) -> dict[str, Any]:  # what a caller or a file gave
    if isinstance(value, BrokerSettings):
        return value.model_dump()
    return dict(value) if isinstance(value, Mapping) else {}
