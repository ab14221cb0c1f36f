"""What adapters make of a broker's answers about rights and settings, where no broker here gives them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.api_core.exceptions import MethodNotImplemented, ServiceUnavailable
from unimsg_kafka.keeping import GROUPS_KEPT, forgetting
from unimsg_pubsub.link import Link
from unimsg_pubsub.rights import UNTESTED, missing
from unimsg_pubsub.topology import Topology
from unimsg_rabbitmq.rights import _named

from unimsg.adapter import Address, ChannelMissing, Kind, Missing, Right
from unimsg.errors import ConnectError, PermissionDenied

QUEUE = Address("orders.place", Kind.QUEUE)
SUBSCRIPTION = Address("orders.placed", Kind.TOPIC, "billing")


def test_rabbitmq_names_the_right_and_the_resource() -> None:
    text = "ACCESS_REFUSED - read access to queue 'a' in vhost '/' refused for user 'x'"
    assert _named(text) == "read on queue a"
    assert _named("anything else") == ""


# -- Kafka


def admin(value: str | None, error: Exception | None = None) -> Any:
    async def describe_configs(wanted: Any) -> Any:
        if error is not None:
            raise error
        entries = [] if value is None else [(GROUPS_KEPT, value)]
        return [SimpleNamespace(resources=[(0, "", 4, "1", entries)])]

    cluster = SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=1)])
    return SimpleNamespace(_client=SimpleNamespace(cluster=cluster), describe_configs=describe_configs)


@pytest.mark.parametrize(("value", "count"), [("10080", 0), ("20000", 0), ("1440", 1), (None, 0)])
async def test_a_short_memory_for_groups_is_told(value: str | None, count: int) -> None:
    assert len(await forgetting(admin(value))) == count


async def test_who_may_not_look_is_told_nothing() -> None:
    assert await forgetting(admin(None, OSError("away"))) == []


# -- Pub/Sub


class Service:
    """It answers tests of permissions: `allowed` are those that the user has on what exists."""

    emulator = False
    target = "pubsub.example"

    def __init__(self, *allowed: str, exists: bool | Exception = True, error: Exception | None = None) -> None:
        self.allowed, self.exists, self.error = allowed, exists, error
        self.publisher = self.subscriber = SimpleNamespace(test_iam_permissions=self.answer)

    async def answer(self, request: Any) -> Any:
        if self.error is not None:
            raise self.error
        names = [name for name in request.permissions if name in self.allowed] if self.exists is True else []
        return SimpleNamespace(permissions=names)

    async def call(self, rpc: Any, request: Any, *, until: float) -> Any:
        return await rpc(request)

    async def get(self, name: str, until: float) -> None:
        if isinstance(self.exists, Exception):
            raise self.exists
        if not self.exists:
            raise ChannelMissing(name)

    async def ask(self, address: Address, right: Right) -> Sequence[Missing]:
        link = cast("Link", self)  # stands in for one
        topology = Topology("acme", link, 10)
        topology.get_topic = topology.get_subscription = self.get  # type: ignore[method-assign, assignment]
        return await missing(link, topology, address, right, timeout=5.0)


CONSUME, PUBLISH = "pubsub.subscriptions.consume", "pubsub.topics.publish"


async def test_who_has_all_lacks_nothing() -> None:
    service = Service(
        CONSUME, PUBLISH, "pubsub.topics.get", "pubsub.topics.attachSubscription", "pubsub.subscriptions.get"
    )
    for right in Right:
        assert await service.ask(SUBSCRIPTION, right) == []


async def test_what_is_missing_is_named_with_its_resource() -> None:
    (receive,) = await Service().ask(SUBSCRIPTION, Right.RECEIVE)
    assert receive == Missing(Right.RECEIVE, f"{CONSUME} on projects/acme/subscriptions/orders.placed..billing")
    (send,) = await Service().ask(QUEUE, Right.SEND)
    assert send == Missing(Right.SEND, f"{PUBLISH} on projects/acme/topics/orders.place")
    assert len(await Service().ask(QUEUE, Right.MAKE)) == 3


async def test_of_what_does_not_exist_it_is_not_known() -> None:
    (lacking,) = await Service(PUBLISH, exists=False).ask(QUEUE, Right.SEND)
    assert lacking.unknown == UNTESTED
    (hidden,) = await Service(exists=PermissionDenied("no")).ask(QUEUE, Right.SEND)
    assert hidden.unknown is None


async def test_without_an_answer_it_is_not_known_or_there_is_no_service() -> None:
    (lacking,) = await Service(error=MethodNotImplemented("no")).ask(QUEUE, Right.SEND)
    assert lacking.unknown is not None
    with pytest.raises(ConnectError):
        await Service(error=ServiceUnavailable("away")).ask(QUEUE, Right.SEND)
