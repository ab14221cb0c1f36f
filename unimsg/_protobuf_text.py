"""The source of a Protobuf message, made of its descriptor: generated classes do not keep the .proto file's text.

It is one file. What the message uses of other files is written into it, but Google's own types, which it imports.
"""

from collections.abc import Iterator
from typing import Any

_SCALARS = (
    *("", "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string"),
    *("", "", "bytes", "uint32", "", "sfixed32", "sfixed64", "sint32", "sint64"),
)
"""By the numbers of descriptor.proto."""
_GROUP, _MESSAGE, _ENUM = 10, 11, 14
_WELL_KNOWN = "google/protobuf/"

Descriptor = Any
"""Its class is that of the implementation of Protobuf: C, or Python."""


def source_of(message: Descriptor) -> str:
    """A .proto file with the message and all that it uses. In the syntax of proto3, if that can say it all."""
    return "\n".join(_Source(message).lines()) + "\n"


class _Source:
    def __init__(self, message: Descriptor) -> None:
        self._file = message.file
        """Of Google's own types those of this file are written, too."""
        self._package: str = message.file.package
        self._roots: dict[str, Descriptor] = {}
        self._imports: set[str] = set()
        self._collect(_root(message))
        self._proto2 = any(_needs_proto2(root) for root in self._roots.values())

    def _collect(self, root: Descriptor) -> None:
        """The outermost message or enum, and what it uses, in the order of use."""
        if root.file.name.startswith(_WELL_KNOWN) and root.file.name != self._file.name:
            self._imports.add(root.file.name)
        elif root.full_name not in self._roots:
            self._roots[root.full_name] = root
            for used in _used(root):
                self._collect(_root(used))

    def lines(self) -> Iterator[str]:
        yield f'syntax = "{"proto2" if self._proto2 else "proto3"}";'
        if self._package:
            yield f"package {self._package};"
        for name in sorted(self._imports):
            yield f'import "{name}";'
        for root in self._roots.values():
            yield ""
            if root.file.package != self._package:
                yield f"// of the package {root.file.package or '(none)'}"
            yield from self._enum(root, "") if hasattr(root, "values") else self._message(root, "")

    def _message(self, message: Descriptor, indent: str) -> Iterator[str]:
        yield f"{indent}message {message.name} {{"
        inner = f"{indent}  "
        for enum in message.enum_types:
            yield from self._enum(enum, inner)
        for nested in message.nested_types:
            if not nested.GetOptions().map_entry:
                yield from self._message(nested, inner)
        written: set[str] = set()
        for field in message.fields:
            union = field.containing_oneof
            if union is None or _is_optional(field):
                yield f"{inner}{self._label(field)}{self._field(field)}"
            elif union.name not in written:
                written.add(union.name)
                yield f"{inner}oneof {union.name} {{"
                yield from (f"{inner}  {self._field(each)}" for each in union.fields)
                yield f"{inner}}}"
        yield f"{indent}}}"

    def _enum(self, enum: Descriptor, indent: str) -> Iterator[str]:
        yield f"{indent}enum {enum.name} {{"
        if len({value.number for value in enum.values}) < len(enum.values):
            yield f"{indent}  option allow_alias = true;"
        yield from (f"{indent}  {value.name} = {value.number};" for value in enum.values)
        yield f"{indent}}}"

    def _field(self, field: Descriptor) -> str:
        deprecated = " [deprecated = true]" if field.GetOptions().deprecated else ""
        return f"{self._type(field)} {field.name} = {field.number}{deprecated};"

    def _label(self, field: Descriptor) -> str:
        if _is_map(field):
            return ""
        if field.is_repeated:
            return "repeated "
        if field.is_required:
            return "required "
        says_so = field.has_presence and field.message_type is None  # a message in a field is always there or not
        return "optional " if self._proto2 or says_so else ""

    def _type(self, field: Descriptor) -> str:
        if _is_map(field):
            entry = field.message_type.fields_by_name
            return f"map<{self._type(entry['key'])}, {self._type(entry['value'])}>"
        if field.type in (_MESSAGE, _GROUP):
            return self._name(field.message_type)
        return self._name(field.enum_type) if field.type == _ENUM else _SCALARS[field.type]

    def _name(self, used: Descriptor) -> str:
        """From the package on; of another package, whose types are written into this one, without it."""
        package = used.file.package
        if not package or (used.file.name.startswith(_WELL_KNOWN) and used.file.name != self._file.name):
            return str(used.full_name)
        return str(used.full_name.removeprefix(f"{package}."))


def _root(descriptor: Descriptor) -> Descriptor:
    while descriptor.containing_type is not None:
        descriptor = descriptor.containing_type
    return descriptor


def _used(message: Descriptor) -> Iterator[Descriptor]:
    if hasattr(message, "values"):  # an enum uses nothing
        return
    for field in message.fields:
        if field.message_type is not None and not _is_map(field):
            yield field.message_type
        elif field.message_type is not None:
            value = field.message_type.fields_by_name["value"]
            yield from (used for used in (value.message_type, value.enum_type) if used is not None)
        elif field.enum_type is not None:
            yield field.enum_type
    for nested in message.nested_types:
        yield from _used(nested)


def _needs_proto2(descriptor: Descriptor) -> bool:
    if hasattr(descriptor, "values"):
        return bool(descriptor.values[0].number != 0)
    return (
        any(field.is_required or field.type == _GROUP for field in descriptor.fields)
        or any(map(_needs_proto2, descriptor.enum_types))
        or any(map(_needs_proto2, descriptor.nested_types))
    )


def _is_map(field: Descriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _is_optional(field: Descriptor) -> bool:
    """`optional` of proto3 is a oneof that the compiler made."""
    union = field.containing_oneof
    return union is not None and len(union.fields) == 1 and union.name == f"_{field.name}"
