"""`unimsg doctor`: what is well, and what to do about the rest."""

from collections.abc import Sequence

import typer

from unimsg import Settings
from unimsg._brokers import Brokers
from unimsg._routes import Routes
from unimsg.cli.apps import load_all
from unimsg.cli.channel_checks import Use, channel_checks
from unimsg.cli.channels import channels_of
from unimsg.cli.checks import TIMEOUT, Check, broker_checks, installation, sources
from unimsg.cli.ending import FAILED, until_done
from unimsg.cli.options import App, Json, Url, configured
from unimsg.cli.output import printable, show, show_json
from unimsg.errors import ConfigurationError

MARKS = {"ok": "ok     ", "problem": "PROBLEM", "unknown": "?      "}


def command(app: App = None, url: Url = None, as_json: Json = False) -> None:
    """Looks at configuration, brokers, versions and clocks; with --app also whether the application's channels are as
    declared, and what this user may do with them. It changes nothing. Each line is well, a PROBLEM with what to do, or
    cannot be told (?). Ends with 1 if there is a problem.
    """
    checks = [installation()]
    try:
        settings = configured(url)
        checks.append(sources(url))
        checks += until_done(examine(settings, app or ()))
    except ConfigurationError as error:
        checks.append(Check("configuration", "problem", str(error)))
    for check in checks:
        if as_json:
            show_json({"what": check.what, "state": check.state, "text": check.text})
        else:
            show(f"{MARKS[check.state]} {check.what}: {printable(check.text)}")
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(FAILED)


async def examine(settings: Settings, apps: Sequence[str]) -> list[Check]:
    """Of all brokers, and of the applications' channels.

    Raises:
        ConfigurationError: an application cannot be loaded, or declares what cannot be.
    """
    brokers = Brokers(settings)
    try:
        checks: list[Check] = []
        uses = _uses(Routes(settings, brokers), apps) if apps else []
        broken: set[str] = set()
        for name in settings.brokers:
            found = [check async for check in broker_checks(brokers, settings, name)]
            if any(check.state == "problem" for check in found):
                broken.add(name)
            checks += found
        for use in uses:
            if use.route.broker.name not in broken:
                checks += [check async for check in channel_checks(use, settings)]
        if not apps:
            checks.append(Check("permissions", "unknown", "give --app module:service to look at its channels"))
        return checks
    finally:
        await brokers.aclose(TIMEOUT)


def _uses(routes: Routes, apps: Sequence[str]) -> list[Use]:
    """What is handled, then what is only sent to."""
    handlers = [handler for service in load_all(apps) for handler in service.handlers]
    handled = {id(handler.channel) for handler in handlers}
    uses = [Use(routes.get(each.channel), handled=True, subscription=each.subscription) for each in handlers]
    others = {id(channel): channel for app in apps for channel in channels_of(app)}
    return uses + [Use(routes.get(channel), handled=False) for key, channel in others.items() if key not in handled]
