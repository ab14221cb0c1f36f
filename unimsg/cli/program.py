"""All commands, and what becomes of their errors."""

from typing import Annotated

import typer

from unimsg.cli import asyncapi, dead, doctor, run, send, tail
from unimsg.cli.ending import guarded, show_tracebacks
from unimsg.cli.output import show
from unimsg.cli.versions import unimsg_version

app = typer.Typer(
    help="Messages on RabbitMQ, Kafka and Google Pub/Sub: running services, and looking after them.",
    epilog="Exit codes: 0 done; 1 it failed, or there are findings; 2 wrong usage or configuration, nothing was done.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show the values of variables, passwords included
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        show(unimsg_version())
        raise typer.Exit


@app.callback()
def every_command(
    debug: Annotated[bool, typer.Option("--debug", envvar="UNIMSG_DEBUG", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """What holds for all of them."""
    show_tracebacks(debug)


app.command("run")(guarded(run.command))
app.command("send")(guarded(send.command))
app.command("tail")(guarded(tail.command))
app.add_typer(dead.app, name="dead")
app.command("doctor")(guarded(doctor.command))
app.command("asyncapi")(guarded(asyncapi.command))
