"""Who may import whom: the house stands on this."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import unimsg

ROOT = Path(__file__).parent.parent
CORE = ROOT / "unimsg"
ADAPTERS = ["unimsg_rabbitmq", "unimsg_kafka", "unimsg_pubsub"]
CLIENTS = ["aio_pika", "aiormq", "pamqp", "aiokafka", "google", "grpc"]
FORMATS = {"google.protobuf": "_protobuf", "fastavro": "_avro", "lxml": "_xml", "pydantic_xml": "_xml"}
"""The libraries of the optional codecs, each imported by the one module of its codec."""
FOR_ADAPTERS = {
    "adapter",
    "operations",
    "errors",
    "options",
    "mailbox",
    "backoff",
    "keys",
    "network",
    "surprises",
}


class Import(NamedTuple):
    """`name` is dotted and absolute; of `from a import b` it is a.b."""

    name: str
    for_types_only: bool
    where: str


def imports_of(folder: Path) -> list[Import]:
    return [found for file in sorted(folder.rglob("*.py")) for found in imports_in(file)]


def imports_in(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, id(node) in guarded, where)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: a relative import"
            for alias in node.names:
                yield Import(f"{node.module}.{alias.name}", id(node) in guarded, where)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_the_core_imports_no_adapter_no_contracts_and_no_client() -> None:
    forbidden = [*ADAPTERS, "unimsg_contracts", *CLIENTS]
    wrong = [
        found
        for found in imports_of(CORE)
        if any(is_within(found.name, name) for name in forbidden) and not is_within(found.name, "google.protobuf")
    ]
    assert wrong == []


@pytest.mark.parametrize("library", FORMATS)
def test_only_its_codec_imports_the_library_of_a_format(library: str) -> None:
    importers = {found.where.partition(":")[0] for found in imports_of(CORE) if is_within(found.name, library)}
    assert importers == {f"unimsg/{FORMATS[library]}.py"}


@pytest.mark.parametrize("package", ADAPTERS)
def test_an_adapter_imports_of_unimsg_only_the_port_and_its_helpers(package: str) -> None:
    wrong = []
    for found in imports_of(ROOT / "adapters" / package):
        if is_within(found.name, "unimsg"):
            module = f"{found.name}.".split(".")[1]
            allowed = module in FOR_ADAPTERS or (found.name == "unimsg.Message" and found.for_types_only)
            if not allowed:
                wrong.append(found)
    assert wrong == [], f"allowed are {sorted(FOR_ADAPTERS)}, and unimsg.Message for types"


@pytest.mark.parametrize("package", ADAPTERS)
def test_an_adapter_knows_no_other_adapter_and_no_contracts(package: str) -> None:
    others = [*(name for name in ADAPTERS if name != package), "unimsg_contracts"]
    wrong = [found for found in imports_of(ROOT / "adapters" / package) if found.name.split(".")[0] in others]
    assert wrong == []


def test_the_contracts_import_public_names_and_the_port_only() -> None:
    """What a third party could import. Only the mutants, which break the library on purpose, reach into it."""
    modules = {
        *("adapter", "errors", "options", "memory", "mailbox", "backoff", "keys", "registry", "codecs", "config"),
        "cli",
    }
    wrong = []
    for found in imports_of(ROOT / "contracts" / "unimsg_contracts"):
        parts = found.name.split(".")
        if parts[0] != "unimsg" or len(parts) == 1 or "/mutants/" in found.where:
            continue
        public = parts[1] in unimsg.__all__ or parts[1] in modules
        if not public or any(part.startswith("_") for part in parts[1:]):
            wrong.append(found)
    assert wrong == []


def test_only_the_modules_that_adapters_share_are_what_the_port_needs() -> None:
    """The port and its helpers import nothing of the core behind them, so that an adapter never pulls it in."""
    allowed = FOR_ADAPTERS | {"_suggestion"}
    wrong = [
        found
        for module in FOR_ADAPTERS
        for found in imports_in(CORE / f"{module}.py")
        if is_within(found.name, "unimsg") and found.name.split(".")[1] not in allowed
    ]
    assert wrong == []


def test_nothing_in_the_library_can_run_code_from_a_message() -> None:
    """No pickle, marshal, yaml, eval, exec, and no import by a name from the wire. AsyncAPI documents may be YAML: one
    file reads it, and nothing but data."""
    modules = {"pickle", "marshal", "shelve", "yaml", "jsonpickle", "dill"}
    wrong: list[str] = []
    for folder in [CORE, ROOT / "adapters"]:
        wrong += [
            found.where
            for found in imports_of(folder)
            if found.name.split(".")[0] in modules
            and not (found.name == "yaml" and found.where.startswith("unimsg/asyncapi/_text.py:"))
        ]
        for file in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                    *("eval", "exec", "compile", "__import__", "import_module", "importlib.import_module"),
                }:
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    # The application that an operator names on the command line.
    assert [each.partition(":")[0] for each in wrong] == ["unimsg/cli/apps.py"]


# -- what an import costs


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`."""
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_unimsg_loads_no_client_and_no_slow_package() -> None:
    slow = [
        *CLIENTS,
        *ADAPTERS,
        "fastavro",
        "lxml",
        "pydantic_xml",
        "pydantic_settings",
        "typer",
        "rich",
        "unimsg_contracts",
        "pytest",
        "testcontainers",
    ]
    loaded = loaded_after("import unimsg")
    assert sorted(name for name in loaded if name.split(".")[0] in slow or is_within(name, "unimsg.cli")) == []


