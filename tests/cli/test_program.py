"""The program as a whole: exit codes, one line for an error, nothing secret, and the extra that it needs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from shop import write
from typer.testing import CliRunner

from unimsg.cli.ending import Stopped, guarded, until_done
from unimsg.cli.output import body_as_dict, printable, progress, say, show, show_json
from unimsg.cli.program import app
from unimsg.errors import ConnectError, DecodeError, EncodeError, TopologyError, UnimsgError

pytestmark = pytest.mark.usefixtures("elsewhere")

CANARY = "canary-7f3a"
REFUSED = f"amqp://u:{CANARY}@127.0.0.1:1"


def unimsg(*arguments: str, code: str = "", stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments] if code else [sys.executable, "-m", "unimsg.cli", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from unimsg.cli import main; main()"
    done = unimsg("--help", code=code)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "unimsg: the command line needs typer: pip install 'unimsg[cli]'\n"


def test_another_missing_module_is_no_missing_extra() -> None:
    code = "import sys; sys.modules['unimsg.cli.tail'] = None; from unimsg.cli import main; main()"
    assert "ModuleNotFoundError" in unimsg("--help", code=code).stderr


def test_help_names_each_command_and_the_exit_codes() -> None:
    done = unimsg("--help")
    assert done.returncode == 0
    for word in ("run", "send", "tail", "dead", "doctor", "Exit codes"):
        assert word in done.stdout
    assert unimsg("--version").stdout.strip()


def test_wrong_usage_ends_with_2() -> None:
    assert unimsg("tail").returncode == 2
    assert unimsg("no-such-command").returncode == 2
    assert unimsg("tail", "orders.placed", "--limit", "0").returncode == 2


@pytest.mark.parametrize(
    "command", [("send", "a.b"), ("tail", "a.b"), ("dead", "list", "a.b"), ("run", "shopapp:service")]
)
def test_nothing_configured_ends_with_2_and_says_what_to_do(elsewhere: Path, command: tuple[str, ...]) -> None:
    write(elsewhere)
    done = unimsg(*command, stdin="{}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "set UNIMSG_URL" in done.stderr
    assert "--url" in done.stderr
    assert len(done.stderr.splitlines()) == 1, "one line, and no traceback"


@pytest.mark.parametrize(
    "command",
    [("send", "a.b"), ("tail", "a.b"), ("dead", "list", "a.b"), ("run", "shopapp:service"), ("doctor",)],
)
def test_an_unreachable_broker_ends_with_1_and_shows_no_password(elsewhere: Path, command: tuple[str, ...]) -> None:
    write(elsewhere)
    done = unimsg(*command, UNIMSG_URL=REFUSED, stdin="{}")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_with_debug_the_traceback_is_shown_and_no_password() -> None:
    for arguments, environment in ((("--debug",), {}), ((), {"UNIMSG_DEBUG": "1"})):
        done = unimsg(*arguments, "tail", "a.b", UNIMSG_URL=REFUSED, **environment)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert CANARY not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TopologyError("x"), 2),
        (EncodeError("x"), 2),
        (DecodeError("x"), 1),
        (ConnectError("x", reason="timeout"), 1),
        (UnimsgError("x"), 1),
        (ExceptionGroup("several", [UnimsgError("x"), UnimsgError("y")]), 1),
        (KeyboardInterrupt(), 130),
        (Stopped(signal.SIGTERM), 143),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    @guarded
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == code


def test_what_is_no_error_of_ours_is_not_hidden() -> None:
    @guarded
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()


def test_a_signal_cancels_what_runs_and_lets_it_undo() -> None:
    undone: list[str] = []

    async def work() -> None:
        import asyncio

        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            undone.append("all")

    with pytest.raises(Stopped) as caught:
        until_done(work())
    assert (caught.value.number, undone) == (signal.SIGTERM, ["all"])


def test_what_others_wrote_moves_no_cursor() -> None:
    assert printable("ä\x1b[2Jb\nc\u202e") == "ä\\x1b[2Jb\\nc\\u202e"


def test_progress_is_for_terminals_and_leaves_the_result_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(lambda: "7 moved"):
        pass
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress(lambda: "7 moved"):
        show("done")
    out, err = capsys.readouterr()
    assert "7 moved" in err
    assert out == "done\n"


def test_options_show_no_secret_in_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMSG_URL", REFUSED)
    for command in ("run", "send", "tail", "doctor"):
        assert CANARY not in CliRunner().invoke(app, [command, "--help"]).output


def test_nothing_that_others_wrote_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x07\x9b31m\u202e\x7f\ud800"
    say(f"unimsg: {hostile}\nsecond line")
    show_json({"body": hostile})
    shown = capsys.readouterr()
    assert all(line.isprintable() for line in [*shown.err.splitlines(), *shown.out.splitlines()])
    assert len(shown.err.splitlines()) == 2
    assert json.loads(shown.out) == {"body": hostile}


def test_a_number_beyond_all_numbers_is_shown_as_text() -> None:
    assert body_as_dict(b"1e999", "application/json") == {"body": "1e999"}
    assert body_as_dict(b"1e9", "application/json") == {"body": 1e9}
