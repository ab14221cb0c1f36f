"""`unimsg run`: services in this process, or in several that are looked after."""

from collections.abc import Sequence
from typing import Annotated

import typer

import unimsg
from unimsg.cli.apps import load_all
from unimsg.cli.logs import log_to_stderr
from unimsg.cli.options import Url, configured


def command(
    apps: Annotated[list[str], typer.Argument(metavar="APP...", show_default=False, help="module:service")],
    url: Url = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew when a source file changes.")] = False,
) -> None:
    """Runs services until SIGTERM or Ctrl-C, and drains: what runs ends within the services' grace, the rest goes back
    to the broker. A second signal ends it at once. Modules are looked for in the working directory, too.
    """
    if workers == 1 and not reload:
        serve(apps, url)
        return
    from unimsg.cli.workers import Supervisor  # not above: it takes a while to import

    log_to_stderr()
    if not reload:  # said once, and not by each worker; those that reload wait for better sources
        load_all(apps)
        configured(url)
    if code := Supervisor(apps, url, workers, reload=reload).run():
        raise typer.Exit(code)


def serve(apps: Sequence[str], url: str | None) -> None:
    """Returns when a signal came and all is drained.

    Raises:
        ConfigurationError: wrong, or nothing is configured.
        ConnectError, PermissionDenied: as `unimsg.connect`.
    """
    services = load_all(apps)
    settings = configured(url)
    log_to_stderr()
    unimsg.run(*services, settings=settings)
