"""`unimsg dead`: looking at dead letters, putting them back, and throwing them away."""

import sys
from typing import Annotated

import typer

from unimsg import DeadLetter, Settings, connect
from unimsg.cli.ending import FAILED, guarded, until_done
from unimsg.cli.graves import Filter, fitting, grave, letter_as_dict, letter_in_a_line, why
from unimsg.cli.options import Json, Name, Url, for_operators
from unimsg.cli.output import printable, progress, say, show, show_json
from unimsg.errors import ConfigurationError

Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="FIELD=VALUE", help="Only such letters: error_type=TimeoutError, key=order-*."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="So many at most.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]

app = typer.Typer(
    help="Dead letters of a queue, or of a TOPIC/SUBSCRIPTION.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
@guarded
def list_command(name: Name, where: Where = None, limit: Limit = None, url: Url = None, as_json: Json = False) -> None:
    """Shows dead letters, one a line, the oldest first as far as the broker has an order."""
    letters = until_done(found(for_operators(url), name, fitting(where), limit))
    for letter in letters:
        _show(letter, as_json=as_json)
    if not letters:
        say(f"{name} has no such dead letters" if where else f"{name} has no dead letters")


@app.command("show")
@guarded
def show_command(
    name: Name,
    id: Annotated[str, typer.Argument(show_default=False, help="Of the message, as `dead list` shows it.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Shows one dead letter with all that is known of it, its headers and its body."""
    letters = until_done(found(for_operators(url), name, lambda letter: letter.message.id == id, None))
    if not letters:
        say(f"unimsg: {name} has no dead letter {printable(id)}")
        raise typer.Exit(FAILED)
    for letter in letters:
        show_json(letter_as_dict(letter)) if as_json else _show_all(letter)


@app.command("redrive")
@guarded
def redrive_command(
    name: Name,
    where: Where = None,
    limit: Limit = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="So many a second at most.")] = None,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Puts dead letters back to where they came from, as if they were sent anew. Each is confirmed there before it is
    removed: interrupted, none is lost, and some may be in both.
    """
    settings, wanted = for_operators(url), fitting(where)
    if dry_run:
        _would(until_done(found(settings, name, wanted, limit)), "put back", as_json=as_json)
        return
    with progress(f"putting back dead letters of {name}"):
        count = until_done(redrive(settings, name, wanted, limit, rate))
    show_json({"redriven": count}) if as_json else show(f"{_letters(count)} put back")


@app.command("drop")
@guarded
def drop_command(
    name: Name,
    where: Where = None,
    limit: Limit = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Removes dead letters for good, after asking: exactly those that were there when it asked."""
    settings, wanted = for_operators(url), fitting(where)
    letters = until_done(found(settings, name, wanted, limit))
    if dry_run:
        _would(letters, "drop", as_json=as_json)
        return
    if letters and not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"{_letters(len(letters))} would be dropped for good: say --yes")
        typer.confirm(f"drop {_letters(len(letters))} of {name} for good?", abort=True, err=True)
    ids = {letter.message.id for letter in letters}
    with progress(f"dropping dead letters of {name}"):
        count = until_done(drop(settings, name, lambda letter: letter.message.id in ids)) if ids else 0
    show_json({"dropped": count}) if as_json else show(f"{_letters(count)} dropped")


async def found(settings: Settings, name: str, wanted: Filter, limit: int | None) -> list[DeadLetter]:
    """The dead letters that are wanted, `limit` at most."""
    async with connect(settings=settings) as bus:
        channel, subscription = await grave(bus, name)
        letters: list[DeadLetter] = []
        async for letter in bus.dead_letters(channel, subscription):
            if wanted(letter):
                letters.append(letter)
            if len(letters) == limit:
                break
        return letters


async def redrive(settings: Settings, name: str, wanted: Filter, limit: int | None, rate: float | None) -> int:
    """Puts them back; how many."""
    async with connect(settings=settings) as bus:
        channel, subscription = await grave(bus, name)
        return await bus.redrive(channel, subscription, where=wanted, limit=limit, rate=rate)


async def drop(settings: Settings, name: str, wanted: Filter) -> int:
    """Removes them; how many."""
    async with connect(settings=settings) as bus:
        channel, subscription = await grave(bus, name)
        return await bus.drop_dead_letters(channel, subscription, where=wanted)


def _show(letter: DeadLetter, *, as_json: bool) -> None:
    show_json(letter_as_dict(letter)) if as_json else show(letter_in_a_line(letter))


def _show_all(letter: DeadLetter) -> None:
    message = letter.message
    rows = {
        "id": message.id,
        "why": why(letter),
        "origin": letter.origin,
        "handler": letter.handler,
        "first failed": f"{letter.first_failed:%Y-%m-%d %H:%M:%S %Z}",
        "last failed": f"{letter.last_failed:%Y-%m-%d %H:%M:%S %Z}",
        "type": message.type,
        "source": message.source,
        "sent": f"{message.time:%Y-%m-%d %H:%M:%S %Z}",
        "key": message.key or "",
        "content type": message.content_type,
        **{f"header {name}": value for name, value in message.headers.items()},
    }
    for what, text in rows.items():
        if text:
            show(f"{what:13} {printable(text)}")
    show("")
    show(_body(message.body))


def _body(body: bytes) -> str:
    """As text, its line ends kept; for other bytes there is `--json`."""
    try:
        return "\n".join(printable(line) for line in body.decode().splitlines())
    except UnicodeDecodeError:
        return f"<{len(body)} bytes: --json shows them in Base64>"


def _would(letters: list[DeadLetter], what: str, *, as_json: bool) -> None:
    for letter in letters:
        _show(letter, as_json=as_json)
    say(f"would {what} {_letters(len(letters))}")


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
