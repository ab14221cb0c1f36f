"""Which partition a key belongs to. All senders of a channel must agree on it, for ever."""

from functools import lru_cache


@lru_cache(maxsize=65536)
def partition_of(key: str, partitions: int) -> int:
    """The partition of `key` among `partitions`: murmur2 of its UTF-8 bytes, as Kafka's own clients do it, so that a
    key sent by unimsg and one sent by a Java program share their partition."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """The 32-bit murmur2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2)."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length - length % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
