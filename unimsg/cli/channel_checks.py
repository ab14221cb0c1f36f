"""What the doctor finds out about channels: whether they are as declared, and what the user may do with them."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from unimsg import Settings
from unimsg._return import new_inbox
from unimsg._routes import Route
from unimsg._waiting import retry_room
from unimsg.adapter import Address, Difference, Kind, Missing, Right
from unimsg.cli.checks import TIMEOUT, Check
from unimsg.dead_letters import dead_address
from unimsg.errors import UnimsgError


@dataclass(frozen=True, slots=True)
class Use:
    """A channel as an application uses it."""

    route: Route
    handled: bool
    """Else it is sent to."""
    subscription: str | None = None

    @property
    def name(self) -> str:
        name = self.route.channel.name
        return f"{name}/{self.subscription}" if self.subscription else name


async def channel_checks(use: Use, settings: Settings) -> AsyncIterator[Check]:
    """Of one channel, on a broker that is connected."""
    address = use.route.subscription(use.subscription)
    operations = use.route.broker.adapter.operations()
    try:
        differences = await operations.inspect(address, use.route.wanted, timeout=TIMEOUT)
        yield _shape(use.name, settings, differences)
        lacking = [
            missing
            for place, right in _needed(use, address, makes=settings.topology == "create")
            for missing in await operations.permissions(place, right, timeout=TIMEOUT)
        ]
    except UnimsgError as error:
        yield Check(use.name, "problem", str(error))
        return
    for check in _rights(use.name, lacking):
        yield check


def _shape(name: str, settings: Settings, differences: Sequence[Difference]) -> Check:
    if not differences:
        return Check(name, "ok", "as declared")
    other = "; ".join(f"{each.what}: {each.found}, declared {each.wanted}" for each in differences if each.found)
    if other:
        text = f"{other}: declare it as it is, or change it with the broker's own tools"
        return Check(name, "problem", text)
    more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
    missing = f"{differences[0].what}{more}"
    if settings.topology == "create":
        return Check(name, "ok", f"not there yet, made by whoever uses it first ({missing})")
    return Check(name, "problem", f'missing: {missing}, and topology = "{settings.topology}" makes nothing: create it')


def _needed(use: Use, address: Address, *, makes: bool) -> Iterator[tuple[Address, Right]]:
    """What the application does with the channel."""
    if makes:
        yield address, Right.MAKE
    asks = use.route.channel.replies is not None
    inbox = Address(use.route.broker.prefix + new_inbox(), Kind.INBOX)
    if not use.handled:
        yield address, Right.SEND
        if asks:
            yield inbox, Right.RECEIVE
        return
    if asks:
        yield inbox, Right.SEND
    yield address, Right.RECEIVE
    others = [dead_address(address)]
    if use.route.broker.adapter.capabilities.max_delay <= 0 and not address.ordered:  # else no message waits elsewhere
        room = retry_room(address)
        yield room, Right.RECEIVE
        others.append(room)
    for other in others:
        yield other, Right.SEND
        if makes:
            yield other, Right.MAKE


def _rights(name: str, lacking: Sequence[Missing]) -> Iterator[Check]:
    certain = dict.fromkeys(each.what for each in lacking if each.unknown is None)
    if certain:
        yield Check(name, "problem", f"this user lacks {', '.join(certain)}: grant it")
    reasons: dict[str, list[str]] = {}
    for each in lacking:
        if each.unknown is not None and each.what not in reasons.setdefault(each.unknown, []):
            reasons[each.unknown].append(each.what)
    for reason, rights in reasons.items():
        more = f" and {len(rights) - 1} more permissions" if len(rights) > 1 else ""
        yield Check(name, "unknown", f"cannot tell whether this user has {rights[0]}{more}: {reason}")
    if not lacking:
        yield Check(name, "ok", "this user has all permissions that it needs")
