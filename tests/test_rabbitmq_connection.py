"""A connection that is never given up, whatever happens while it is made again."""

import asyncio
import logging
from types import SimpleNamespace
from typing import cast

import pytest
from unimsg_rabbitmq.connection import Connection, Link
from unimsg_rabbitmq.options import Server


class Line:
    """A live connection that can be lost; closing it fails as nobody foresaw."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.reader = SimpleNamespace(lost=asyncio.get_running_loop().create_future(), last_read=float("inf"))
        self.transport = SimpleNamespace(abort=self._abort)
        self.aborted = False
        self._failure = failure

    @property
    def alive(self) -> bool:
        return not self.reader.lost.done()

    async def aclose(self, _timeout: float = 0.0) -> None:
        if self._failure is not None:
            raise self._failure

    def _abort(self) -> None:
        self.aborted = True


class Scripted(Connection):
    """Connects to what it was given, one after the other; an exception among them is raised."""

    def __init__(self, *script: Line | Exception) -> None:
        super().__init__(Server.from_url("amqp://h", {}), "receiving")
        self._script = list(script)

    async def _connect(self, timeout: float) -> Link:
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        return cast("Link", step)  # stands in for one


async def test_an_error_that_nobody_foresaw_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Line(KeyError("a bug")), Line()
    connection = Scripted(first, second)
    await connection.open(1)
    first.reader.lost.set_result("cut")
    async with asyncio.timeout(5):
        assert await connection.get() is cast("Link", second)
    assert first.aborted
    assert connection.problem is None
    assert [record for record in caplog.records if record.exc_info], "without its traceback nobody can find it"
    await connection.aclose(1)


async def test_the_same_error_again_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Tries are less than a second apart, and may go on for hours."""
    first, second = Line(), Line()
    connection = Scripted(first, KeyError("a bug"), KeyError("a bug"), KeyError("a bug"), second)
    await connection.open(1)
    with caplog.at_level(logging.ERROR):
        first.reader.lost.set_result("cut")
        async with asyncio.timeout(10):
            assert await connection.get() is cast("Link", second)
    assert len([record for record in caplog.records if record.exc_info]) == 1
    await connection.aclose(1)
