"""Groups of dead letters are joined for a moment, so that no broker forgets what was put back."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from unimsg_kafka import positions, reminding
from unimsg_kafka.topics import Topic

from unimsg.adapter import Address, Kind

DEAD = Address("orders..dead", Kind.QUEUE)


class Cluster:
    """As much of `Topics` as is asked."""

    def __init__(self, state: str = "Empty", *, topic: bool = True, committed: bool = True) -> None:
        self.admin = self
        self.joined: list[str] = []
        self._state, self._topic, self.committed = state, topic, committed

    async def find(self, name: str) -> Topic | None:
        return Topic(name, 1, 1, led=True) if self._topic else None

    async def describe_consumer_groups(self, groups: list[str]) -> list[SimpleNamespace]:
        return [SimpleNamespace(groups=[(0, groups[0], self._state, "consumer", "", [])])]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(admin: Cluster, group: str, topic: Topic) -> dict[str, int]:
        return {"somewhere": 1} if admin.committed else {}

    async def join(cluster: Cluster, group: str, topic: Topic) -> None:
        cluster.joined.append(group)

    monkeypatch.setattr(positions, "read", read)
    monkeypatch.setattr(reminding, "_join", join)
    monkeypatch.setattr(reminding, "_FIRST", 0.01)
    monkeypatch.setattr(reminding, "_EVERY", 0.01)


async def reminded(cluster: Any) -> None:  # Any: in the place of Topics
    task = asyncio.create_task(reminding.remind(cluster, lambda: [DEAD]))
    await asyncio.sleep(0.1)
    assert not task.done(), "it ended"
    task.cancel()


async def test_a_group_without_members_is_joined_again_and_again() -> None:
    cluster = Cluster()
    await reminded(cluster)
    assert len(cluster.joined) > 1
    assert set(cluster.joined) == {"orders..dead"}


@pytest.mark.parametrize("cluster", [Cluster("Stable"), Cluster(committed=False), Cluster(topic=False)])
async def test_nobody_joins_without_need(cluster: Cluster) -> None:
    await reminded(cluster)
    assert cluster.joined == []


async def test_it_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, tries = Cluster(), 0

    async def fail(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError("on purpose")

    monkeypatch.setattr(reminding, "_join", fail)
    await reminded(cluster)
    assert tries > 1
