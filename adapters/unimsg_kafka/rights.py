"""What a user may not do, as far as Kafka tells: with the metadata of topics and groups, and by validating a creation
that is not carried out."""

from collections.abc import Sequence

from aiokafka import errors as kafka  # type: ignore[import-untyped]  # aiokafka has no py.typed
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.protocol.admin import (  # type: ignore[import-untyped]
    DescribeGroupsRequest_v3,
    DescribeGroupsResponse_v3,
)
from aiokafka.protocol.api import Request  # type: ignore[import-untyped]

from unimsg.adapter import Address, Kind, Missing, Right
from unimsg_kafka.identity import TopicRequest
from unimsg_kafka.wire import topic_of

READ, WRITE = 3, 4
"""The numbers of Kafka's operations (AclOperation)."""
NO_TOPIC = "the topic does not exist, and Kafka tells the rights of those that do"


async def missing(admin: AIOKafkaAdminClient, address: Address, right: Right) -> Sequence[Missing]:
    """Raises KafkaError: the cluster does not answer."""
    if address.kind is Kind.INBOX:
        return await _of_inbox(admin, topic_of(address), right)
    has_group = address.kind is Kind.QUEUE or address.subscription is not None
    match right:
        case Right.SEND:
            return await _of_topic(admin, address.channel, right, WRITE, "Write")
        case Right.RECEIVE:
            of_group = await _of_group(admin, address.name, right) if has_group else []
            return [*await _of_topic(admin, address.channel, right, READ, "Read"), *of_group]
        case Right.MAKE:
            of_group = await _of_group(admin, address.name, right) if address.subscription is not None else []
            return [*await _of_making(admin, address.channel), *of_group]


async def _of_inbox(admin: AIOKafkaAdminClient, replies: str, right: Right) -> Sequence[Missing]:
    """The topic of all replies, which the first inbox makes."""
    if right is Right.SEND:
        return await _of_topic(admin, replies, right, WRITE, "Write")
    making = [Missing(right, each.what, each.unknown) for each in await _of_making(admin, replies)]
    return [*await _of_topic(admin, replies, right, READ, "Read"), *making]


async def _of_topic(
    admin: AIOKafkaAdminClient, name: str, right: Right, operation: int, called: str
) -> Sequence[Missing]:
    (found,) = (await admin._send_request(TopicRequest(name, rights=True))).to_object()["topics"]
    error = kafka.for_code(found["error_code"])
    what = f"{called} on topic {name}"
    if error is kafka.TopicAuthorizationFailedError:
        return [Missing(right, what)]
    if error is kafka.UnknownTopicOrPartitionError:
        return [Missing(right, what, NO_TOPIC)]
    if error is not kafka.NoError:
        raise error(name)
    return [] if found["authorized_operations"] >> operation & 1 else [Missing(right, what)]


async def _of_group(admin: AIOKafkaAdminClient, name: str, right: Right) -> Sequence[Missing]:
    try:
        coordinator = await admin.find_coordinator(name)
    except kafka.GroupAuthorizationFailedError:
        return [Missing(right, f"Read on group {name}")]
    (found,) = (await admin._send_request(_GroupRequest(name), coordinator)).to_object()["groups"]
    error = kafka.for_code(found["error_code"])
    if error not in (kafka.NoError, kafka.GroupAuthorizationFailedError):
        raise error(name)
    allowed = error is kafka.NoError and found["authorized_operations"] >> READ & 1
    return [] if allowed else [Missing(right, f"Read on group {name}")]


async def _of_making(admin: AIOKafkaAdminClient, name: str) -> Sequence[Missing]:
    reply = await admin.create_topics([NewTopic(name, 1, -1, {})], timeout_ms=10_000, validate_only=True)
    error = kafka.for_code(reply.topic_errors[0][1])
    forbidden = kafka.TopicAuthorizationFailedError, kafka.ClusterAuthorizationFailedError
    return [Missing(Right.MAKE, f"Create on topic {name}")] if error in forbidden else []


class _GroupQuestion(DescribeGroupsRequest_v3):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka 0.14 reads its answer as that of version 2, without the rights."""

    RESPONSE_TYPE = DescribeGroupsResponse_v3


class _GroupRequest(Request[_GroupQuestion]):  # type: ignore[misc]
    """One group, with what this user may do with it."""

    API_KEY = 15

    def __init__(self, name: str) -> None:
        self._name = name

    def build(self, question: type[_GroupQuestion]) -> _GroupQuestion:
        return question([self._name], True)
