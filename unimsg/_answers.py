"""The responder's half of a conversation: replies, and failures in their place.

An answer goes to a return address that the message names, and only where the channel declares replies: a reply is
never answered. It makes no channel: an address that is gone has nobody who waits.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from unimsg._copies import COPY_TIMEOUT, Copy
from unimsg._message import CONTENT_TYPE, derived_id, following, now, shown, timestamp
from unimsg._propagation import propagated
from unimsg._publisher import Publisher
from unimsg._return import address_of
from unimsg.adapter import Address, Kind, Wire
from unimsg.dead_letters import REPLAYED, text_of
from unimsg.errors import EncodeError, MessageTooLarge, PublishForbidden, Refused, RemoteError, UnimsgError, Unroutable
from unimsg.retry import Reject
from unimsg.store import Said

if TYPE_CHECKING:
    from unimsg._routes import Route

log = logging.getLogger("unimsg")

REFUSALS = 10
"""Of one failure that is to be told, within about 8 seconds; a full reply queue may have room again by then."""
REPLY = 0
"""Of the messages that a handler sends for one message, the number that its reply's id derives from."""


class Answers:
    """Of one handler. `handler`: what the ids of its answers derive from. `source`: the service's name."""

    def __init__(
        self, route: "Route", handler: str, source: str, *, expose_errors: bool, propagate: Sequence[str] = ()
    ) -> None:
        self._path = route.broker.return_path
        self._bodies = route.channel.replies
        self._max_body = route.max_body
        self._is_topic = route.is_topic
        self._prefix = route.prefix
        self._return_address = f"{route.prefix}replyto"
        self._expiry = f"{route.prefix}expirytime"
        self._handler = handler
        self._source = source
        self._expose_errors = expose_errors
        self._propagate = propagate

    def address(self, wire: Wire) -> Address | None:
        """Where an answer to this message goes; None: nobody wants one, or none that we give."""
        if self._bodies is None:
            return None
        text = wire.headers.get(self._return_address)
        if text is None or REPLAYED in wire.headers:  # who asked has had the answer
            return None
        address = address_of(text, self._path.prefix)
        if address is None:  # said softly: strangers could fill the log with it
            log.info("message %s wants its reply at no return address of ours: none is sent", shown(wire.id))
        return address

    def expires(self, wire: Wire) -> float | None:
        """When nobody waits for the answer any more, in seconds since the epoch; None: not said."""
        moment = timestamp(wire.headers.get(self._expiry))
        return None if moment is None else moment.timestamp()

    def reply(self, wire: Wire, result: object) -> Said | None:
        """What is said to whoever asked, if anybody did. Raises EncodeError: it is none of the declared replies."""
        if self._bodies is None or (result is None and self._is_topic) or self.address(wire) is None:
            return None
        said = Said(*self._bodies.encode(result), to=wire.headers.get(self._return_address, ""))
        if len(said.body) > self._max_body:
            raise EncodeError(f"{self._bodies.name}: a reply of {len(said.body)} bytes, at most {self._max_body}")
        return said

    async def send(self, wire: Wire, said: Said) -> None:
        """The reply to `wire`, confirmed. That nobody waits for it any more is no failure.

        Raises:
            PublishError: it was not confirmed.
        """
        address = self.address(wire)
        if address is None:
            return
        expires = self.expires(wire) if address.kind is Kind.INBOX else None
        left = COPY_TIMEOUT if expires is None else min(COPY_TIMEOUT, expires - datetime.now(UTC).timestamp())
        if left <= 0:
            log.info("the reply to message %s comes too late, and is not sent", shown(wire.id))
            return
        error = await self._path.to(address).send(self._wire(wire, said), left)
        if isinstance(error, Unroutable) and address.kind is Kind.INBOX:
            log.info("nobody waits for the reply to message %s any more", shown(wire.id))
        elif error is not None:
            raise error

    async def send_again(self, wire: Wire, said: Said) -> None:
        """As `send`, of what was said to another message with this id. To another address it is not sent."""
        if said.to == wire.headers.get(self._return_address):
            await self.send(wire, said)
        else:
            log.warning("message %s was handled before for another return address: none is answered", shown(wire.id))

    def failure(self, wire: Wire, error: BaseException, reason: str) -> "FailureTold | None":
        """What tells whoever asked that the message was not handled; None: nobody did."""
        address = self.address(wire)
        if address is None or self._bodies is None:
            return None
        said = Said(*self._bodies.encode(self._told(error, reason)))
        until = self.expires(wire) if address.kind is Kind.INBOX else None
        return FailureTold(self._wire(wire, said), self._path.to(address), address, until)

    def _told(self, error: BaseException, reason: str) -> RemoteError:
        """An error's text may hold anything: it leaves the process only if it was made for others, or is exposed."""
        if isinstance(error, Reject):
            return RemoteError(str(error.code), str(error.text))  # whatever a program without types put there
        code = "internal" if reason == "failed" else reason
        return RemoteError(code, text_of(error) if self._expose_errors else "")

    def _wire(self, wire: Wire, said: Said) -> Wire:
        prefix = self._prefix
        conversation = wire.headers.get(f"{prefix}correlationid") or wire.id
        attributes = {
            "specversion": "1.0",
            "source": self._source,
            "type": said.type,
            "time": now(),
            "messagekind": "document",
            **following(conversation, wire.id),
        }
        headers = {f"{prefix}{name}": value for name, value in attributes.items()}
        headers[CONTENT_TYPE] = said.content_type
        headers.update(propagated(self._propagate, wire))
        return Wire(derived_id(wire.id, self._handler, REPLY), said.body, headers)


class FailureTold(Copy):
    """A failure on its way to whoever asked."""

    __slots__ = ("_address", "_refusals", "_until")

    def __init__(self, wire: Wire, publisher: Publisher, address: Address, until: float | None) -> None:
        super().__init__(wire, publisher, lambda: None)
        self.is_dead = True
        self._address = address
        self._until = until
        self._refusals = 0

    @property
    def is_request(self) -> bool:
        """Whether somebody waits for it now: then it takes the dead letter's place."""
        return self._address.kind is Kind.INBOX

    async def send(self) -> UnimsgError | None:
        if self.is_late():
            return None
        error = await super().send()
        self._refusals += isinstance(error, Refused)
        if isinstance(error, Unroutable | PublishForbidden | MessageTooLarge) or self._refusals >= REFUSALS:
            # No repetition helps, and senders choose the address: they must not be able to make us hold messages.
            log.warning("that message %s failed cannot be told: %s", shown(self.wire.id), error)
            return None
        return error

    def is_late(self) -> bool:
        return self._until is not None and self._until <= datetime.now(UTC).timestamp()
