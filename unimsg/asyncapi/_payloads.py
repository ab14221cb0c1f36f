"""The schemas of bodies, each in the language of its codec."""

from collections.abc import Hashable, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from unimsg._bodies import MAX_CODE, MAX_TEXT
from unimsg.asyncapi._schemas import COMPONENTS, Generator, Json, to_draft7
from unimsg.codecs import Binary, Codec, DescribedCodec, Text

Mode = Literal["validation", "serialization"]
"""Of what is received, and of what is written: the first may be more than the second."""


class Failure:
    """What a reply is in whose place a failure is told."""

    content_type = "application/json"

    def encode(self, body: object) -> bytes:
        raise NotImplementedError("only described here")

    def decode(self, data: bytes) -> object:
        raise NotImplementedError("only described here")


FAILURE = Failure()
_FAILURE_NAME = "unimsg-error"
"""No class can have this name."""
_FAILURE_SCHEMA: Json = {
    "title": "RemoteError",
    "description": "The other side failed: told in the place of a reply.",
    "type": "object",
    "properties": {
        "code": {"type": "string", "maxLength": MAX_CODE, "description": "for programs", "examples": ["rejected"]},
        "text": {"type": "string", "maxLength": MAX_TEXT, "description": "for people; may be empty"},
    },
    "required": ["code", "text"],
}


class Payloads:
    """All of one document, made together: classes of the same name are then told apart."""

    def __init__(self) -> None:
        self._adapters: dict[tuple[Hashable, Mode], TypeAdapter[Any]] = {}
        self._others: dict[Hashable, Codec[Any]] = {}
        self._schemas: dict[tuple[Hashable, Mode], Any] = {}
        self.components: Json = {}

    def add(self, key: Hashable, codec: Codec[Any], modes: Sequence[Mode]) -> None:
        adapter = getattr(codec, "type_adapter", None)
        if isinstance(adapter, TypeAdapter):
            self._adapters.update({(key, mode): adapter for mode in modes})
        else:
            self._others[key] = codec

    def make(self) -> None:
        """To be called once all were added."""
        inputs = [(key, mode, adapter) for (key, mode), adapter in self._adapters.items()]
        schemas, definitions = TypeAdapter.json_schemas(
            inputs, ref_template=COMPONENTS + "{model}", schema_generator=Generator
        )
        self._schemas = {(key, mode): to_draft7(schemas[key, mode]) for key, mode, _ in inputs}
        self.components = {name: to_draft7(each) for name, each in definitions.get("$defs", {}).items()}
        if FAILURE in self._others.values():
            self.components[_FAILURE_NAME] = _FAILURE_SCHEMA

    def get(self, key: Hashable, mode: Mode) -> Any:
        """The payload of a message."""
        if (key, mode) in self._schemas:
            return self._schemas[key, mode]
        codec = self._others[key]
        if isinstance(codec, Text):
            return {"type": "string"}
        if isinstance(codec, Binary):
            return {"type": "string", "format": "binary"}
        if isinstance(codec, Failure):
            return {"$ref": COMPONENTS + _FAILURE_NAME}
        if not isinstance(codec, DescribedCodec):
            return {"description": f"as {type(codec).__name__} writes it"}
        payload: Json = {"schemaFormat": codec.schema_format, "schema": codec.schema()}
        reads = getattr(codec, "reads", None)
        if callable(reads) and (others := reads()):
            payload["x-unimsg"] = {"reads": others}
        return payload

    def about(self, payload: Any) -> tuple[str | None, str | None]:
        """Title and description of a body, where its schema has them."""
        schema = payload.get("schema", payload)
        if isinstance(schema, str):  # a .proto file: the message comes first
            _, found, rest = schema.partition("\nmessage ")
            return (rest.partition(" ")[0] if found else None), None
        if not isinstance(schema, dict):
            return None, None
        if "$ref" in schema:
            schema = self.components.get(schema["$ref"].removeprefix(COMPONENTS), {})
        title, text = schema.get("title", schema.get("name")), schema.get("description", schema.get("doc"))
        return (title if isinstance(title, str) else None), (text if isinstance(text, str) else None)
