"""How a command ends: its exit code, one line for an error, and a signal that is obeyed in order."""

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer

from unimsg.cli.output import say
from unimsg.errors import ConfigurationError, EncodeError, UnimsgError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FAILED = 1
"""It was tried and failed, or there are findings."""
USAGE = 2
"""Wrong usage or configuration: nothing was done."""
_tracebacks = False


class Stopped(Exception):
    """A signal asked the command to end, and what it had to undo is undone."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def show_tracebacks(wanted: bool) -> None:
    """Whether an error shows where it comes from."""
    global _tracebacks
    _tracebacks = wanted


def guarded(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """`command`, whose errors end it with one line and the exit code that is theirs."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        try:
            return command(*args, **options)
        except Stopped as stopped:
            raise typer.Exit(128 + stopped.number) from None
        except KeyboardInterrupt:
            raise typer.Exit(128 + signal.SIGINT) from None
        except BrokenPipeError:  # whoever read the output has had enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
            raise typer.Exit(128 + signal.SIGPIPE) from None
        except UnimsgError as error:
            if _tracebacks:
                raise
            fail(error)
        except ExceptionGroup as group:
            ours, others = group.split(UnimsgError)
            if ours is None or others is not None or _tracebacks:
                raise
            fail(_first(ours))

    return run


def fail(error: UnimsgError) -> NoReturn:
    """One line, and the exit code."""
    say(f"unimsg: {' '.join(str(error).split())}")
    raise typer.Exit(code_of(error)) from None


def _first(group: ExceptionGroup[UnimsgError]) -> UnimsgError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def code_of(error: UnimsgError) -> int:
    """The exit code of a command that ended so."""
    return USAGE if isinstance(error, ConfigurationError | EncodeError) else FAILED


def until_done(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs it to its end. SIGTERM and Ctrl-C cancel it, so that it undoes what it has to; a second one ends the process
    at once.

    Raises:
        Stopped: one of them came.
    """
    return asyncio.run(_obeying_signals(work))


async def _obeying_signals(work: Coroutine[Any, Any, Result]) -> Result:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    stopped: list[int] = []

    def on_signal(number: int) -> None:
        stopped.append(number)
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, ValueError):  # Windows; not the main thread, as in tests
            loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not stopped:
            raise
        raise Stopped(stopped[0]) from None
