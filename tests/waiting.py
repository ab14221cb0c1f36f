"""Waiting for what must come, instead of sleeping and hoping."""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from time import monotonic


async def until(condition: Callable[[], object], what: str, *, within: float = 5.0) -> None:
    """Returns when `condition()` is true; fails, saying `what` was missing, if it is not within so many seconds."""
    deadline = monotonic() + within
    while not condition():  # any condition: there is no event for it
        assert monotonic() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.005)


async def came(got: Sequence[Hashable], wanted: Sequence[Hashable], *, within: float = 5.0) -> None:
    """Returns when everything `wanted` is in `got`, in any order; fails with what is missing and what is extra."""
    with suppress(AssertionError):  # the difference tells more
        await until(lambda: not Counter(wanted) - Counter(got), "", within=within)
    assert not (text := difference(got, wanted)), text


def difference(got: Sequence[Hashable], wanted: Sequence[Hashable]) -> str:
    """What is missing and what is extra, each as often as it is; empty if nothing is."""
    missing, extra = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    if not missing and not extra:
        return ""
    return f"missing: {sorted(map(repr, missing.elements()))}, extra: {sorted(map(repr, extra.elements()))}"
