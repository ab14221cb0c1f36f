"""What a handler knows of the message that it handles, and what it sends because of it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from unimsg._message import Message, derived_id, following, read_message
from unimsg._propagation import propagated
from unimsg._routes import Route
from unimsg._sending import OneWay
from unimsg.adapter import Delivery, Wire
from unimsg.channel import Channel, Queue
from unimsg.errors import BusClosed

if TYPE_CHECKING:
    from unimsg.bus import Bus

__all__ = ["Context"]

State = TypeVar("State", default=None)
Body = TypeVar("Body")
Reply = TypeVar("Reply")


class Context(OneWay, Generic[State]):
    """Given to handlers that take it. What is sent through it is held until the handler ended well, then sent and
    confirmed, then the message is acknowledged; a handler that fails sends nothing. The ids of what is held derive from
    the message's id, the handler and the number of the call: a repeat has the same ids. It carries the headers that the
    service propagates. `bus` sends at once instead, and without those."""

    def __init__(
        self,
        bus: "Bus",
        route: Route,
        handler: str,
        subscription: str | None,
        delivery: Delivery,
        body: object,
        state: State,
        *,
        attempt: int,
        last_attempt: bool,
        others: Sequence[tuple[Delivery, object]] = (),
        propagate: Sequence[str] = (),
    ) -> None:
        self.bus = bus
        self.subscription = subscription
        """The topic's subscription that the handler reads; None for a queue."""
        self.state = state
        """What the service's `lifespan` yielded."""
        self.attempt = attempt
        """Which attempt this is, from 1. On an ordered channel it begins anew where another process takes the key."""
        self.last_attempt = last_attempt
        """Whether the message is a dead letter if this attempt fails."""
        self._origin = route
        self._handler = handler
        self._delivery = delivery
        self._body = body
        self._others = others
        self._propagate = propagate
        self._message_read: Message[object] | None = None
        self._held: list[tuple[Route, Wire, float, float]] = []
        self._sent = 0
        self._ended = False
        """The handler has: what is sent now would never leave."""

    @property
    def message(self) -> Message[object]:
        """The message, with everything that travelled with the body; the first of a batch."""
        if self._message_read is None:
            self._message_read = self._read(self._delivery, self._body)
        return self._message_read

    @property
    def messages(self) -> Sequence[Message[object]]:
        """All messages of a batch; else the one."""
        return [self.message, *(self._read(delivery, body) for delivery, body in self._others)]

    def _read(self, delivery: Delivery, body: object) -> Message[object]:
        channel = self._origin.channel
        return read_message(
            delivery.wire, body, self._origin.prefix, type=channel.name, kind=channel.kind, raw=delivery.raw
        )

    @property
    def lost(self) -> bool:
        """Whether the connection or assignment that gave the message is gone: it may already be handled elsewhere, and
        what this handler does may be done twice."""
        return self._delivery.epoch.over or any(delivery.epoch.over for delivery, _ in self._others)

    async def request(
        self,
        channel: Queue[Body, Reply],
        body: Body,
        *,
        timeout: float = 5.0,
        key: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> Reply:
        """Sends at once, not when the handler has ended, and waits for the reply; else as `Bus.request`."""
        message = self.message
        extensions = following(message.conversation_id, message.id)
        return await self.bus._request(channel, body, timeout, key, self._onward(headers), extensions)  # type: ignore[no-any-return]  # decoded as a Reply

    def _onward(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """These, and what the service propagates of the headers of what is handled."""
        if not self._propagate or not isinstance(headers, Mapping):  # which is refused where the message is made
            return headers
        return {**propagated(self._propagate, self._delivery.wire, *(each.wire for each, _ in self._others)), **headers}

    def _route(self, channel: Channel[Any, Any]) -> Route:
        return self.bus._route(channel)

    def _message(
        self,
        channel: Channel[Any, Any],
        body: object,
        key: str | None,
        id: str | None,
        headers: Mapping[str, str],
        ttl: float | None,
    ) -> tuple[Route, Wire]:
        if self._ended:
            raise BusClosed(f"{channel.name}: the handler has ended, so nothing sends this any more: use context.bus")
        message = self.message
        self._sent += 1
        route = self._route(channel)
        wire = route.wire(
            body,
            source=self.bus._source,
            key=key,
            id=derived_id(message.id, self._handler, self._sent) if id is None else id,
            headers=self._onward(headers),
            extensions=following(message.conversation_id, message.id),
            ttl=ttl,
        )
        return route, wire

    async def _post(self, route: Route, wire: Wire, timeout: float) -> None:
        self._held.append((route, wire, timeout, 0.0))

    async def _post_later(self, route: Route, wire: Wire, timeout: float, delay: float) -> None:
        route.delays.check(delay)
        self._held.append((route, wire, timeout, delay))

    async def _send_held(self) -> None:
        """Raises the error of the first that was not confirmed, after all have their outcome."""
        held, self._held = self._held, []
        futures = [
            route.delays.submit(wire, timeout, delay) if delay else route.publisher.submit(wire, timeout)
            for route, wire, timeout, delay in held
        ]
        outcomes = [await future for future in futures]
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
