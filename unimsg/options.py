"""Typed options: of a broker (from its URL and its configuration table) and of a channel."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from unimsg._suggestion import suggestion
from unimsg.errors import ConfigurationError


class Tls(BaseModel):
    """TLS of a connection. Certificates and host names are always verified; no option turns that off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's."""
    cert_file: str | None = None
    """PEM file of the client's certificate, with its key unless `key_file` names it."""
    key_file: str | None = None


class BrokerOptions(BaseModel):
    """What every broker's options have. An adapter subclasses it and adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    password: SecretStr | None = None
    tls: Tls | None = None
    connect_timeout: float = Field(default=10.0, gt=0)
    """Seconds for the first connection, authentication included."""

    @classmethod
    def read(cls, where: str, values: Mapping[str, object]) -> Self:
        """The options in `values`. `where` names their place in errors: "brokers.default".

        Raises:
            ConfigurationError: unknown (with a suggestion) or invalid; says where, never shows a value.
        """
        return validated(cls, where, values)


class ChannelOptions(BaseModel):
    """Options of one channel that hold on every broker. Each adapter has a subclass with its broker's own; of the
    options given to a channel, those of the broker in use apply."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    broker: ClassVar[str] = ""
    """The `Adapter.broker` whose channels these are for; empty: every broker's."""

    max_body: int | None = Field(default=None, ge=1)
    """Bytes of the largest body, instead of 1,000,000, if the broker's `Capabilities.max_body` allows it."""


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], where: str, values: Mapping[str, object]) -> Model:
    """`values` as a `model`, or a ConfigurationError that names each wrong key, without its value."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigurationError(explain(model, where, error)) from None


def explain(model: type[BaseModel], where: str, error: ValidationError) -> str:
    """What is wrong, one line a key, without any value: values may be secrets."""
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(part for part in (where, *map(str, item["loc"])) if part)
        if item["type"] == "extra_forbidden":
            lines.append(f"{name}: unknown option{suggestion(str(item['loc'][-1]), _known(model, item['loc'][:-1]))}")
        else:
            lines.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def _known(model: Any, path: Sequence[str | int]) -> Iterable[str]:  # any annotation of a model's field
    """The names that there are at the end of a path into a model."""
    for part in path:
        if get_origin(model) is dict:
            model = get_args(model)[1]
        else:
            field = getattr(model, "model_fields", {}).get(part)
            model = None if field is None else field.annotation
        if get_origin(model) is not dict:  # of "Tls | None" the model
            model = next((member for member in get_args(model) if hasattr(member, "model_fields")), model)
    return getattr(model, "model_fields", ())
