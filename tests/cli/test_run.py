"""`unimsg run`, as processes on the broker in memory."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from shop import write

APP = """
import asyncio, contextlib, os, sys
import unimsg


@contextlib.asynccontextmanager
async def lifespan(bus):
    os.write(1, f"up {{os.getpid()}}\\n".encode())
    {begin}
    try:
        yield None
    finally:
        os.write(1, f"down {{os.getpid()}}\\n".encode())
        {end}


service = unimsg.Service("shop", lifespan=lifespan, grace=5)


@service.handler(unimsg.Queue("orders.place", int))
async def place(number: int) -> None: ...
"""


class Running:
    """The program, and the lines that it and its workers wrote."""

    def __init__(self, *arguments: str, own_group: bool = False, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "unimsg.cli", "run", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
            process_group=0 if own_group else None,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def pids(self, word: str = "up") -> list[int]:
        return [int(line.split()[1]) for line in list(self.lines) if line.startswith(f"{word} ")]

    def until(self, condition: Callable[[], object], what: str, within: float = 30.0) -> None:
        end = monotonic() + within
        while not condition():
            assert monotonic() < end, f"not within {within:g} s: {what}; it said {self.lines}"
            sleep(0.02)

    def ends(self, within: float = 30.0) -> int:
        code = self.process.wait(timeout=within)
        self._reader.join(5)
        return code

    def close(self) -> None:
        for pid in self.pids():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self._reader.join(5)
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in iter(self.process.stdout.readline, ""))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def start(elsewhere: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(*arguments: str, begin: str = "pass", end: str = "pass", **environment: str) -> Running:
        app = write(elsewhere, APP.format(begin=begin, end=end))
        running.append(Running(app, "--url", "memory://", *arguments, **environment))
        return running[-1]

    yield begin
    for each in running:
        each.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_well(start: Callable[..., Running], number: signal.Signals) -> None:
    running = start()
    running.until(lambda: any("running: orders.place" in line for line in running.lines), "running")
    running.process.send_signal(number)
    assert running.ends() == 0
    assert running.pids("down") == running.pids("up") == [running.process.pid]
    assert not any("Traceback" in line for line in running.lines)


def test_an_app_that_is_none_ends_with_2(start: Callable[..., Running]) -> None:
    for arguments in ((), ("--workers", "2")):
        running = start("nowhere:service", *arguments)
        assert running.ends() == 2
        assert len(running.lines) == 1
        assert "no module nowhere" in running.lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_run_side_by_side_and_end_together(start: Callable[..., Running], number: signal.Signals) -> None:
    running = start("--workers", "2")
    running.until(lambda: len(running.pids()) == 2, "two workers")
    running.until(lambda: sum("running: orders.place" in line for line in running.lines) == 2, "running")
    running.process.send_signal(number)
    assert running.ends() == 0
    assert set(running.pids("down")) == set(running.pids("up")), "\n".join(running.lines)
    assert running.process.pid not in running.pids("up")


def test_ctrl_c_on_a_terminal_reaches_each_worker_once(start: Callable[..., Running]) -> None:
    """It goes to the whole process group, at any time: while they start, too."""
    for begun in (False, True):
        running = start("--workers", "2", own_group=True)
        word = "running: orders.place" if begun else "started: process"
        running.until(lambda: sum(word in line for line in running.lines) == 2, word)  # noqa: B023
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.ends() == 0, running.lines
        assert not any("Traceback" in line for line in running.lines), running.lines


def test_a_worker_that_crashed_is_started_again(start: Callable[..., Running]) -> None:
    running = start("--workers", "2")
    running.until(lambda: len(running.pids()) == 2, "two workers")
    running.until(lambda: sum("running: orders.place" in line for line in running.lines) == 2, "running")
    killed = running.pids()[0]
    os.kill(killed, signal.SIGKILL)
    running.until(lambda: len(running.pids()) == 3, "another worker")
    assert any("ended with -9: starting another in" in line for line in running.lines)
    running.process.terminate()
    assert running.ends() == 0
    assert set(running.pids("down")) == set(running.pids()) - {killed}


def test_crashes_in_a_row_wait_longer_and_longer(start: Callable[..., Running]) -> None:
    running = start("--workers", "2", begin="os._exit(3)")
    running.until(lambda: len(running.pids()) >= 6, "two workers, three times each")
    waits = [float(line.rpartition(" in ")[2].removesuffix(" s")) for line in running.lines if "another in" in line]
    assert max(waits) > min(waits)
    running.process.terminate()
    assert running.ends() in (0, 3), "3: one crashed while it was to end"


def test_a_wrong_configuration_stops_all_workers(start: Callable[..., Running]) -> None:
    running = start("--workers", "2", begin="raise unimsg.ConfigurationError('no such thing')")
    assert running.ends() == 2
    assert any("unimsg: no such thing" in line for line in running.lines)


def test_workers_do_not_outlive_who_started_them(start: Callable[..., Running]) -> None:
    running = start("--workers", "2")
    running.until(lambda: len(running.pids()) == 2, "two workers")
    running.process.kill()
    running.until(lambda: not any(alive(pid) for pid in running.pids()), "the workers end")
    assert set(running.pids("down")) == set(running.pids())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_it_at_once(start: Callable[..., Running], workers: str) -> None:
    running = start("--workers", workers, end="await asyncio.Event().wait()")
    running.until(lambda: sum("running: orders.place" in line for line in running.lines) == int(workers), "running")
    running.process.terminate()
    running.until(lambda: len(running.pids("down")) == int(workers), "it drains")
    running.process.terminate()
    assert running.ends() in (143, -signal.SIGTERM)


def test_a_changed_file_starts_it_anew(start: Callable[..., Running], elsewhere: Path) -> None:
    running = start("--reload")
    running.until(lambda: any("running: orders.place" in line for line in running.lines), "running")
    write(elsewhere, "1 +")
    running.until(lambda: any("waiting for a file to change" in line for line in running.lines), "a broken file")
    assert len(running.pids("down")) == 1
    write(elsewhere, APP.format(begin="pass", end="pass"))
    running.until(lambda: len(running.pids()) == 2, "it runs again")
    running.process.terminate()
    assert running.ends() == 0
