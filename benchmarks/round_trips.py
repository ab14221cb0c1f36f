"""Requests, so many at a time, and how long each waited for its reply."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

from benchmarks.contestant import Ask

NO_REPLY = 30.0
"""Seconds after which a contestant is taken to have lost a request."""


async def round_trips(ask: Ask, bodies: Sequence[bytes], in_flight: int) -> list[float]:
    """Seconds from each request to its reply. Raises RuntimeError: a reply is another's, or does not come."""
    waiting, times = iter(bodies), list[float]()

    async def one_after_the_other() -> None:
        for body in waiting:
            began = perf_counter()
            reply = await ask(body)
            times.append(perf_counter() - began)
            if reply != body:
                raise RuntimeError(f"the reply to {body[:9]!r} is {reply[:9]!r}")

    work = asyncio.gather(*[one_after_the_other() for _ in range(in_flight)])
    seen = -1
    while not work.done() and len(times) > seen:
        seen = len(times)
        await asyncio.wait([work], timeout=NO_REPLY)
    if not work.done():
        work.cancel()
        raise RuntimeError(f"no reply for {NO_REPLY:g} s, after {seen} of {len(bodies)}")
    await work
    return times


def percentile(times: Sequence[float], share: int) -> float:
    """The time that `share` percent of them do not exceed."""
    return sorted(times)[min(len(times) - 1, len(times) * share // 100)]
