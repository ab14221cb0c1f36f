"""AsyncAPI's own JSON schema, which the npm package @asyncapi/specs has. It is not ours to keep here."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

VARIABLE = "UNIMSG_ASYNCAPI_SCHEMA"
NAMED = os.environ.get(VARIABLE)
"""Read once: some tests clear the environment."""
INSTALLED = Path(".asyncapi/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json")


def validator() -> Draft7Validator:
    """Skips the test where the schema is not installed; where the variable promises it, that is an error."""
    path = Path(NAMED) if NAMED else Path(__file__).parents[2] / INSTALLED
    if not NAMED and not path.exists():
        pytest.skip(f"AsyncAPI's schema is not here: npm install --no-save @asyncapi/specs, or name it in {VARIABLE}")
    schema: Any = json.loads(path.read_text(encoding="utf-8"))
    return Draft7Validator(schema)


def problems(check: Draft7Validator, document: dict[str, Any]) -> list[str]:
    return [f"{list(error.absolute_path)}: {error.message[:200]}" for error in check.iter_errors(document)]
