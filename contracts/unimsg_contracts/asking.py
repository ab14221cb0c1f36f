"""What the cases of conversations share: who answers, by the library and by hand."""

from collections.abc import Awaitable, Mapping, Sequence

import pytest

from unimsg import Bus, PublishRejected, PublishUnconfirmed, Queue, RemoteError, Service, UnimsgError
from unimsg.adapter import Adapter, Address, Delivery, Kind, Receiver, Wire
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


def echo(queue: Queue[str, str], name: str = "echo") -> Service:
    """Answers each text with itself."""
    service = Service(name, grace=2.0)

    @service.handler(queue)
    async def handle(body: str) -> str:
        return body

    return service


class Hand:
    """Answers with the port alone, and so also what the library would never send."""

    def __init__(self, stage: Stage, adapter: Adapter, receiver: Receiver) -> None:
        self._stage, self._adapter, self._receiver = stage, adapter, receiver
        self._prefix = adapter.attribute_prefix

    @classmethod
    async def of(cls, stage: Stage, queue: Queue[str, str]) -> "Hand":
        adapter = await stage.adapter()
        address = await stage.ensure(adapter, Address(queue.name, Kind.QUEUE))
        return cls(stage, adapter, await stage.receiver(adapter, address))

    async def take(self) -> Wire:
        """The next request."""
        [delivery] = await self._stage.within(self._next(), "a request")
        await self._stage.ack(self._receiver, [delivery])
        return delivery.wire

    async def answer(
        self, request: Wire, body: bytes, *, to: str | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        """`to`: instead of the return address that the request names."""
        address = Address(to or request.headers[f"{self._prefix}replyto"], Kind.INBOX)
        said = {"content-type": "text/plain", f"{self._prefix}causationid": request.id, **headers}
        await self._stage.send(self._adapter, address, [self._stage.wire(body, headers=said)])

    async def _next(self) -> Sequence[Delivery]:
        return await self._receiver.receive()


async def failure(stage: Stage, asking: Awaitable[object]) -> RemoteError:
    """What the other side says that went wrong."""
    try:
        reply = await stage.within(asking, "the failure", stage.limit)
    except RemoteError as error:
        return error
    except UnimsgError as error:
        pytest.fail(f"no failure of the other side: {error!r}")
    pytest.fail(f"no failure but {reply!r}")


async def rejected(stage: Stage, asking: Awaitable[object], *, surely: bool = True) -> None:
    """Waits until it is said that the request was not sent; or, unless `surely`, that its confirmation did not come."""
    try:
        reply = await stage.within(asking, "a request that cannot be sent")
    except PublishRejected:
        return
    except UnimsgError as error:
        if surely or not isinstance(error.__cause__, PublishUnconfirmed):
            pytest.fail(f"not rejected: {error!r}")
        return
    pytest.fail(f"not rejected but answered: {reply!r}")


async def dropped(stage: Stage, bus: Bus, **counts: int) -> None:
    """Waits until so many replies were dropped, by why: late=, duplicate=, unknown=. Fails if it are more."""
    wanted = {f"{why}_replies": count for why, count in counts.items()}
    seen: Mapping[str, int] = {}

    async def enough() -> bool:
        nonlocal seen
        seen = (await bus.health()).counts
        return all(seen[why] >= count for why, count in wanted.items())

    await eventually(enough, stage.patience, lambda: f"{dict(seen)} were dropped, not {wanted}")
    assert {why: seen[why] for why in wanted} == wanted
