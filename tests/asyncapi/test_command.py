"""`unimsg asyncapi`: what it writes, and how it ends."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import sample_shop as shop
import typer
from official import problems, validator
from typer.testing import CliRunner, Result

import unimsg
from unimsg.asyncapi import document, read, to_json, to_yaml
from unimsg.cli import apps
from unimsg.cli.asyncapi import command
from unimsg.config import Settings
from unimsg.errors import ConfigurationError

app = typer.Typer()
app.command()(command)
MADE = document(*shop.SERVICES, settings=Settings(url="memory://"))


@pytest.fixture(autouse=True)
def loaded(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, list[unimsg.Service[Any]]] = {
        "shop:orders": [shop.orders],
        "shop:billing": [shop.billing],
        "shop:SERVICES": [*shop.SERVICES],
    }
    monkeypatch.setattr(apps, "load", known.__getitem__)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def written(tmp_path: Path, made: dict[str, Any], write: Any = to_yaml) -> str:
    file = tmp_path / "old"
    file.write_text(write(made), encoding="utf-8")
    return str(file)


def test_yaml_is_the_default() -> None:
    for arguments in ([], ["--yaml"]):
        result = run("shop:SERVICES", *arguments)
        assert result.exit_code == 0
        assert result.stdout.startswith("asyncapi: 3.0.0\n")
        assert read(result.stdout) == MADE


def test_json() -> None:
    result = run("shop:SERVICES", "--json")
    assert json.loads(result.stdout) == MADE
    assert problems(validator(), json.loads(result.stdout)) == []


def test_html() -> None:
    assert run("shop:SERVICES", "--html").stdout.startswith("<!doctype html>\n<html")


def test_several_apps_make_one_document_and_each_service_counts_once() -> None:
    result = run("shop:orders", "shop:billing", "shop:SERVICES", "--json", "--title", "Shop", "--api-version", "2.0.0")
    info = json.loads(result.stdout)["info"]
    assert (info["title"], info["version"]) == ("Shop", "2.0.0")
    assert [each["name"] for each in info["tags"]] == ["orders", "billing"]


def test_the_broker_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMSG_URL", "kafka://k1")
    assert "kafka://" not in run("shop:orders").stdout
    assert json.loads(run("shop:orders", "--json").stdout)["servers"]["default"]["protocol"] == "kafka"
    url = "amqp://maria:hunter2@rabbit.test"
    result = run("shop:orders", "--json", "--url", url)
    assert json.loads(result.stdout)["servers"]["default"]["host"] == "rabbit.test:5672"
    assert "hunter2" not in result.stdout


@pytest.mark.parametrize("write", [to_yaml, to_json], ids=["yaml", "json"])
def test_nothing_changed(tmp_path: Path, write: Any) -> None:
    result = run("shop:SERVICES", "--diff", written(tmp_path, MADE, write))
    assert (result.exit_code, result.stdout) == (0, "nothing changed\n")


def test_a_compatible_change_ends_well(tmp_path: Path) -> None:
    old = copy.deepcopy(MADE)
    del old["components"]["schemas"]["Item-Input"]["properties"]["count"]
    result = run("shop:SERVICES", "--diff", written(tmp_path, old))
    assert result.exit_code == 0, result.stdout
    assert "ok        orders.place items[].count: the field is new, and optional\n" in result.stdout
    assert result.stdout.endswith("0 breaking, 2 compatible\n")


def test_a_breaking_change_ends_with_1(tmp_path: Path) -> None:
    old = copy.deepcopy(MADE)
    old["components"]["schemas"]["Item-Input"]["required"] = []
    result = run("shop:SERVICES", "--diff", written(tmp_path, old))
    assert result.exit_code == 1
    assert (
        result.stdout.splitlines()[0] == "BREAKING  orders.place items[].dish: the field was optional, and is required"
    )


def test_changes_as_json(tmp_path: Path) -> None:
    old = copy.deepcopy(MADE)
    old["components"]["schemas"]["Item-Input"]["required"] = []
    result = run("shop:SERVICES", "--json", "--diff", written(tmp_path, old))
    assert result.exit_code == 1
    first = json.loads(result.stdout.splitlines()[0])
    assert first == {
        "breaking": True,
        "where": "orders.place items[].dish",
        "text": "the field was optional, and is required",
    }


def test_what_others_wrote_cannot_move_the_cursor(tmp_path: Path) -> None:
    old = copy.deepcopy(MADE)
    old["channels"]["orders.place"]["x-unimsg"]["key"] = "\x1b[2Jgone\n"
    result = run("shop:SERVICES", "--diff", written(tmp_path, old, to_json))
    assert "\x1b" not in result.stdout
    assert "the key changed from \\x1b[2Jgone\\n to customer" in result.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[", "neither JSON nor YAML"),
        (b"openapi: 3.0.0", "no AsyncAPI 3 document"),
    ],
    ids=["missing", "binary", "malformed", "other"],
)
def test_an_old_document_that_is_none(tmp_path: Path, text: bytes | None, says: str) -> None:
    file = tmp_path / "old.yaml"
    if text is not None:
        file.write_bytes(text)
    result = run("shop:SERVICES", "--diff", str(file))
    assert isinstance(result.exception, ConfigurationError)
    assert says in str(result.exception)
    assert "old.yaml" in str(result.exception)


@pytest.mark.parametrize("both", [["--json", "--html"], ["--yaml", "--json"], ["--html", "--diff", "x"]], ids=str)
def test_formats_exclude_each_other(both: list[str]) -> None:
    assert isinstance(run("shop:SERVICES", *both).exception, ConfigurationError)


def test_without_pyyaml_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    for arguments in ([], ["--diff", written(tmp_path, MADE, lambda made: "asyncapi: 3.0.0")]):
        with pytest.raises(ConfigurationError, match=r"pip install 'unimsg\[cli\]'"):
            raise run("shop:SERVICES", *arguments).exception or AssertionError("it ended well")
    assert run("shop:SERVICES", "--json").exit_code == 0


def test_channels_that_handlers_use_and_nobody_declares_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    service = unimsg.Service("some")

    @service.handler(shop.lines)
    async def handle(line: str, context: unimsg.Context) -> None:
        await context.publish(shop.placed, shop.Placed(1, line))

    monkeypatch.setattr(apps, "load", lambda spec: [service])
    result = run("some:service", "--json")
    assert result.stderr == "some: its handlers use orders.placed: if they send to it, add it to sends=\n"
    assert json.loads(result.stdout)
    assert run("some:service", "--json").exit_code == 0
