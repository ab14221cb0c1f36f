"""The Avro codec: single-object encoding, whose first bytes name the schema that wrote it."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Generic, TypeVar

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import SchemaParseException, UnknownType, fingerprint, to_parsing_canonical_form
from fastavro.validation import ValidationError as Unfit
from fastavro.validation import validate
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeForm

from unimsg._avro_plain import plain_schema
from unimsg._avro_walk import Walk, rule_of
from unimsg._bodytype import BodyType, members
from unimsg.errors import ConfigurationError, DecodeError, EncodeError

B = TypeVar("B")

Schema = str | Mapping[str, Any] | Sequence[Any]
"""JSON as text, or as Python has it."""

_MARKER = b"\xc3\x01"
_HEAD = len(_MARKER) + 8
_SMALL = 64 * 1024
"""Bytes; what these can stand for is little enough not to be counted, if the schema does not nest in itself."""


class Avro(Generic[B]):
    """Models, dataclasses, TypedDicts and builtins as Avro, in single-object encoding: C3 01, the fingerprint of the
    writer's schema, the datum. `reads` are schemas of older or newer writers: their bodies become those of `schema` by
    Avro's rules of schema resolution. A body written with any other schema is a DecodeError: schemas never come from
    the wire.

    Of a union body `schema` is a list of one record for each class, of the same name; `reads` are matched by name too.
    """

    content_type = "application/avro"
    also_read = ("avro/binary", "application/vnd.apache.avro+binary")
    schema_format = "application/vnd.apache.avro+json;version=1.9.0"

    def __init__(self, body: TypeForm[B], schema: Schema, *, reads: Sequence[Schema] = ()) -> None:
        """Raises ConfigurationError: no Avro schema; arrays of items that take no bytes; a member without a record."""
        others = [_Writer(each) for each in reads]
        classes = members(body)
        self._parts: dict[Any, _Part] = (
            {body: _Part(body, _Writer(schema), others)}
            if len(classes) == 1
            else {member: _part_of_union(member, schema, others) for member in classes}
        )
        self._by_writer = {head: part for part in self._parts.values() for head in part.writers}

    def of(self, member: type[Any]) -> "_Part":
        """The codec of one member of a union body."""
        part = self._parts.get(member)
        if part is None:
            raise ConfigurationError(f"this Avro codec has no schema for {getattr(member, '__name__', member)}")
        return part

    def schema(self) -> Any:  # JSON
        """The schema that bodies are written with: of a union body, one for each class."""
        own = [part.schema() for part in self._parts.values()]
        return own[0] if len(own) == 1 else own

    def reads(self) -> list[Any]:  # JSON
        """The schemas of other writers, whose bodies are read, too."""
        return [schema for part in self._parts.values() for schema in part.reads()]

    def encode(self, body: B) -> bytes:
        parts = list(self._parts.items())
        part = parts[0][1] if len(parts) == 1 else next((part for cls, part in parts if isinstance(body, cls)), None)
        if part is None:
            wanted = " or ".join(cls.__name__ for cls, _ in parts)
            raise EncodeError(f"a {wanted} is wanted, not a {type(body).__name__}")
        return part.encode(body)

    def decode(self, data: bytes) -> B:
        part = self._by_writer.get(data[:_HEAD]) or next(iter(self._parts.values()))
        return part.decode(data)  # type: ignore[no-any-return]  # of a member of the union


class _Writer:
    """A schema that bodies are written with."""

    def __init__(self, schema: Schema) -> None:
        try:
            self.parsed: Any = parse_schema(_loaded(schema))
            canonical = to_parsing_canonical_form(self.parsed)
            self.rule = rule_of(self.parsed)
        except (SchemaParseException, UnknownType, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"no Avro schema: {type(error).__name__}: {error}") from error
        self.head = _MARKER + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
        self.name: str = self.parsed.get("name", "") if isinstance(self.parsed, dict) else ""

    def check(self, data: bytes, *, always: bool) -> None:
        """Raises DecodeError for bytes that would harm whoever reads them: see `_avro_walk`."""
        if always or self.rule.is_risky or len(data) > _SMALL:
            Walk(data, _HEAD).whole(self.rule)


class _Part:
    """One body class: how it is written, and all that can be read as it."""

    content_type = Avro.content_type
    also_read = Avro.also_read
    schema_format = Avro.schema_format

    def __init__(self, body: Any, own: _Writer, reads: Sequence[_Writer]) -> None:
        self._type: BodyType[Any] = BodyType(body, "Avro")
        self._own = own
        self.writers = {writer.head: writer for writer in (*reads, own)}

    def schema(self) -> Any:  # JSON
        return plain_schema(self._own.parsed)

    def reads(self) -> list[Any]:  # JSON
        return [plain_schema(writer.parsed) for writer in self.writers.values() if writer is not self._own]

    def encode(self, body: Any) -> bytes:
        self._type.check(body)
        into = BytesIO()
        into.write(self._own.head)
        try:
            datum: Any = self._type.adapter.dump_python(body, by_alias=True, warnings="error")
            validate(datum, self._own.parsed, strict=False)
            schemaless_writer(into, self._own.parsed, datum, strict_allow_default=True)
        except PydanticSerializationError as error:
            raise self._type.unfit(error) from None
        except Unfit as error:
            fields = ", ".join(each.field for each in error.errors[:3])
            raise EncodeError(f"the body does not fit its Avro schema: {fields}") from None
        except Exception as error:  # noqa: BLE001  # by kind of value: KeyError, struct.error, …; texts show values
            raise EncodeError(f"the body does not fit its Avro schema: {type(error).__name__}") from None
        data = into.getvalue()
        try:
            self._own.check(data, always=False)
        except DecodeError as error:
            raise EncodeError(str(error)) from None
        return data

    def decode(self, data: bytes) -> Any:
        writer = self.writers.get(data[:_HEAD])
        if writer is None:
            raise DecodeError("the body is no Avro of a schema that is known here")
        is_own = writer is self._own
        writer.check(data, always=not is_own)  # what it skips it does not check
        source = BytesIO(data)
        source.seek(_HEAD)
        try:
            datum = schemaless_reader(source, writer.parsed, None if is_own else self._own.parsed)
        except Exception as error:  # noqa: BLE001  # by what is wrong: EOFError, IndexError, OverflowError, …
            raise DecodeError(f"the body does not fit its Avro schema: {type(error).__name__}") from None
        if source.tell() != len(data):
            raise DecodeError("the body goes on after its end")
        try:
            return self._type.adapter.validate_python(datum)
        except ValidationError as error:
            raise self._type.misfit(error) from None


def _loaded(schema: Schema) -> Any:  # JSON
    is_text = isinstance(schema, str) and schema.lstrip().startswith(("{", "[", '"'))  # else the name of a primitive
    return json.loads(schema) if is_text else schema  # type: ignore[arg-type]  # a str, see above


def _part_of_union(member: Any, schema: Schema, reads: Sequence[_Writer]) -> _Part:
    """Each record of the list is a schema by itself: it may define what another defines too."""
    name = getattr(member, "__name__", repr(member))
    records = _loaded(schema)
    for own in map(_Writer, records if isinstance(records, list | tuple) else ()):
        if own.name.rpartition(".")[2] == name:
            return _Part(member, own, [each for each in reads if each.name.rpartition(".")[2] == name])
    raise ConfigurationError(f"a union body needs a list of Avro records, and none of them has the name {name}")
