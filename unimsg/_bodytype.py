"""A body type as pydantic knows it: models, dataclasses, TypedDicts and what is made of builtins."""

import dataclasses
import inspect
import types
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeForm

from unimsg.errors import ConfigurationError, DecodeError, EncodeError

B = TypeVar("B")


class BodyType(Generic[B]):
    """Checks bodies on their way out and in."""

    __slots__ = ("_record", "adapter", "form")

    def __init__(self, form: TypeForm[B], codec: str) -> None:
        """Raises ConfigurationError if pydantic knows no schema for `form`. `codec`: for its text."""
        try:
            self.adapter: TypeAdapter[B] = TypeAdapter(form)
        except PydanticSchemaGenerationError:
            raise ConfigurationError(
                f"no {codec} codec for {form!r}: use a pydantic model, a dataclass, a TypedDict, builtins, or codec="
            ) from None
        except PydanticUserError as error:  # it says what to do: another TypedDict on Python 3.11, for one
            raise ConfigurationError(f"no {codec} codec for {form!r}: {error.message}") from None
        self.form = form
        # An instance of a class of its own was checked when it was made; anything else is checked before it is sent.
        is_record = inspect.isclass(form) and (issubclass(form, BaseModel) or dataclasses.is_dataclass(form))
        self._record: type[Any] | None = form if is_record else None  # type: ignore[assignment]  # a class, checked above

    def check(self, body: B) -> None:
        """Raises EncodeError for a body of another type."""
        if self._record is None:
            try:
                self.adapter.validate_python(body, strict=True)
            except ValidationError as error:
                raise EncodeError(f"the body does not fit {self.form!r}: {summary(error)}") from None
        elif not isinstance(body, self._record):
            raise EncodeError(f"a {self._record.__name__} is wanted, not a {type(body).__name__}")

    def unfit(self, error: ValidationError | PydanticSerializationError) -> EncodeError:
        """The error of a body that cannot be written. The text of a serialization error may show values."""
        why = summary(error) if isinstance(error, ValidationError) else "a field has a value of another type"
        return EncodeError(f"the body does not fit {self.form!r}: {why}")

    def misfit(self, error: ValidationError) -> DecodeError:
        """The error of bytes that are no such body."""
        return DecodeError(f"the body does not fit {self.form!r}: {summary(error)}")


def members(form: Any) -> tuple[Any, ...]:  # any type form
    """Of a union; of any other type itself."""
    return get_args(form) if get_origin(form) in (Union, types.UnionType) else (form,)


def summary(error: ValidationError) -> str:
    """Where and what, without the values: bodies do not belong in logs."""
    first = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(_part, item['loc'])) or 'body'}: {item['type']}" for item in first[:3]]
    return ", ".join(shown) + (f" and {len(first) - 3} more" if len(first) > 3 else "")


def _part(part: str | int) -> str:
    """A step of the way to a value: a field or an index. Keys of a mapping are the sender's, and may be anything."""
    return str(part) if isinstance(part, int) or (part.isidentifier() and len(part) <= 64) else "?"
