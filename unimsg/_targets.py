"""One subscription, or a queue, as the target of what is put back to it."""

from unimsg._message import after
from unimsg._publisher import Publisher
from unimsg._routes import OPEN_TIMEOUT, Route
from unimsg._waiting import retry_room
from unimsg.adapter import Address, Wanted, Wire
from unimsg.errors import ConfigurationError


def source_of(route: Route, subscription: str | None) -> Address:
    """What a handler of the channel reads. Raises ConfigurationError: a topic without subscription, or the reverse."""
    if subscription is None and route.is_topic:
        raise ConfigurationError(f"{route.channel.name} is a topic: say which subscription")
    if subscription is not None and not route.is_topic:
        raise ConfigurationError(f"{route.channel.name} is a queue: only topics have subscriptions")
    return route.subscription(subscription)


def anew(route: Route, wire: Wire) -> Wire:
    """As if it were sent now: it expires as the channel says."""
    name = f"{route.prefix}expirytime"
    if name not in wire.headers:
        return wire
    headers = {key: value for key, value in wire.headers.items() if key != name}
    if route.channel.ttl is not None:
        headers[name] = after(route.channel.ttl)
    return Wire(wire.id, wire.body, headers, wire.key)


def publisher_to(route: Route, source: Address) -> Publisher:
    """Sends to this queue or subscription alone. Where the broker cannot send to one subscription, through the room
    that its receivers let go at once what is due from."""
    address, wanted = source, Wanted(route.wanted.options)
    if address.subscription is not None and route.broker.adapter.capabilities.max_delay <= 0:
        address = retry_room(address)

    async def make() -> None:
        await route.broker.preparation.prepare(address, wanted, timeout=OPEN_TIMEOUT)

    return Publisher(route.broker.adapter, address, make)
