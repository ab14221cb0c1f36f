"""Body ↔ bytes. The body type chooses the codec; a channel's `codec=` overrides it."""

import dataclasses
import inspect
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeForm

from unimsg.errors import ConfigurationError, DecodeError, EncodeError

__all__ = ["Binary", "Codec", "Json", "Text", "default_codec"]

B = TypeVar("B")


class Codec(Protocol[B]):
    """Turns bodies into bytes and back. It never decides by a name in the bytes what code to run."""

    content_type: str

    def encode(self, body: B) -> bytes:
        """Raises EncodeError (or any ValueError or TypeError) if the body does not fit."""

    def decode(self, data: bytes) -> B:
        """Raises DecodeError (or any ValueError or TypeError) if the bytes do not fit. They may be hostile."""


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
            return self._adapter.dump_json(body, warnings="error")
        except ValidationError as error:
            raise EncodeError(f"the body does not fit {self._type!r}: {_summary(error)}") from None
        except PydanticSerializationError:  # its text may show values
            raise EncodeError(f"the body does not fit {self._type!r}: a field has a value of another type") from None

    def decode(self, data: bytes) -> B:
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise DecodeError(f"the body does not fit {self._type!r}: {_summary(error)}") from None


class Text:
    """`str` as UTF-8."""

    content_type = "text/plain; charset=utf-8"

    def encode(self, body: str) -> bytes:
        if not isinstance(body, str):
            raise EncodeError(f"a str is wanted, not a {type(body).__name__}")
        try:
            return body.encode()
        except UnicodeEncodeError:
            raise EncodeError("the text has characters that UTF-8 cannot carry") from None

    def decode(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise DecodeError("the body is not UTF-8 text") from None


class Binary:
    """`bytes`, untouched."""

    content_type = "application/octet-stream"

    def encode(self, body: bytes) -> bytes:
        if not isinstance(body, bytes | bytearray | memoryview):
            raise EncodeError(f"bytes are wanted, not a {type(body).__name__}")
        return bytes(body)

    def decode(self, data: bytes) -> bytes:
        return data


def default_codec(body: Any) -> Codec[Any]:  # a body type is any type form
    """The codec for a body type: text for `str`, binary for `bytes`, JSON for all else."""
    if body is bytes:
        return Binary()
    if body is str:
        return Text()
    return Json(body)


def _summary(error: ValidationError) -> str:
    """Where and what, without the values: bodies do not belong in logs."""
    first = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['type']}" for item in first[:3]]
    return ", ".join(shown) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
