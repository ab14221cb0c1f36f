"""What README and the pages in docs/ show works: programs run, settings load, commands and links name what exists."""

import importlib.util
import os
import re
import ssl
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import ROOT, Block, blocks
from pydantic import BaseModel
from unimsg_contracts.brokers import KNOWN

from unimsg.config import BrokerSettings, ChannelSettings, HandlerSettings, Settings
from unimsg.options import BrokerOptions, Tls
from unimsg.registry import adapter_for

README = "README.md"
PAGES = [README, *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
TOML = [block for page in PAGES for block in blocks(page, "toml")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def commands() -> list[str]:
    """Every command in README: the lines of its shell blocks, and the right column of "Contributing"."""
    lines = [line for block in blocks(README, "sh") for line in block.text.splitlines() if line]
    contributing = (ROOT / README).read_text().partition("## Contributing")[2]
    lines += re.findall(r"^\| .+ \| `(.+)` \|$", contributing, re.MULTILINE)
    return [part for line in lines for part in line.split(" && ")]


def test_its_program_runs_and_prints(tmp_path: Path) -> None:
    (block,) = blocks(README, "python")
    (tmp_path / "program.py").write_text(block.text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIMSG_")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("number=1\n", "", 0)


@pytest.mark.parametrize("block", TOML, ids=str)
def test_settings_load_with_brokers_and_options_that_exist(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = with_files(block.text, tmp_path)
    for variable in re.findall(r'_env = "(\w+)"', text):
        monkeypatch.setenv(variable, "secret")
    for variable in [name for name in os.environ if name.startswith("UNIMSG_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "unimsg.toml").write_text(text)
    settings = Settings.load(tmp_path / "unimsg.toml")
    adapters = {name: adapter_for(name, broker) for name, broker in settings.brokers.items()}
    options = {adapter.broker: adapter.options_type for adapter in adapters.values()}
    for pattern, channel in settings.channels.items():
        assert channel.broker in (None, *settings.brokers), pattern
        for broker, table in (channel.model_extra or {}).items():
            options[broker].model_validate(table)


def with_files(text: str, folder: Path) -> str:
    """`text` with each absolute path in it made one of a file that exists."""
    authorities = Path(ssl.get_default_verify_paths().cafile or importlib.import_module("certifi").where())

    def made(path: re.Match[str]) -> str:
        file = folder / Path(path[1]).name
        file.write_bytes(authorities.read_bytes() if file.suffix == ".pem" else b"secret\n")
        return f'"{file}"'

    return re.sub(r'"(/[^"]+)"', made, text)


def test_commands_name_modules_that_exist() -> None:
    modules = {name for command in commands() for name in re.findall(r"python -m (\S+)", command)}
    assert modules >= {"examples.food_delivery"}
    for name in modules:
        assert importlib.util.find_spec(name), name
        assert importlib.util.find_spec(f"{name}.__main__"), name


def test_commands_name_tools_that_the_development_set_up_installs() -> None:
    development = [re.split(r"[\[>=]", name)[0] for name in PROJECT["project"]["optional-dependencies"]["dev"]]
    development += [re.split(r"[\[>=]", name)[0] for name in PROJECT["project"]["optional-dependencies"]["contracts"]]
    tools = {name for command in commands() for name in re.findall(r"uv run (\S+)", command)}
    assert tools - {"python"} <= set(development)


def test_commands_name_extras_that_exist() -> None:
    extras = PROJECT["project"]["optional-dependencies"].keys()
    named = re.findall(r"(?:unimsg|'\.)\[(\w+)\]", (ROOT / README).read_text())
    assert set(named) >= {"dev", "rabbitmq", "kafka", "pubsub"}
    assert set(named) <= extras


def test_commands_name_options_and_brokers_that_exist(pytestconfig: pytest.Config) -> None:
    for command in commands():
        if "pytest" in command:
            for option in re.findall(r"--([\w-]+)", command):
                pytestconfig.getoption(option.replace("-", "_"))
            assert set(re.findall(r"--broker (\w+)", command)) <= KNOWN.keys()


def test_commands_name_files_that_exist() -> None:
    for command in commands():
        for name in re.findall(r"(?:^|pytest )(\.?[a-z]+(?:/\w+)?)(?= |$)", command):
            assert name in ("uv", "pip", "python", "pytest", "docker") or (ROOT / name).exists(), name


def test_urls_have_a_broker() -> None:
    urls = re.findall(r"UNIMSG_URL=([^\s`…]+)", (ROOT / README).read_text())
    schemes = {entry.name for entry in entry_points(group="unimsg.adapters")}
    assert {urlsplit(url).scheme for url in urls} == {"amqp", "kafka", "pubsub"} <= schemes
    ports = re.findall(r'"127\.0\.0\.1:(\d+):', (ROOT / "compose.yaml").read_text())
    assert {str(urlsplit(url).port) for url in urls if urlsplit(url).port} <= set(ports)


@pytest.mark.parametrize("page", PAGES)
def test_no_merge_is_half_done(page: str) -> None:
    assert re.findall(r"^(?:<{7}|>{7}) .*$", (ROOT / page).read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        if not urlsplit(target).scheme:
            assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("model", [Settings, BrokerSettings, BrokerOptions, Tls, ChannelSettings, HandlerSettings])
def test_the_configuration_page_names_every_key(model: type[BaseModel]) -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    assert [name for name in model.model_fields if not re.search(rf"\b{name}\b", page)] == []


def test_the_configuration_page_names_every_variable() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    named = {variable.partition("__")[0] for variable in re.findall(r"`(UNIMSG_[A-Z_]+)", page)}
    assert named == {f"UNIMSG_{name.upper()}" for name in Settings.model_fields} | {"UNIMSG_CONFIG"}


def test_no_lock_file_is_committed() -> None:
    assert "uv.lock" in (ROOT / ".gitignore").read_text().splitlines()
