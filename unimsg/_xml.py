"""The XML codec: models of pydantic-xml, read by a parser that knows no DTD."""

import re
from typing import Any, Generic, TypeVar, Union
from xml.parsers import expat

from lxml import etree
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from pydantic_xml import BaseXmlModel
from pydantic_xml.element.native import ElementT  # the one it was set up with; its own readers take no other
from pydantic_xml.errors import ParsingError, SerializationError
from typing_extensions import TypeForm

from unimsg._bodytype import members, summary
from unimsg._limits import MAX_DEPTH, MAX_ELEMENTS
from unimsg.errors import ConfigurationError, DecodeError, EncodeError

M = TypeVar("M", bound=BaseXmlModel)

MAX_NAMESPACE = 255
"""Characters; each element and attribute of a namespace repeats its name in memory."""

_PIECE = 1024 * 1024
"""Bytes between two looks at whether to go on: expat itself goes on after an error of a handler. No tag and no comment
may be longer: expat before 2.6 reads it again with each piece, and one tag may have a million attributes."""

_PROLOG = re.compile(rb"\s*+(?>(?:<\?.*?\?>|<!--.*?-->)\s*+)*+<[^!?]", re.DOTALL)
"""All that may stand before the first element, but no DOCTYPE. Without one there are no entities, inner or outer."""

_ENCODING = re.compile(rb"""\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_ENCODINGS = {"utf-8": "utf-8", "us-ascii": "utf-8", "ascii": "utf-8", "iso-8859-1": "latin-1", "latin1": "latin-1"}


class Xml(Generic[M]):
    """`pydantic_xml.BaseXmlModel` classes, or a union of them, as XML. `None` is an element that is not there."""

    content_type = "application/xml"
    also_read = ("text/xml",)

    def __init__(self, body: TypeForm[M]) -> None:
        """Raises ConfigurationError unless `body` is made of `pydantic_xml.BaseXmlModel` classes."""
        if not issubclass(ElementT, etree._Element):
            raise ConfigurationError("the XML codec needs pydantic-xml on lxml: do not set FORCE_STD_XML")
        self._models: tuple[type[M], ...] = members(body)
        for model in self._models:
            if not (isinstance(model, type) and issubclass(model, BaseXmlModel)):
                raise ConfigurationError(f"no XML codec for {model!r}: a pydantic_xml.BaseXmlModel is wanted")
        self._adapters = {model: TypeAdapter(model) for model in self._models}

    @property
    def type_adapter(self) -> TypeAdapter[Any]:
        """What knows the fields of its bodies."""
        union: Any = Union[self._models]  # noqa: UP007  # made at run time, of one or more
        return TypeAdapter(union)

    def of(self, member: type[Any]) -> "Xml[Any]":
        """The codec of one member of a union body."""
        return Xml(member)

    def encode(self, body: M) -> bytes:
        model = next((model for model in self._models if isinstance(body, model)), None)
        if model is None:
            wanted = " or ".join(model.__name__ for model in self._models)
            raise EncodeError(f"a {wanted} is wanted, not a {type(body).__name__}")
        try:
            self._adapters[model].dump_python(body, warnings="error")  # a field may have been set to anything since
            root = body.to_xml_tree(exclude_none=True)
        except (PydanticSerializationError, SerializationError, ValueError):  # their texts may show values
            raise EncodeError(
                f"the body does not fit {model.__name__}: a field has a value of another type, or one "
                "that XML cannot carry"
            ) from None
        _check(root)
        data: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=False)
        return data

    def decode(self, data: bytes) -> M:
        root = parse(data)
        for model in self._models:
            try:
                return model.from_xml_tree(root, empty_as_string=True)
            except ParsingError:  # another root element
                continue
            except ValidationError as error:
                raise DecodeError(f"the body does not fit {model.__name__}: {summary(error)}") from None
        raise DecodeError(f"the root element is not that of {' or '.join(model.__name__ for model in self._models)}")


def parse(data: bytes) -> Any:  # lxml is not typed
    """The root element. Raises DecodeError for what is no XML, has a DTD, or is too deep or too much."""
    data = _as_utf8(data)
    if not _PROLOG.match(data):
        raise DecodeError("the body is no XML document without a DTD")
    tree = _Tree()
    # The encoding is said here, so that the document's own word for it is not looked up anywhere.
    parser = expat.ParserCreate("utf-8", namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.text
    parser.StartNamespaceDeclHandler = tree.namespace
    try:
        for at in range(0, len(data), _PIECE):
            parser.Parse(data[at : at + _PIECE], at + _PIECE >= len(data))
            if parser.CurrentByteIndex < at:
                raise DecodeError(f"a tag or a comment of more than {_PIECE} bytes")
    except expat.ExpatError as error:
        raise DecodeError(f"the body is no XML: {expat.ErrorString(error.code)} in line {error.lineno}") from None
    return tree.close()


class _Tree:
    """What expat reports, as lxml elements, counted."""

    def __init__(self) -> None:
        self._builder = etree.TreeBuilder()
        self._depth = self._items = 0
        self.text = self._builder.data
        self.close = self._builder.close

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._items += 1 + len(attributes)
        _limit(self._depth, self._items, DecodeError)
        self._builder.start(_clark(name), {_clark(key): value for key, value in attributes.items()})

    def end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(_clark(name))

    def namespace(self, prefix: str | None, uri: str | None) -> None:
        if uri is not None and len(uri) > MAX_NAMESPACE:
            raise DecodeError(f"a namespace of {len(uri)} characters, at most {MAX_NAMESPACE}")


def _check(root: Any) -> None:
    """Raises EncodeError for what would not be read."""
    items, level, depth = 0, [root], 0
    while level:
        depth += 1
        items += sum(1 + len(element.attrib) for element in level)
        _limit(depth, items, EncodeError)
        level = [child for element in level for child in element]


def _limit(depth: int, items: int, error: type[DecodeError | EncodeError]) -> None:
    if depth > MAX_DEPTH:
        raise error(f"elements nested more than {MAX_DEPTH} deep")
    if items > MAX_ELEMENTS:
        raise error(f"more than {MAX_ELEMENTS} elements and attributes")


def _clark(name: str) -> str:
    """expat says `uri}name`, lxml wants `{uri}name`."""
    return "{" + name if "}" in name else name


def _as_utf8(data: bytes) -> bytes:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _recoded(data, "utf-16")
    data = data.removeprefix(b"\xef\xbb\xbf")
    said = _ENCODING.match(data)
    name = said[1].decode().lower() if said else "utf-8"
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        raise DecodeError("the body is XML in an encoding other than UTF-8, UTF-16, ISO 8859-1 and ASCII")
    return data if encoding == "utf-8" else _recoded(data, encoding)


def _recoded(data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeError:
        raise DecodeError("the body is not in the encoding that it says") from None
