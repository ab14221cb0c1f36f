"""A TCP proxy in this process: the network that a case can break."""

import asyncio
import socket
import struct
from typing import Self

from unimsg_contracts.harness import Network


class Proxy(Network):
    """Carries bytes between its own port and a target. `async with` starts and closes it."""

    def __init__(self, host: str, port: int, *, listen: int = 0) -> None:
        self._target = (host, port)
        self.port = listen
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> Self:
        await self.back()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.leave()
        self.flow()
        if self._tasks:  # they end by themselves now; a cancelled one would be logged as an error by asyncio
            await asyncio.wait(self._tasks, timeout=5.0)

    async def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def leave(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def back(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            back, forth = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        for end in (writer, forth):
            _reset_on_close(end)
        self._writers |= {writer, forth}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, forth))
                both.create_task(self._carry(back, writer))
        finally:
            self._writers -= {writer, forth}
            writer.transport.abort()
            forth.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                target.write(data)
                await target.drain()
            if target.can_write_eof():
                target.write_eof()
        except OSError:
            target.transport.abort()


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    """An abort sends RST instead of FIN, as a crashed host or a firewall does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