def test_a_json_channel_and_the_settings_load_no_client_and_no_other_codec() -> None:
    loaded = loaded_after("import unimsg; unimsg.Queue('orders.place', list[int]); unimsg.Settings(url='memory://')")
    unwanted = [*CLIENTS, *ADAPTERS, "fastavro", "lxml", "pydantic_xml"]
    assert sorted(name for name in loaded if name.split(".")[0] in unwanted) == []


def test_a_program_in_memory_loads_no_client() -> None:
    loaded = loaded_after(
        "import asyncio, unimsg\n"
        "async def main():\n"
        "    async with unimsg.connect(url='memory://') as bus:\n"
        "        await bus.send(unimsg.Queue('orders.place', list[int]), [1])\n"
        "asyncio.run(main())"
    )
    assert sorted(name for name in loaded if name.split(".")[0] in CLIENTS + ADAPTERS) == []


def test_importing_unimsg_loads_nothing_of_the_document_and_the_command_line() -> None:
    loaded = loaded_after("import unimsg; unimsg.Settings(url='memory://')")
    unwanted = ("unimsg.asyncapi", "unimsg.cli", "yaml", "typer", "rich")
    assert sorted(name for name in loaded if any(is_within(name, each) for each in unwanted)) == []


def test_yaml_is_read_as_data_only() -> None:
    source = (CORE / "asyncapi" / "_text.py").read_text(encoding="utf-8")
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    assert {call for call in calls if call.startswith("yaml.")} == {"yaml.dump", "yaml.safe_load"}


def test_the_package_is_marked_as_typed() -> None:
    assert (CORE / "py.typed").exists()


def test_each_scheme_has_one_entry_point_and_its_module_exists() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition('[project.entry-points."unimsg.adapters"]')[2].partition("\n[")[0]
    entries = dict(re.findall(r'^(\w+) = "([\w.:]+)"', table, re.MULTILINE))
    assert sorted(entries) == ["amqp", "amqps", "kafka", "kafkas", "memory", "pubsub"]
    for target in entries.values():
        path = target.partition(":")[0].replace(".", "/") + ".py"
        assert (ROOT / path).exists() or (ROOT / "adapters" / path).exists(), f"{target} is not there"
