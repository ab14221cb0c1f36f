"""The JSON codec. A module of its own because pydantic takes longer to import than all of unimsg."""

from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeForm

from unimsg._bodytype import BodyType
from unimsg._limits import MAX_CONTAINERS
from unimsg.errors import DecodeError, EncodeError

B = TypeVar("B")


class Json(Generic[B]):
    """Pydantic models, dataclasses, TypedDicts and what is made of builtins, as JSON."""

    content_type = "application/json"

    def __init__(self, body: TypeForm[B]) -> None:
        """Raises ConfigurationError if pydantic knows no schema for `body`."""
        self._type = BodyType(body, "JSON")
        self._adapter = self._type.adapter

    @property
    def type_adapter(self) -> TypeAdapter[B]:
        """What knows the JSON Schema of its bodies."""
        return self._adapter

    def of(self, member: type[Any]) -> "Json[Any]":
        """The codec of one member of a union body: two members may look alike, and the message says which it is."""
        return Json(member)

    def encode(self, body: B) -> bytes:
        self._type.check(body)
        try:
            # A field's alias is the name under which it is read again.
            data = self._adapter.dump_json(body, by_alias=True, warnings="error")
            if b"null" in data:  # nan and infinity are written so, which their own type does not take back
                self._adapter.validate_json(data)
        except (ValidationError, PydanticSerializationError) as error:
            raise self._type.unfit(error) from None
        if _has_too_much(data):
            raise EncodeError(f"a body of more than {MAX_CONTAINERS} objects and lists")
        return data

    def decode(self, data: bytes) -> B:
        if _has_too_much(data):
            raise DecodeError(f"a body of more than {MAX_CONTAINERS} objects and lists")
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise self._type.misfit(error) from None


def _has_too_much(data: bytes) -> bool:
    """Whether it stands for hundreds of times its size: `{}` may be a model of many defaults. Brackets in texts count
    too, which saves parsing. Depth is limited by pydantic's parser."""
    return len(data) > MAX_CONTAINERS and data.count(b"{") + data.count(b"[") > MAX_CONTAINERS
