"""Body ↔ bytes. The body type chooses the codec; a channel's `codec=` overrides it."""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from unimsg.errors import ConfigurationError, DecodeError, EncodeError

if TYPE_CHECKING:
    from unimsg._avro import Avro
    from unimsg._json import Json
    from unimsg._protobuf import Protobuf
    from unimsg._xml import Xml

__all__ = [
    "Avro",
    "Binary",
    "Codec",
    "DescribedCodec",
    "Json",
    "Protobuf",
    "Text",
    "UnionCodec",
    "Xml",
    "default_codec",
]

B = TypeVar("B")


class Codec(Protocol[B]):
    """Turns bodies into bytes and back. It never decides by a name in the bytes what code to run.

    Where it has an attribute `also_read`, a sequence of other content types, it is chosen for these too.
    """

    content_type: str

    def encode(self, body: B) -> bytes:
        """Raises EncodeError (or any ValueError or TypeError) if the body does not fit."""

    def decode(self, data: bytes) -> B:
        """Raises DecodeError (or any ValueError or TypeError) if the bytes do not fit. They may be hostile."""


@runtime_checkable
class UnionCodec(Protocol):
    """What a codec of a union body may have besides: the message says which member it is, so nothing is guessed."""

    def of(self, member: type[Any]) -> Codec[Any]:
        """The codec of one member of the union. Raises ConfigurationError: it knows no such class."""


@runtime_checkable
class DescribedCodec(Protocol):
    """What a codec may have besides, for the document of the service's API: how its bodies look."""

    schema_format: str
    """The language of its schema, as AsyncAPI names it: "application/schema+json;version=draft-07"."""

    def schema(self) -> Any:
        """The schema: text, or JSON as Python has it."""


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
        if type(body) is bytes:
            return body
        if not isinstance(body, bytes | bytearray | memoryview):
            raise EncodeError(f"bytes are wanted, not a {type(body).__name__}")
        return bytes(body)

    def decode(self, data: bytes) -> bytes:
        return data


def default_codec(body: Any) -> Codec[Any]:  # a body type is any type form
    """The codec for a body type: text for `str`, binary for `bytes`, Protobuf for a generated class, XML for a model
    of pydantic-xml, JSON for all else."""
    if body is bytes:
        return Binary()
    if body is str:
        return Text()
    return _load(_own_format(body) or "Json")(body)  # type: ignore[no-any-return]  # each is a codec of its body


def _own_format(body: Any) -> str | None:
    """The codec of a class that was made for one format. It is known by its parents: nothing is imported to look."""
    if isinstance(body, type):
        for parent in body.__mro__:
            match str(parent.__module__).split(".")[0], parent.__name__:  # a class made at run time may have none
                case "google", "Message":
                    return "Protobuf"
                case "pydantic_xml", "BaseXmlModel":
                    return "Xml"
    return None


_EXTRAS = {"Avro": "avro", "Protobuf": "protobuf", "Xml": "xml"}


def _load(name: str) -> Any:  # a codec class
    """Each is imported when it is asked for: a program of bytes and text needs no pydantic.

    Raises:
        ConfigurationError: the library that it needs is not installed.
    """
    try:
        if name == "Json":
            from unimsg._json import Json

            return Json
        if name == "Avro":
            from unimsg._avro import Avro

            return Avro
        if name == "Protobuf":
            from unimsg._protobuf import Protobuf

            return Protobuf
        from unimsg._xml import Xml
    except ImportError as error:
        raise ConfigurationError(
            f"the {name} codec needs a library that is not installed ({error.name}): "
            f"pip install 'unimsg[{_EXTRAS.get(name, name)}]'"
        ) from error
    return Xml


def __getattr__(name: str) -> Any:  # a codec class
    if name == "Json" or name in _EXTRAS:
        return _load(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
