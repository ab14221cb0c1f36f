"""How long a topic must keep its records to have the history that was declared."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import ceil

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]  # aiokafka has no py.typed
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]

from unimsg.adapter import Difference
from unimsg_kafka.errors import UNREACHABLE
from unimsg_kafka.options import KafkaOptions

MAX_HISTORY = timedelta(days=3650)
_A_WEEK = timedelta(days=7)
"""Kafka's own default. A short history must not shorten how long an unread message waits for its subscription."""
OF_KEEPING = ("retention.ms", "retention.bytes", "cleanup.policy")
"""The settings of a topic that `forgets` looks at."""
GROUPS_KEPT = "offsets.retention.minutes"


async def forgetting(admin: AIOKafkaAdminClient) -> Sequence[str]:
    """What is wrong with how long the cluster remembers where groups stand; nothing where it does not tell."""
    try:
        broker = admin._client.cluster.brokers().pop().nodeId
        wanted = ConfigResource(ConfigResourceType.BROKER, str(broker), configs={GROUPS_KEPT: ""})
        (reply,) = await admin.describe_configs([wanted])
        _, _, _, _, entries = reply.resources[0]
        minutes = int(entries[0][1])
    except (*UNREACHABLE, KeyError, IndexError, ValueError, TypeError):  # not allowed to look, most often
        return []
    if timedelta(minutes=minutes) >= _A_WEEK:
        return []
    return [
        f"{GROUPS_KEPT} = {minutes}: where nobody receives for so long, a subscription forgets what waits for it, and "
        "a queue what was done: set it to 10080 (7 days) or more on all brokers"
    ]


def with_history(options: KafkaOptions, history: timedelta | None) -> KafkaOptions:
    """The options with which a topic that does not exist is made to keep its history. What is given explicitly wins,
    and is compared like that of any topic."""
    if history is None:
        return options
    kept = {"retention.ms": str(_milliseconds(max(history, _A_WEEK))), "retention.bytes": "-1"}
    return options.model_copy(update={"config": {**kept, "cleanup.policy": "delete", **options.config}})


def forgets(topic: str, real: Mapping[str, str], history: timedelta) -> Sequence[Difference]:
    """Why a topic with these settings forgets too soon."""
    found: list[Difference] = []
    least = _milliseconds(history)
    age = int(real.get("retention.ms", "-1"))
    if 0 <= age < least:
        found.append(Difference(f"topic {topic} retention.ms", f"{least} or more, or -1", str(age)))
    if (size := real.get("retention.bytes", "-1")) != "-1":
        found.append(Difference(f"topic {topic} retention.bytes", "-1", size))
    if (policy := real.get("cleanup.policy", "delete")) != "delete":
        found.append(Difference(f"topic {topic} cleanup.policy", "delete", policy))
    return found


def _milliseconds(time: timedelta) -> int:
    return ceil(time / timedelta(milliseconds=1))
