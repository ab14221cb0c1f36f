"""What docs/asyncapi.md shows is so."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import blocks

from unimsg.asyncapi import diff, document, to_html
from unimsg.asyncapi._undeclared import undeclared
from unimsg.config import Settings


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (block,) = blocks("docs/asyncapi.md", "python")
    (tmp_path / "documented.py").write_text(block.text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "documented", raising=False)
    spec = importlib.util.find_spec("documented")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "documented", module)
    spec.loader.exec_module(module)
    return module.service


def test_its_service_has_a_document(service: Any) -> None:
    made = document(service, settings=Settings(url="memory://"))
    assert list(made["operations"]) == ["orders.receive.orders.place", "orders.send.orders.placed"]
    assert made["channels"]["orders.place"]["x-unimsg"]["key"] == "customer"
    assert made["operations"]["orders.receive.orders.place"]["summary"] == "Takes an order."
    assert "Takes an order." in to_html(made)
    assert undeclared(service) == []


def test_its_changes_are_told_as_it_says(service: Any) -> None:
    new = document(service, settings=Settings(url="memory://"))
    old = document(service, settings=Settings(url="memory://"))
    order = old["components"]["schemas"]["Order"]
    del order["properties"]["customer"]
    order["required"].remove("customer")
    old["channels"]["orders.placed"]["x-unimsg"]["ordered"] = True
    del old["channels"]["orders.place"]["x-unimsg"]["ttl"]
    new["components"]["schemas"]["Order"]["properties"]["note"] = {"type": "string"}
    new["channels"]["orders.place"]["x-unimsg"].pop("ttl")
    shown = [
        f"{'BREAKING' if change.breaking else 'ok':<8}  {change.where}: {change.text}" for change in diff(old, new)
    ]
    page = Path(__file__).parents[2] / "docs" / "asyncapi.md"
    text = page.read_text(encoding="utf-8")
    assert [line for line in shown if line not in text] == []
    assert len(shown) == 3
