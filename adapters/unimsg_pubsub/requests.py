"""How much goes into one request."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

MOST_ITEMS = 1000
"""Messages, or ack ids, of one request (Pub/Sub quotas and limits)."""


def parts(items: Sequence[Item], size: Callable[[Item], int], most_bytes: int) -> Iterator[Sequence[Item]]:
    """`items` in as few requests as Pub/Sub takes, in order. `size`: bytes that an item adds to a request."""
    begin = total = 0
    for index, item in enumerate(items):
        bytes_ = size(item)
        if index > begin and (index - begin == MOST_ITEMS or total + bytes_ > most_bytes):
            yield items[begin:index]
            begin, total = index, 0
        total += bytes_
    if items:
        yield items[begin:]
