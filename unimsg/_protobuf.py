"""The Protobuf codec: generated classes, or a body type of the program's own that is mapped to one."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from google.protobuf.message import DecodeError as ParseError
from google.protobuf.message import EncodeError as SerializeError
from google.protobuf.message import Message

from unimsg._limits import MAX_DEPTH
from unimsg.errors import ConfigurationError, DecodeError, EncodeError

B = TypeVar("B")
M = TypeVar("M", bound=Message)

_UNREADABLE = (ParseError, RuntimeError, ValueError)
"""By the implementation: C, or pure Python."""


class Protobuf(Generic[B]):
    """`Protobuf(Order)` for a generated class; or for a class of your own that travels as a generated one:
    `Protobuf(order_pb2.Order, to_wire=..., from_wire=...)`. Nesting is limited to 100 by Protobuf's own parser."""

    content_type = "application/protobuf"
    also_read = ("application/x-protobuf", "application/vnd.google.protobuf")

    @overload
    def __init__(self: "Protobuf[M]", wire: type[M]) -> None: ...
    @overload
    def __init__(self, wire: type[M], *, to_wire: Callable[[B], M], from_wire: Callable[[M], B]) -> None: ...

    def __init__(self, wire: type[Any], *, to_wire: Any = None, from_wire: Any = None) -> None:  # see the overloads
        """Raises ConfigurationError unless `wire` is a generated class. Of a union body each member has a codec of its
        own without `codec=`."""
        if not (isinstance(wire, type) and issubclass(wire, Message) and wire is not Message):
            raise ConfigurationError(f"no Protobuf codec for {wire!r}: a generated class is wanted")
        if (to_wire is None) != (from_wire is None):
            raise ConfigurationError("a Protobuf codec needs both to_wire= and from_wire=, or neither")
        self._wire: type[Message] = wire
        self._may_be_deep = _depth(wire.DESCRIPTOR, ()) > MAX_DEPTH
        self._to_wire: Callable[[B], Message] | None = to_wire
        self._from_wire: Callable[[Any], B] | None = from_wire

    @property
    def schema_format(self) -> str:
        """Protobuf, in the version of its `schema`."""
        return f"application/vnd.google.protobuf;version={2 if 'proto2' in self.schema().partition(';')[0] else 3}"

    def schema(self) -> str:
        """The .proto file of its messages."""
        from unimsg._protobuf_text import source_of  # not above: few programs ask

        return source_of(self._wire.DESCRIPTOR)

    def encode(self, body: B) -> bytes:
        message: object = body if self._to_wire is None else self._to_wire(body)
        if not isinstance(message, self._wire):
            raise EncodeError(f"a {self._wire.DESCRIPTOR.full_name} is wanted, not a {type(message).__name__}")
        try:
            data = message.SerializeToString()
        except SerializeError:  # its text may show values
            raise EncodeError(f"the {self._wire.DESCRIPTOR.full_name} misses a required field") from None
        if self._may_be_deep:  # its writers do not look, its readers do
            try:
                self._wire.FromString(data)
            except _UNREADABLE:
                raise EncodeError(f"values nested more than {MAX_DEPTH} deep") from None
        return data

    def decode(self, data: bytes) -> B:
        try:
            message = self._wire.FromString(data)
        except _UNREADABLE:
            raise DecodeError(f"the body is no {self._wire.DESCRIPTOR.full_name}") from None
        if not message.IsInitialized():
            raise DecodeError(f"the {self._wire.DESCRIPTOR.full_name} misses a required field")
        if self._from_wire is None:
            return message  # type: ignore[return-value]  # B is the generated class: the first overload
        try:
            return self._from_wire(message)
        except Exception as error:  # the user's function, on what a stranger sent
            name = self._wire.DESCRIPTOR.full_name
            raise DecodeError(f"{type(error).__name__} in what maps a {name} to the body") from error


def _depth(kind: Any, above: tuple[str, ...]) -> int:  # a descriptor: its class is that of the implementation
    """How deep its messages may nest: more than the limit where it nests in itself."""
    if kind.full_name in above or len(above) > MAX_DEPTH:
        return MAX_DEPTH + 1
    inner = {field.message_type.full_name: field.message_type for field in kind.fields if field.message_type}
    above = (*above, kind.full_name)
    deepest = 0
    for each in inner.values():
        deepest = max(deepest, _depth(each, above))
        if deepest > MAX_DEPTH:
            break
    return 1 + deepest
