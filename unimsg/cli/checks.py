"""What the doctor finds out about this installation, its configuration and its brokers."""

import os
import platform
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

from unimsg import Settings
from unimsg._brokers import Broker, Brokers
from unimsg.cli.versions import unimsg_version
from unimsg.config import FILE_VARIABLE, find_file
from unimsg.errors import ConfigurationError, UnimsgError

State = Literal["ok", "problem", "unknown"]
TIMEOUT = 10.0
"""Seconds for one question to a broker."""
SKEW = 2.0
"""Seconds that two clocks may differ: expiry and deadlines compare them."""


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    state: State
    text: str
    """What was found; of a problem, what to do about it, too."""


def installation() -> Check:
    """What runs here."""
    return Check("unimsg", "ok", f"{unimsg_version()}, Python {platform.python_version()}, {platform.platform()}")


def sources(url: str | None) -> Check:
    """Where the configuration comes from, weakest first; names only, since values may be secret."""
    found: list[str] = []
    if (file := find_file()) is not None:
        found.append(f"{file}{f' (named by {FILE_VARIABLE})' if os.environ.get(FILE_VARIABLE) else ''}")
    variables = sorted(name for name in os.environ if name.startswith("UNIMSG_") and name != FILE_VARIABLE)
    if variables:
        found.append(f"the environment ({', '.join(variables)})")
    if url is not None:
        found.append("--url")
    return Check("configuration", "ok", f"from {', '.join(found)}" if found else "nothing but defaults")


async def broker_checks(brokers: Brokers, settings: Settings, name: str) -> AsyncIterator[Check]:
    """Of one broker. After a problem there is nothing more to find out."""
    what = f"broker {name}"
    where = _where(settings.brokers[name].url)
    try:
        broker = brokers.get(name)
    except ConfigurationError as error:
        yield Check(what, "problem", str(error))
        return
    try:
        await broker.connect()
    except UnimsgError as error:
        yield Check(what, "problem", str(error))
        return
    yield Check(what, "ok", f"{where}: connected, the user is accepted")
    try:
        async for check in _ends(broker, what):
            yield check
    except UnimsgError as error:
        yield Check(what, "problem", str(error))


async def _ends(broker: Broker, what: str) -> AsyncIterator[Check]:
    """Versions and clocks."""
    began = datetime.now(UTC)
    about = await broker.adapter.operations().about(timeout=TIMEOUT)
    ended = datetime.now(UTC)
    yield Check(what, "ok", f"{about.broker}; client {about.client}")
    for problem in about.problems:
        yield Check(f"{what} settings", "problem", problem)
    if about.time is None:
        text = "it tells nobody its time: keep the clocks of all hosts in step (NTP), expiry and deadlines compare them"
        yield Check(f"{what} clock", "unknown", text)
        return
    skew = max((began - about.time).total_seconds(), (about.time - ended).total_seconds(), 0.0)
    if skew > SKEW:
        yield Check(f"{what} clock", "problem", f"{skew:.1f} s away from ours: set both by NTP")
    else:
        yield Check(f"{what} clock", "ok", "in step with ours")


def _where(url: str) -> str:
    """Without user and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
