"""Asking for a topic with its id: Kafka's metadata request in version 10, the first that tells it; aiokafka 0.14 stops
at version 5. Only the id tells a topic that was made anew from the old one of its name."""

from base64 import urlsafe_b64encode
from io import BytesIO

from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]  # no py.typed
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

_TEXT, _NUMBERS, _END = CompactString(), CompactArray(Int32), ("tags", TaggedFields)


class _Id(String):  # type: ignore[misc]  # aiokafka is untyped. Of its text types, because they may be instances
    """16 bytes; as text, what Kafka's own tools show."""

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: BytesIO) -> str:
        return urlsafe_b64encode(data.read(16)).decode().rstrip("=")


class _Answer(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 3, 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _END)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("id", _Id()),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _NUMBERS),
                        ("isr", _NUMBERS),
                        ("offline_replicas", _NUMBERS),
                        _END,
                    ),
                ),
                ("authorized_operations", Int32),
                _END,
            ),
        ),
        ("authorized_operations", Int32),
        _END,
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 3, 10, True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("id", _Id()), ("name", _TEXT), _END)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _END,
    )


class TopicRequest(Request[_Question]):  # type: ignore[misc]
    """One topic, by name; asking never creates it. `rights`: with what this user may do with it."""

    API_KEY = 3

    def __init__(self, name: str, *, rights: bool = False) -> None:
        self._name = name
        self._rights = rights

    def build(self, question: type[_Question]) -> _Question:
        return question([(bytes(16), self._name, {})], False, False, self._rights, {})
