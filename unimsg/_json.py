"""The JSON codec. A module of its own because pydantic takes longer to import than all of unimsg."""

import dataclasses
import inspect
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeForm

from unimsg.errors import ConfigurationError, DecodeError, EncodeError

B = TypeVar("B")


class Json(Generic[B]):
    """Pydantic models, dataclasses, TypedDicts and what is made of builtins, as JSON."""

    content_type = "application/json"

    def __init__(self, body: TypeForm[B]) -> None:
        """Raises ConfigurationError if pydantic knows no schema for `body`."""
        try:
            self._adapter: TypeAdapter[B] = TypeAdapter(body)
        except PydanticSchemaGenerationError:
            raise ConfigurationError(
                f"no JSON codec for {body!r}: use a pydantic model, a dataclass, a TypedDict, builtins, or codec="
            ) from None
        except PydanticUserError as error:  # it says what to do: another TypedDict on Python 3.11, for one
            raise ConfigurationError(f"no JSON codec for {body!r}: {error.message}") from None
        self._type = body
        # An instance of a class of its own was checked when it was made; anything else is checked before it is sent.
        is_record = inspect.isclass(body) and (issubclass(body, BaseModel) or dataclasses.is_dataclass(body))
        self._record: type[Any] | None = body if is_record else None  # type: ignore[assignment]  # a class, checked above

    def encode(self, body: B) -> bytes:
        try:
            if self._record is None:
                self._adapter.validate_python(body, strict=True)
            elif not isinstance(body, self._record):
                raise EncodeError(f"a {self._record.__name__} is wanted, not a {type(body).__name__}")
            # A field's alias is the name under which it is read again.
            data = self._adapter.dump_json(body, by_alias=True, warnings="error")
            if b"null" in data:  # nan and infinity are written so, which their own type does not take back
                self._adapter.validate_json(data)
            return data
        except ValidationError as error:
            raise EncodeError(f"the body does not fit {self._type!r}: {_summary(error)}") from None
        except PydanticSerializationError:  # its text may show values
            raise EncodeError(f"the body does not fit {self._type!r}: a field has a value of another type") from None

    def decode(self, data: bytes) -> B:
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise DecodeError(f"the body does not fit {self._type!r}: {_summary(error)}") from None


def _summary(error: ValidationError) -> str:
    """Where and what, without the values: bodies do not belong in logs."""
    first = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(_part, item['loc'])) or 'body'}: {item['type']}" for item in first[:3]]
    return ", ".join(shown) + (f" and {len(first) - 3} more" if len(first) > 3 else "")


def _part(part: str | int) -> str:
    """A step of the way to a value: a field or an index. Keys of a mapping are the sender's, and may be anything."""
    return str(part) if isinstance(part, int) or (part.isidentifier() and len(part) <= 64) else "?"
