"""Fixtures of the tests that need no broker."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from policies import Held, wrong

from unimsg import registry
from unimsg.adapter import Adapter


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, without configuration in file or environment."""
    monkeypatch.chdir(tmp_path)
    for variable in os.environ:
        if variable.startswith("UNIMSG_"):
            monkeypatch.delenv(variable)
    return tmp_path


@pytest.fixture
def serve() -> Iterator[Callable[[str, type[Adapter]], str]]:
    """Makes URLs of a scheme use an adapter for the length of one test; returns such a URL."""
    schemes: list[str] = []

    def register(scheme: str, adapter: type[Adapter]) -> str:
        registry.register(scheme, adapter)
        schemes.append(scheme)
        return f"{scheme}://"

    yield register
    for scheme in schemes:
        registry.register(scheme, None)


@pytest.fixture(autouse=True)
def kept_its_half() -> Iterator[None]:
    """Of the port: no test ends well in which the core did not, as far as anybody watched."""
    wrong.clear()
    yield
    assert wrong == []


@pytest.fixture(params=["native", "held"])
def either(request: pytest.FixtureRequest, serve: Callable[[str, type[Adapter]], str]) -> str:
    """The URL of a broker in memory: one that delays by itself, and one for which the core holds what waits."""
    return "memory://" if request.param == "native" else serve("held", Held)
