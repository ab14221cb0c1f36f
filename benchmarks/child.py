"""One contestant, one row, one round: `python -m benchmarks.child JOB` in a fresh interpreter.

Its last line is the result as JSON. Whatever was sent is read back by the raw client, whatever was to be handled was
sent before the clock starts, and nothing may be lost or come twice.
"""

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from benchmarks.arrivals import Arrivals
from benchmarks.contestant import Asking, Contestant, Sender
from benchmarks.contestants import CHECKS
from benchmarks.round_trips import percentile, round_trips
from benchmarks.rows import IN_FLIGHT, Row, bodies, windows
from benchmarks.stopwatch import Stopwatch

TIME_LIMIT = 100.0
"""Seconds for filling, measuring and checking together."""


@dataclass(frozen=True, slots=True)
class Job:
    broker: str
    url: str
    contestant: str
    row: str
    channel: str
    count: int
    profiled: bool


@dataclass(frozen=True, slots=True)
class Result:
    messages: int
    """In the measured stretch."""
    seconds: float
    cpu: float
    problem: str = ""
    profile: str = ""
    p50: float = 0.0
    """Seconds from a request to its reply."""
    p99: float = 0.0


async def run(job: Job) -> Result:
    checks = import_module(CHECKS[job.broker])
    path, _, name = job.contestant.partition(":")
    contestant = getattr(import_module(path), name)(job.url, job.channel)
    try:
        async with asyncio.timeout(TIME_LIMIT):
            if Row(job.row).asks:
                return await _ask(contestant, job)
            if Row(job.row).consumes:
                return await _consume(contestant, job, checks)
            return await _publish(contestant, job, checks)
    finally:
        with contextlib.suppress(Exception):  # it is only tidying: it must not hide why the measurement failed
            await checks.remove(job.url, job.channel)


async def _publish(contestant: Contestant, job: Job, checks: Any) -> Result:  # a module
    row, watch = Row(job.row), Stopwatch(profiled=job.profiled)
    warm = min(IN_FLIGHT, job.count // 10)
    first, rest = bodies(warm), bodies(job.count, first=warm)
    async with contestant.sender() as sender:
        await _send(sender, row, first)
        with watch:
            await _send(sender, row, rest)
    stored = Arrivals(warm + job.count, warm=1, watch=Stopwatch())
    problem = await _within_time(checks.read_back(job.url, job.channel, stored), stored)
    return Result(job.count, watch.seconds, watch.cpu, problem, watch.profile())


async def _send(sender: Sender, row: Row, bodies: list[bytes]) -> None:
    if row is Row.EACH:
        for body in bodies:
            await sender.send(body)
    elif row is Row.CONCURRENT:
        for window in windows(bodies):
            await asyncio.gather(*[sender.send(body) for body in window])
    else:
        await sender.pipeline(bodies)


async def _consume(contestant: Contestant, job: Job, checks: Any) -> Result:  # a module
    row, watch = Row(job.row), Stopwatch(profiled=job.profiled)
    async with contestant.sender() as sender:
        await sender.pipeline(bodies(job.count))
    warm = job.count // 20
    arrivals = contestant.arrivals(job.count, warm=warm, watch=watch)
    problem = await _within_time(contestant.consume(arrivals, row.concurrency), arrivals)
    if not problem and not arrivals.measured:
        problem = "all came in one batch: measure more messages, --count"
    if not problem and (left := await checks.unsettled(job.url, job.channel)):
        problem = f"{left} of {job.count} handled and never acknowledged"
    return Result(arrivals.measured, watch.seconds, watch.cpu, problem, watch.profile())


async def _ask(contestant: Asking, job: Job) -> Result:
    in_flight, watch = Row(job.row).concurrency, Stopwatch(profiled=job.profiled)
    warm = max(in_flight, job.count // 10)
    first, rest = bodies(warm), bodies(job.count, first=warm)
    async with contestant.asking() as ask:
        await round_trips(ask, first, in_flight)
        with watch:
            times = await round_trips(ask, rest, in_flight)
    p50, p99 = percentile(times, 50), percentile(times, 99)
    return Result(job.count, watch.seconds, watch.cpu, "", watch.profile(), p50, p99)


async def _within_time(work: Any, arrivals: Arrivals) -> str:  # a coroutine of no result
    """What is wrong with the arrivals when the work is done, or when it has made no progress for too long."""
    task = asyncio.create_task(work)
    seen = -1
    while not task.done() and arrivals.distinct > seen:
        seen = arrivals.distinct
        await asyncio.wait([task], timeout=30.0)
    if task.done():
        task.result()
        return arrivals.problem
    task.cancel()
    return f"no progress for 30 s; {arrivals.problem or 'all handled, and it does not end'}"


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    result = asyncio.run(run(job))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
