"""Acknowledging and extending, many at a time; one that Pub/Sub no longer knows fails no other."""

from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from google.api_core.exceptions import GoogleAPICallError
from google.pubsub_v1 import types

from unimsg_pubsub import errors
from unimsg_pubsub.link import Link
from unimsg_pubsub.requests import parts

# Built at run time, as in wire.py.
AcknowledgeRequest: Any = types.AcknowledgeRequest.pb()
ModifyAckDeadlineRequest: Any = types.ModifyAckDeadlineRequest.pb()

MOST_BYTES = 480 * 1024
"""Of one request: it may have 512 KiB (Pub/Sub quotas and limits), and holds more than the ids."""


class Failure(NamedTuple):
    why: str
    gone: bool
    """Whether the message is certainly not leased to this process any more."""


Lost = dict[str, Failure]
"""The ack ids for which it did not count."""


class Settlements:
    """Of one subscription. By unary calls: those are answered, and outlive the stream that gave the message."""

    def __init__(self, link: Link, subscription: str) -> None:
        self._link = link
        self._subscription = subscription

    async def ack(self, ids: Sequence[str], *, within: float) -> Lost:
        """Acknowledges; what fails in passing is tried again for `within` seconds."""

        def request(part: Sequence[str]) -> object:
            return types.AcknowledgeRequest.wrap(AcknowledgeRequest(subscription=self._subscription, ack_ids=part))

        return await self._settle(ids, self._link.subscriber.acknowledge, request, within)

    async def lease(self, ids: Sequence[str], seconds: int, *, within: float) -> Lost:
        """Leases them for `seconds` from now; 0 gives them back, in this order."""

        def request(part: Sequence[str]) -> object:
            change = ModifyAckDeadlineRequest(
                subscription=self._subscription, ack_ids=part, ack_deadline_seconds=seconds
            )
            return types.ModifyAckDeadlineRequest.wrap(change)

        return await self._settle(ids, self._link.subscriber.modify_ack_deadline, request, within)

    async def _settle(
        self,
        ids: Sequence[str],
        rpc: Callable[..., Awaitable[None]],
        request: Callable[[Sequence[str]], object],
        within: float,
    ) -> Lost:
        until = monotonic() + within

        async def send(part: Sequence[str]) -> None:
            await self._link.call(rpc, request(part), until=until)

        lost: Lost = {}
        for part in parts(ids, _size, MOST_BYTES):
            lost |= await _isolating(part, send)
        return lost


def _size(ack_id: str) -> int:
    return len(ack_id) + 4  # and what stands around it


async def _isolating(ids: Sequence[str], send: Callable[[Sequence[str]], Awaitable[None]]) -> Lost:
    """A subscription with exactly-once delivery names the ids that failed. Elsewhere an id that it cannot read fails
    its whole request: found by halving."""
    try:
        await send(ids)
    except GoogleAPICallError as error:
        if named := errors.failed_ids(error):
            return {each: Failure(why, gone=why.startswith("PERMANENT")) for each, why in named.items()}
        if not errors.bad_request(error) or len(ids) == 1:
            gone = errors.bad_request(error) or errors.missing(error)
            return dict.fromkeys(ids, Failure(errors.why(error), gone))
    else:
        return {}
    middle = len(ids) // 2
    return await _isolating(ids[:middle], send) | await _isolating(ids[middle:], send)
