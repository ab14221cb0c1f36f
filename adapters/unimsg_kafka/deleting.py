"""Deleting topics, and where groups stand in them."""

from collections.abc import Sequence

from aiokafka import errors as kafka  # type: ignore[import-untyped]  # aiokafka has no py.typed
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.protocol.admin import DeleteGroupsRequest  # type: ignore[import-untyped]


class HasMembers(kafka.KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """Who has left is counted for a moment longer: it is worth another try."""


async def delete_group(admin: AIOKafkaAdminClient, name: str) -> None:
    """Raises KafkaError; HasMembers: somebody receives."""
    reply = await admin._send_request(DeleteGroupsRequest([name]), await admin.find_coordinator(name))
    ((_, code),) = reply.results
    error = kafka.for_code(code)
    if error is kafka.NonEmptyGroup:
        raise HasMembers(name)
    if error not in (kafka.NoError, kafka.GroupIdNotFound):
        raise error(name)


async def delete_topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Raises KafkaError."""
    reply = await admin.delete_topics(list(names), timeout_ms=10_000)
    for name, code, *_ in reply.topic_error_codes:
        error = kafka.for_code(code)
        if error not in (kafka.NoError, kafka.UnknownTopicOrPartitionError):
            raise error(name)
