"""Services named on the command line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import write

from unimsg.cli.apps import load, load_all
from unimsg.errors import ConfigurationError


@pytest.fixture(autouse=True)
def folder(elsewhere: Path) -> Iterator[Path]:
    """One with an application, whose modules are forgotten afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    write(elsewhere)
    yield elsewhere
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_service_of_the_working_directory() -> None:
    (service,) = load("shopapp:service")
    assert service.name == "shop"
    assert load("shopapp:service") == [service], "loaded once"


def test_a_list_of_services_and_each_once() -> None:
    assert [service.name for service in load("shopapp:both")] == ["shop", "other"]
    assert [service.name for service in load_all(["shopapp:both", "shopapp:service"])] == ["shop", "other"]
    assert load_all(None) == []


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("shopapp", "module:name"),
        ("shopapp:", "module:name"),
        (":service", "module:name"),
        ("nowhere:service", "no module nowhere in "),
        ("shopapp.deeper:service", "no module shopapp.deeper"),
        ("shopapp:servise", "module shopapp has no servise; it has service"),
        ("shopapp:not_one", "is a int, not a unimsg.Service"),
        ("shopapp:both.first", "has no both.first"),
    ],
)
def test_what_is_no_service_is_told(spec: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        load(spec)
    assert str(caught.value).startswith(spec)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_package", "needs no_such_package, which is not installed"),
        ("1 +", "line 1: invalid syntax"),
        ("1 / 0", "importing broken failed: ZeroDivisionError: division by zero"),
        ("import unimsg; unimsg.Queue('Bad name', str)", "channel name 'Bad name'"),
    ],
)
def test_a_module_that_fails_is_told(folder: Path, source: str, text: str) -> None:
    write(folder, source, "broken")
    with pytest.raises(ConfigurationError, match=text):
        load("broken:service")
