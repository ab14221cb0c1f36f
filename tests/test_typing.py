"""Wrong bodies, channels and handlers are type errors; natural programs are none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks

HERE = Path(__file__).parent
RIGHT = HERE / "typing" / "right.py"
MISUSES = HERE / "typing" / "misuses.py"
PROGRAMS = [*blocks("README.md", "python"), *blocks("docs/styles.md", "python")]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """What mypy says, by file and line: one run for all files."""
    folder = tmp_path_factory.mktemp("programs")
    shown = [folder / f"{Path(block.page).stem.lower()}_{block.line}.py" for block in PROGRAMS]
    for file, block in zip(shown, PROGRAMS, strict=True):
        file.write_text(block.text)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-pretty", "--show-error-codes"]
    done = subprocess.run(
        [*command, "--config-file", str(HERE.parent / "pyproject.toml"), str(RIGHT), str(MISUSES), *map(str, shown)],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        timeout=240,
        check=False,
    )
    assert done.returncode in (0, 1), f"mypy itself failed:\n{done.stdout}\n{done.stderr}"
    found: dict[str, dict[int, str]] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"(.+?):(\d+): error: (.*)", line)
        if match:
            found.setdefault(Path(match[1]).name, {}).setdefault(int(match[2]), match[3])
    return found


def test_natural_programs_pass_mypy_strict(reported: dict[str, dict[int, str]]) -> None:
    """And those that README and the page of styles show."""
    others = {name: lines for name, lines in reported.items() if name != MISUSES.name}
    assert others == {}, "mypy reports errors where there are none"


def test_each_misuse_is_a_type_error_and_nothing_else_is(reported: dict[str, dict[int, str]]) -> None:
    lines = MISUSES.read_text().splitlines()
    marked = {number: line for number, line in enumerate(lines, 1) if "# wrong:" in line}
    assert len(marked) >= 14
    found = reported.get(MISUSES.name, {})
    missing = [f"{number}: {line}" for number, line in marked.items() if number not in found]
    extra = [f"{number}: {lines[number - 1]}  -> {text}" for number, text in found.items() if number not in marked]
    assert missing + extra == [], "\n".join(["not reported:", *missing, "reported without a mark:", *extra])
