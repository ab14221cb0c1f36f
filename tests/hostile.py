"""Hostile bodies are refused fast and in little memory."""

import tracemalloc
from time import process_time
from typing import Any

import pytest

from unimsg import DecodeError, Queue


def assert_refused(queue: Queue[Any], content_type: str | None, data: bytes, *, megabytes: float = 64) -> str:
    """Decoding `data` is a DecodeError, in 2 seconds of work and `megabytes` of memory. Returns its text."""
    begin = process_time()  # not by the clock: other processes may be busy
    text = _refused(queue, content_type, data)
    took = process_time() - begin
    assert took < 2.0, f"it took {took:.2f} s"
    tracemalloc.start()  # makes all slow
    try:
        _refused(queue, content_type, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 1e6, f"it took {peak / 1e6:.1f} MB"
    assert len(text) < 500, "the error repeats the body"
    return text


def _refused(queue: Queue[Any], content_type: str | None, data: bytes) -> str:
    with pytest.raises(DecodeError, match=r"^orders\.place: ") as caught:
        queue.decode(None, content_type, data)
    return str(caught.value)


def mutated(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """`data` with pieces replaced: where, how many bytes, by what."""
    for at, count, new in edits:
        at %= len(data) + 1
        data = data[:at] + new + data[at + count :]
    return data
