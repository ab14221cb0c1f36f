"""Body ↔ bytes. The body type chooses the codec; a channel's `codec=` overrides it."""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from unimsg.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from unimsg._json import Json

__all__ = ["Binary", "Codec", "Json", "Text", "default_codec"]

B = TypeVar("B")


class Codec(Protocol[B]):
    """Turns bodies into bytes and back. It never decides by a name in the bytes what code to run."""

    content_type: str

    def encode(self, body: B) -> bytes:
        """Raises EncodeError (or any ValueError or TypeError) if the body does not fit."""

    def decode(self, data: bytes) -> B:
        """Raises DecodeError (or any ValueError or TypeError) if the bytes do not fit. They may be hostile."""


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
    """The codec for a body type: text for `str`, binary for `bytes`, JSON for all else."""
    if body is bytes:
        return Binary()
    if body is str:
        return Text()
    from unimsg._json import Json

    return Json(body)


def __getattr__(name: str) -> Any:  # a class of the module below
    """`Json` is imported when it is asked for: a program of bytes and text needs no pydantic."""
    if name == "Json":
        from unimsg._json import Json

        return Json
    raise AttributeError(name)
