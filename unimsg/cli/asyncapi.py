"""`unimsg asyncapi`: the AsyncAPI document of services, and what changed in it."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unimsg.asyncapi import Change, diff, document, read, to_html, to_json, to_yaml
from unimsg.asyncapi._undeclared import undeclared
from unimsg.cli import apps
from unimsg.config import Settings
from unimsg.errors import ConfigurationError

BREAKING = 1
"""The exit code where somebody else's program would break."""


def command(
    app: Annotated[
        list[str], typer.Argument(metavar="APP...", show_default=False, help="module:service, one or more.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON; with --diff the changes.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="As YAML, which is the default.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="As a page to read, in one file.")] = False,
    old: Annotated[
        Path | None,
        typer.Option("--diff", metavar="OLD", show_default=False, help="An earlier document: show what changed since."),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="The default broker, instead of the configured one.")] = None,
    title: Annotated[str | None, typer.Option(help="Of the API; by default the services' names.")] = None,
    api_version: Annotated[str, typer.Option(help="Of the API.")] = "0.0.0",
) -> None:
    """Shows the AsyncAPI 3 document of services, made from their code: YAML, JSON or a page. With --diff it shows the
    changes since an earlier document instead, and ends with 1 if one of them breaks the programs of others.
    """
    if sum((as_json, as_yaml, as_html)) > 1 or (old is not None and (as_yaml or as_html)):
        raise ConfigurationError("--json, --yaml and --html: give one of them; with --diff none but --json")
    services = _services(app)
    for service in services:
        for channel in undeclared(service):
            sys.stderr.write(f"{service.name}: its handlers use {channel}: if they send to it, add it to sends=\n")
    made = document(*services, settings=_settings(url), title=title, version=api_version)
    if old is None:
        write: Callable[[dict[str, Any]], str] = to_json if as_json else to_html if as_html else to_yaml
        sys.stdout.write(write(made))
        return
    changes = diff(_document_in(old), made)
    sys.stdout.write(_as_json(changes) if as_json else _as_text(changes))
    if any(change.breaking for change in changes):
        raise typer.Exit(BREAKING)


def _services(specs: Sequence[str]) -> list[Any]:
    found: dict[int, Any] = {}
    for spec in specs:
        found.update((id(service), service) for service in apps.load(spec))
    return list(found.values())


def _settings(url: str | None) -> Settings:
    settings = Settings.load()
    return settings if url is None else settings.with_url(url)


def _document_in(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8 text") from None
    try:
        return read(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _as_json(changes: Sequence[Change]) -> str:
    return "".join(json.dumps(dataclasses.asdict(change), ensure_ascii=False) + "\n" for change in changes)


def _as_text(changes: Sequence[Change]) -> str:
    if not changes:
        return "nothing changed\n"
    breaking = sum(change.breaking for change in changes)
    lines = [
        f"{'BREAKING' if each.breaking else 'ok':<8}  {_printable(each.where)}: {_printable(each.text)}"
        for each in changes
    ]
    return "\n".join([*lines, f"{breaking} breaking, {len(changes) - breaking} compatible"]) + "\n"


def _printable(text: str) -> str:
    """Without what would move the cursor of a terminal: the earlier document may be anybody's."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
