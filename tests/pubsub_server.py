"""A small server that speaks Pub/Sub over gRPC, for answers that the emulator never gives."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from google.pubsub_v1 import types
from unimsg_pubsub.adapter import PubSubAdapter

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class Server(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio's, untyped
    """Answers each method by the handler of its name, and any other with an empty message."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.calls: Counter[str] = Counter()
        self.messages: list[list[tuple[str, bytes]]] = []
        """Of each publish request: keys and bodies."""
        self.streams: list[types.StreamingPullRequest] = []
        """The first request of each stream."""
        self.deliver: asyncio.Queue[types.StreamingPullResponse | None] = asyncio.Queue()
        self.refuse_stream: Any = None
        """A status code to end each stream with."""
        self.deaf = False
        """Whether streams do not end when the other side half-closes."""
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        self._server.add_generic_rpc_handlers([self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self._server.stop(None)

    def end_stream(self) -> None:
        """Ends the one that is open, well."""
        self.deliver.put_nowait(None)

    def refuse(self, method: str, code: Any, text: str = "no", *, times: int | None = None) -> None:
        """`times`: answers well after so many refusals."""

        async def handler(request: bytes, context: Any) -> bytes:
            if times is None or self.calls[method] <= times:
                await context.abort(code, text)
            return b""

        self.handlers[method] = handler

    def hang(self, method: str) -> None:
        async def handler(request: bytes, context: Any) -> bytes:
            await asyncio.Event().wait()
            return b""

        self.handlers[method] = handler

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        if method == "StreamingPull":
            return grpc.stream_stream_rpc_method_handler(self._stream)

        async def answer(request: bytes, context: Any) -> bytes:
            self.calls[method] += 1
            if method == "Publish":
                messages = types.PublishRequest.deserialize(request).messages
                self.messages.append([(message.ordering_key, message.data) for message in messages])
            return await self.handlers[method](request, context) if method in self.handlers else b""

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Gives what is in `deliver` until the other side half-closes."""
        self.streams.append(types.StreamingPullRequest.deserialize(await anext(aiter(requests))))
        if self.refuse_stream is not None:
            await context.abort(self.refuse_stream, "no")
        ended = asyncio.create_task(_drained(requests))
        waiting = ended
        try:
            while self.deaf or not ended.done():
                waiting = asyncio.create_task(self.deliver.get())
                await asyncio.wait([waiting, ended][: 1 if self.deaf else 2], return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    if (response := waiting.result()) is None:
                        break
                    yield types.StreamingPullResponse.serialize(response)
                waiting.cancel()
        finally:  # a stream that the other side gave up takes nothing from the next one
            waiting.cancel()
            ended.cancel()


async def _drained(requests: AsyncIterator[bytes]) -> None:
    async for _ in requests:
        pass


def adapter_of(server: Server) -> PubSubAdapter:
    return PubSubAdapter.from_url(f"pubsub://shop?emulator=127.0.0.1:{server.port}", {})


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[PubSubAdapter]:
    adapter = adapter_of(server)
    await adapter.connect(timeout=5)
    try:
        yield adapter
    finally:
        await adapter.aclose(timeout=5)


def response(count: int) -> types.StreamingPullResponse:
    return types.StreamingPullResponse(
        received_messages=[
            types.ReceivedMessage(ack_id=f"ack-{n}", message=types.PubsubMessage(data=b"x", message_id=f"m{n}"))
            for n in range(count)
        ]
    )
