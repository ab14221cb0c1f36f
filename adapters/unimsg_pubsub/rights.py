"""What a user may not do: Pub/Sub tests permissions on what exists."""

from collections.abc import Sequence
from time import monotonic

from google.api_core.exceptions import GoogleAPICallError
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]  # generated, without types

from unimsg.adapter import Address, ChannelMissing, Kind, Missing, Right
from unimsg.errors import PermissionDenied
from unimsg_pubsub import errors
from unimsg_pubsub.link import Link
from unimsg_pubsub.topology import Topology, has_subscription

UNTESTED = "Pub/Sub tests no permission on what does not exist"


async def missing(
    link: Link, topology: Topology, address: Address, right: Right, *, timeout: float
) -> Sequence[Missing]:
    """
    Raises:
        ConnectError: no answer.
    """
    until = monotonic() + timeout
    found: list[Missing] = []
    for resource, names in _needed(topology, address, right).items():
        client = link.publisher if "/topics/" in resource else link.subscriber
        request = iam_policy_pb2.TestIamPermissionsRequest(resource=resource, permissions=names)
        try:
            answer = await link.call(client.test_iam_permissions, request, until=until)
        except GoogleAPICallError as error:
            if errors.never_left(error) or errors.passing(error):
                raise errors.connect_error(link.target, error) from error
            why = "the emulator knows no permissions" if link.emulator else f"no answer ({errors.why(error)})"
            found += [_missing(right, name, resource, why) for name in names]
            continue
        lacking = [name for name in names if name not in answer.permissions]
        unknown = UNTESTED if lacking and not await _exists(topology, resource, until) else None
        found += [_missing(right, name, resource, unknown) for name in lacking]
    return found


def _missing(right: Right, permission: str, resource: str, unknown: str | None) -> Missing:
    return Missing(right, f"{permission} on {resource}", unknown)


async def _exists(topology: Topology, resource: str, until: float) -> bool:
    """Of what does not exist no permission is there either."""
    try:
        await (topology.get_topic if "/topics/" in resource else topology.get_subscription)(resource, until)
    except ChannelMissing:
        return False
    except PermissionDenied:
        return True  # or not: who may not even look lacks what was tested
    return True


def _needed(topology: Topology, address: Address, right: Right) -> dict[str, Sequence[str]]:
    """By resource, what has to be allowed."""
    if address.kind is Kind.INBOX:  # to make subscriptions is a right on the project, which Pub/Sub does not test
        name = "pubsub.topics.publish" if right is Right.SEND else "pubsub.topics.attachSubscription"
        return {topology.topic(address): [name]}
    topic = topology.source(address)
    match right:
        case Right.SEND:
            return {topology.topic(address): ["pubsub.topics.publish"]}
        case Right.RECEIVE:
            return {topology.subscription(address): ["pubsub.subscriptions.consume"]}
    made: dict[str, Sequence[str]] = {topic: ["pubsub.topics.get"]}
    if has_subscription(address):
        made[topic] = ["pubsub.topics.get", "pubsub.topics.attachSubscription"]
        made[topology.subscription(address)] = ["pubsub.subscriptions.get"]
    return made
