"""`unimsg dead`: looking at dead letters, putting them back, and throwing them away."""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated

import typer

from unimsg import DeadLetter, Settings, connect
from unimsg.cli.ending import FAILED, guarded, until_done
from unimsg.cli.graves import Filter, fitting, graveyard, letter_as_dict, letter_in_a_line, why
from unimsg.cli.options import Json, Name, Url, for_operators
from unimsg.cli.output import body_as_text, printable, progress, say, show, show_json
from unimsg.errors import ConfigurationError

Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="FIELD=VALUE", help="Only such letters: error_type=TimeoutError, key=order-*."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="So many at most.")]
SHOWN = 1000
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]

app = typer.Typer(
    help="Dead letters of a queue, or of a TOPIC/SUBSCRIPTION.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
@guarded
def list_command(
    name: Name,
    where: Where = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many at most.")] = SHOWN,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Shows dead letters, one a line, the oldest first as far as the broker has an order."""
    letters = until_done(found(for_operators(url), name, fitting(where), limit + 1))
    for letter in letters[:limit]:
        _show(letter, as_json=as_json)
    if len(letters) > limit:
        say(f"{name} has more: --limit shows them")
    elif not letters:
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
    letters = until_done(found(for_operators(url), name, lambda letter: letter.message.id == id, 1))
    if not letters:
        say(f"unimsg: {name} has no dead letter {printable(id)}")
        raise typer.Exit(FAILED)
    show_json(letter_as_dict(letters[0])) if as_json else _show_all(letters[0])


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
        _would("redrive", until_done(ids_of(settings, name, wanted, limit)), as_json=as_json)
        return
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
    settings = for_operators(url)
    ids = until_done(ids_of(settings, name, fitting(where), limit))
    if dry_run:
        _would("drop", ids, as_json=as_json)
        return
    if ids and not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"{_letters(len(ids))} would be dropped for good: say --yes")
        typer.confirm(f"drop {_letters(len(ids))} of {name} for good?", abort=True, err=True)
    known = set(ids)
    count = until_done(drop(settings, name, lambda letter: letter.message.id in known)) if ids else 0
    show_json({"dropped": count}) if as_json else show(f"{_letters(count)} dropped")


async def found(settings: Settings, name: str, wanted: Filter, limit: int) -> list[DeadLetter]:
    """The dead letters that are wanted, `limit` at most."""
    return [letter async for letter in _matching(settings, name, wanted, limit)]


async def ids_of(settings: Settings, name: str, wanted: Filter, limit: int | None) -> list[str]:
    """The ids of all of them: there may be more letters than memory."""
    return [letter.message.id async for letter in _matching(settings, name, wanted, limit)]


async def _matching(
    settings: Settings, name: str, wanted: Filter, limit: int | None
) -> AsyncGenerator[DeadLetter, None]:
    async with connect(settings=settings) as bus, aclosing((await graveyard(bus, name)).all()) as letters:
        count = 0
        async for letter in letters:
            if wanted(letter):
                yield letter
                count += 1
            if count == limit:
                return


async def redrive(settings: Settings, name: str, wanted: Filter, limit: int | None, rate: float | None) -> int:
    """Puts them back; how many."""
    async with connect(settings=settings) as bus:
        graves = await graveyard(bus, name)
        with progress(lambda: f"{_letters(graves.moved)} of {name} put back"):
            return await graves.redrive(wanted, limit, rate)


async def drop(settings: Settings, name: str, wanted: Filter) -> int:
    """Removes them; how many."""
    async with connect(settings=settings) as bus:
        graves = await graveyard(bus, name)
        with progress(lambda: f"{_letters(graves.moved)} of {name} dropped"):
            return await graves.drop(wanted, None)


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
    show(body_as_text(message.body))


def _would(what: str, ids: Sequence[str], *, as_json: bool) -> None:
    """The ids on standard output, so that others can read them."""
    for id in ids:
        show_json({"id": id}) if as_json else show(printable(id))
    say(f"would {what} {_letters(len(ids))}")


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
