"""Documents as text, and back."""

import json
from typing import Any

from unimsg.errors import ConfigurationError

Json = dict[str, Any]


def to_json(document: Json) -> str:
    """The document as JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: Json) -> str:
    """The document as YAML. Raises ConfigurationError: PyYAML is not installed."""
    yaml = _yaml()

    class Dumper(yaml.SafeDumper):  # type: ignore[misc, name-defined]  # a module that is imported when it is asked for
        def ignore_aliases(self, data: object) -> bool:
            return True  # the same schema twice is written twice: few readers expect anchors

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))


def read(text: str) -> Json:
    """The document in a text, JSON or YAML.

    Raises:
        ConfigurationError: it is no AsyncAPI 3 document; PyYAML is not installed, and it is YAML.
    """
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else _from_yaml(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"this is neither JSON nor YAML: {error}") from None
    if not isinstance(found, dict) or not str(found.get("asyncapi", "")).startswith("3."):
        raise ConfigurationError("this is no AsyncAPI 3 document: it has no line asyncapi: 3.0.0")
    return found


def _from_yaml(text: str) -> Any:
    yaml = _yaml()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _yaml() -> Any:  # the module
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError("YAML needs PyYAML, which is not installed: pip install 'unimsg[cli]'") from error
    return yaml
