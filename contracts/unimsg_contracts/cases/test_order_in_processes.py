"""G5 with real processes: keys that always have a backlog, messages of which 15 % fail, and processes that join, are
restarted one after the other, and die in the middle of a message.

Of each key no message is begun before all older ones are done, none again after a newer one, never two at once, and
none twice unless its process died. Where the service is not proved, the broker's behaviour is recorded instead.
"""

from unimsg_contracts.crew import KEYS, crew
from unimsg_contracts.marks import guarantee
from unimsg_contracts.ordering import Verdict
from unimsg_contracts.stage import Stage

PREFETCH = (100, 10, 1)


def perfect(verdict: Verdict) -> None:
    assert verdict.perfect, str(verdict)


@guarantee("G5", needs=("processes", "join_order"))
async def test_order_while_processes_join(stage: Stage) -> None:
    """One process, then two, then four; each takes up to 100 messages."""
    async with crew(stage, prefetch=100) as processes:
        for joining in (1, 1, 2):
            await processes.join(joining)
            await processes.go_on()
        perfect(await processes.finish())


@guarantee("G5", needs=("processes", "leave_order"))
async def test_order_while_processes_are_restarted(stage: Stage) -> None:
    """Each of two processes is ended by SIGTERM and replaced, while the other one works; each takes up to 10."""
    async with crew(stage, prefetch=10) as processes:
        await processes.join(2)
        await processes.go_on()
        await processes.restart()
        await processes.go_on()
        perfect(await processes.finish())


@guarantee("G5", needs=("processes", "kill", "leave_order"))
async def test_order_while_processes_die(stage: Stage) -> None:
    """One of two processes is killed in the middle of a message, and replaced; each takes up to 100 messages."""
    async with crew(stage, prefetch=100) as processes:
        await processes.join(2)
        await processes.go_on()
        await processes.kill()
        await processes.go_on()
        verdict = await processes.finish()
    perfect(verdict)
    stage.record(f"a killed process: {verdict.after_crashes} messages that it had done came again")


@guarantee("G10", needs=("processes",))
async def test_nothing_is_lost_while_processes_are_restarted(stage: Stage) -> None:
    """Each of two processes is ended by SIGTERM and replaced; each takes one message: everything is handled.
    What the order was is told where the broker does not promise it."""
    async with crew(stage, prefetch=1, in_order=is_promised(stage)) as processes:
        await processes.join(2)
        await processes.go_on()
        await processes.restart()
        await processes.go_on()
        verdict = await processes.finish()
    assert not verdict.missing, str(verdict)
    if is_promised(stage):
        perfect(verdict)
    else:
        tell(stage, "2 of 2 processes were restarted, and nothing was lost", verdict)


@guarantee("G5", needs=("processes", "kill", "leave_order"), tier="N", times=3)
async def test_order_with_one_process(stage: Stage) -> None:
    """One process is restarted, killed and replaced, with each of three limits of what it holds."""
    for prefetch in PREFETCH:
        perfect(await everything(stage, 1, prefetch))


@guarantee("G5", needs=("processes", "kill", "leave_order"), tier="N", times=3)
async def test_order_with_two_processes(stage: Stage) -> None:
    """As with one."""
    for prefetch in PREFETCH:
        perfect(await everything(stage, 2, prefetch))


@guarantee("G5", needs=("processes", "kill", "leave_order"), tier="N", times=3)
async def test_order_with_four_processes(stage: Stage) -> None:
    """As with one."""
    for prefetch in PREFETCH:
        perfect(await everything(stage, 4, prefetch))


@guarantee("G9", needs=("processes", "kill"), tier="N", times=3)
async def test_a_process_that_dies_counts_as_no_failure(stage: Stage) -> None:
    """One process, and then two, are restarted, and one is killed in the middle of a message: no attempt is counted
    but those that failed. What became of the keys is told where the broker does not promise it."""
    for count in (1, 2):
        if stage.harness.reason_against("cut_order") is None:
            perfect(await everything(stage, count, 20))
        else:
            await death(stage, count)


async def death(stage: Stage, count: int) -> None:
    async with crew(stage, prefetch=20, in_order=False) as processes:
        await processes.join(count)
        await processes.go_on()
        await processes.restart()
        await processes.go_on()
        tell(stage, f"{count} of {count} processes were restarted", processes.judge())
        await processes.kill()
        patience = 3 * stage.patience
        standing = await processes.standing(patience)
        verdict = processes.judge()
        assert not verdict.miscounted, str(verdict)
        stage.record(f"1 of {count} processes was killed: {len(standing)} of {len(KEYS)} keys stood for {patience:g} s")
        tell(stage, f"and until then, with the restarts before it, {verdict.after_crashes} came again", verdict)


async def everything(stage: Stage, count: int, prefetch: int) -> Verdict:
    async with crew(stage, prefetch=prefetch) as processes:
        await processes.join(count)
        await processes.go_on()
        await processes.restart()
        await processes.go_on()
        await processes.kill()
        await processes.go_on()
        return await processes.finish()


def is_promised(stage: Stage) -> bool:
    return stage.harness.reason_against("leave_order") is None


def tell(stage: Stage, what: str, verdict: Verdict) -> None:
    stage.record(
        f"{what}: the order of {len(verdict.broken)} of {len(KEYS)} keys was broken: of {verdict.attempts} attempts "
        f"{len(verdict.disorder)} began before an older message was done or after a newer one was, "
        f"{len(verdict.overlaps)} while another one of their key ran, {len(verdict.repeats)} though their message was "
        "done and nothing had crashed"
    )
