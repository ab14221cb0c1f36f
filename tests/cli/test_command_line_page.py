"""docs/command-line.md names every command and option, and none that does not exist."""

import re
import shlex

import pytest
from pages import ROOT, blocks
from typer.testing import CliRunner

from unimsg.cli.graves import FIELDS
from unimsg.cli.program import app

PAGE = "docs/command-line.md"
COMMANDS = [line for block in blocks(PAGE, "sh") for line in block.text.splitlines()]
NAMES = ["run", "send", "tail", "dead list", "dead show", "dead redrive", "dead drop", "doctor", "asyncapi"]


def options_of(name: str) -> set[str]:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    return set(re.findall(r"^  (--[a-z-]+)", shown.output, re.MULTILINE)) - {"--help"}


@pytest.mark.parametrize("line", COMMANDS)
def test_each_example_is_a_command_with_options_that_exist(line: str) -> None:
    words = shlex.split(line.rpartition("| unimsg")[2] if "| unimsg" in line else line.removeprefix("unimsg"))
    name = " ".join(words[:2]) if words[0] == "dead" else words[0]
    assert name in NAMES
    assert {word for word in words if word.startswith("--")} <= options_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_an_example_and_each_option_is_on_the_page(name: str) -> None:
    assert any(f"unimsg {name}" in line for line in COMMANDS)
    page = open_page() + (ROOT / "docs/asyncapi.md").read_text(encoding="utf-8")
    assert [option for option in options_of(name) if option not in page] == []


def test_the_fields_of_where_are_named() -> None:
    assert [field for field in FIELDS if f"`{field}`" not in open_page()] == []


def open_page() -> str:
    return (ROOT / PAGE).read_text(encoding="utf-8")
