"""Which partition a key belongs to: all senders must agree, for ever."""

import pytest
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]  # aiokafka has no py.typed
from hypothesis import given
from hypothesis import strategies as st

from unimsg.keys import partition_of

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
counts = st.integers(1, 200)


@given(keys, counts)
def test_a_key_goes_where_kafkas_own_clients_put_it(key: str, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


@given(st.integers(0, 40), counts)
def test_so_does_a_key_of_any_length(length: int, partitions: int) -> None:
    key = "é" * (length // 2) + "x" * (length % 2)
    assert partition_of(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


@given(keys, counts)
def test_a_partition_exists_and_is_always_the_same(key: str, partitions: int) -> None:
    partition = partition_of(key, partitions)
    assert 0 <= partition < partitions
    assert partition_of(str(key.encode(), "utf-8"), partitions) == partition


@pytest.mark.parametrize(
    ("key", "hash"),  # from the tests of Kafka's own Java client
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536), ("abc", 479470107)],
)
def test_the_hash_is_that_of_kafkas_java_client(key: str, hash: int) -> None:
    assert partition_of(key, 1 << 31) == hash & 0x7FFFFFFF


def test_keys_spread_over_the_partitions() -> None:
    used = {partition_of(f"customer-{n}", 8) for n in range(200)}
    assert used == set(range(8)), f"never used: {set(range(8)) - used}"
