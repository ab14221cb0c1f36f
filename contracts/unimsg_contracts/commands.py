"""The command line as a process, as operators run it. Its settings travel in the environment, where no other user's
process can read the password among them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from unimsg_contracts.member import planted
from unimsg_contracts.reading import eventually

FAULT = "CONTRACTS_FAULT"
PATIENCE = 30.0
"""Seconds in which a program has loaded its modules, on a busy machine."""


class Command:
    """One command that runs. Killed at the end of its block."""

    fault: str | None = None
    """A mutant to plant in it, as `Member.fault`."""

    def __init__(
        self, settings: Mapping[str, Any], *arguments: str, stdin: bytes = b"", folder: Path | None = None
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIMSG_")}
        environment |= {f"UNIMSG_{name.upper()}": json.dumps(value) for name, value in settings.items()}
        self._environment = environment | ({FAULT: self.fault} if self.fault else {})
        self._arguments = arguments
        self._stdin = stdin
        self._folder = folder
        self.out: list[str] = []
        """Lines on standard output, so far."""
        self.err: list[str] = []

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "unimsg_contracts.commands", *self._arguments),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=self._environment,
            cwd=self._folder,
        )
        process = self._process
        assert process.stdin is not None
        process.stdin.write(self._stdin)
        process.stdin.close()
        self._readers = [
            asyncio.create_task(_read(process.stdout, self.out)),
            asyncio.create_task(_read(process.stderr, self.err)),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)

    @property
    def json(self) -> list[Any]:
        """What it has shown."""
        return [json.loads(line) for line in self.out]

    async def says(self, word: str) -> str:
        """Waits until a line on standard error holds `word`; the line."""

        def found() -> str | None:
            return next((line for line in self.err if word in line), None)

        await eventually(lambda: found() is not None, PATIENCE, lambda: f"it never said {word!r}, but {self.err}")
        return found() or ""

    async def ends(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(2 * PATIENCE):
            await self._process.wait()
            await asyncio.gather(*self._readers)
        return self._process.returncode or 0

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


async def run(
    settings: Mapping[str, Any], *arguments: str, stdin: bytes = b"", folder: Path | None = None
) -> tuple[int, list[str], str]:
    """Exit code, lines on standard output, and standard error of a command that ends by itself."""
    async with Command(settings, *arguments, stdin=stdin, folder=folder) as command:
        code = await command.ends()
    return code, command.out, "\n".join(command.err)


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    async for line in stream:
        lines += [line.decode().rstrip("\n")]  # seen as soon as it is there


if __name__ == "__main__":
    from unimsg.cli import main

    with planted(os.environ.get(FAULT)):
        main()
