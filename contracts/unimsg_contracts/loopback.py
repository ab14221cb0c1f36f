"""Small servers on this machine that are not the broker that a client expects."""

import asyncio
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from random import SystemRandom
from socket import socket

import pytest

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    """A port that nobody uses, below those that the system gives to outgoing connections: a broker that is restarted
    finds it free again."""
    while True:
        port = SystemRandom().randrange(20000, 32000)
        with socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


closed_port = free_port


@asynccontextmanager
async def serving(answer: Answer, *, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on 127.0.0.1; its port."""
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.add(writer)
        try:
            await answer(reader, writer)
        except OSError:
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def tls_server() -> AsyncIterator[int]:
    """Speaks TLS with a certificate that nobody trusts, and then nothing."""

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate())
    async with serving(nothing, context=context) as port:
        yield port


@cache
def certificate() -> Path:
    """A certificate for localhost, signed by itself, with its key: made once a run."""
    path = Path(tempfile.mkdtemp(prefix="unimsg-contracts-")) / "localhost.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    try:
        subprocess.run([*command.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command, to make a certificate")
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path
