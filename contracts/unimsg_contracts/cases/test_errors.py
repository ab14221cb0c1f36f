"""G17: every failure to connect is a clear error within its deadline, told apart by its cause, and shows no secret."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from unimsg.errors import AuthenticationError, ConnectError
from unimsg_contracts.loopback import closed_port, serving, tls_server
from unimsg_contracts.marks import guarantee
from unimsg_contracts.stage import Stage

SECRET = "s3cr3t-never-shown"
NO_SUCH_HOST = "no-such-host.invalid"


@asynccontextmanager
async def all_logs() -> AsyncIterator[list[str]]:
    """Everything that is logged meanwhile, by whomever, as text."""
    texts: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(self.format(record))

    root, handler = logging.getLogger(), Keep()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield texts
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


async def failure(
    stage: Stage, url: str, options: Mapping[str, object] | None = None, *, timeout: float = 5.0
) -> ConnectError:
    """How connecting fails. Checks what is promised of every such error."""
    options = stage.harness.secret(SECRET) if options is None else options
    adapter = stage.adapter_type.from_url(url, options)
    async with all_logs() as logs:
        try:
            await stage.within(adapter.connect(timeout=timeout), f"connect(timeout={timeout:g})", timeout + 1.5)
        except ConnectError as error:
            caught = error
        else:
            pytest.fail(f"connected to {url}")
        finally:
            await stage.within(adapter.aclose(timeout=2.0), "aclose after a failed connect", 4.0)
    shown = [repr(caught), repr(adapter), repr(adapter.health()), *traceback.format_exception(caught), *logs]
    assert not [text for text in shown if SECRET in text], "the password was shown"
    assert caught.__cause__ is not None or caught.reason == "timeout", "the client's own error is not among the causes"
    return caught


@guarantee("G17", needs=("hosts",))
async def test_a_closed_port(stage: Stage) -> None:
    """Nobody listens: says so, and where."""
    port = closed_port()
    error = await failure(stage, stage.harness.at("127.0.0.1", port))
    assert error.reason == "refused", repr(error)
    assert str(port) in str(error)


@guarantee("G17", needs=("hosts",))
async def test_an_unknown_host(stage: Stage) -> None:
    """The name does not resolve: says so, and which name."""
    error = await failure(stage, stage.harness.at(NO_SUCH_HOST, 1))
    assert error.reason == "dns", repr(error)
    assert NO_SUCH_HOST in str(error)


@guarantee("G17", needs=("hosts",))
async def test_a_silent_server(stage: Stage) -> None:
    """Somebody listens and never answers: an error within the deadline, not an endless wait."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with serving(silent) as port:
        error = await failure(stage, stage.harness.at("127.0.0.1", port), timeout=1.0)
    assert error.reason == "timeout", repr(error)


@guarantee("G17", needs=("hosts",))
async def test_a_server_of_another_protocol(stage: Stage) -> None:
    """Whoever listens there speaks something else: an error within the deadline that names the place."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with serving(other) as port:
        error = await failure(stage, stage.harness.at("127.0.0.1", port))
    assert str(port) in str(error)
    assert not isinstance(error, AuthenticationError)


@guarantee("G17", needs=("hosts", "broken_tls"))
async def test_tls_to_a_plain_server(stage: Stage) -> None:
    """TLS is asked of the broker's plain port: told as a failure of TLS, not as a wrong password or a timeout."""
    network = await stage.network()
    assert network.port
    error = await failure(stage, stage.harness.at("127.0.0.1", network.port, tls=True))
    assert error.reason == "tls", repr(error)


@guarantee("G17", needs=("hosts", "broken_tls"))
async def test_plain_text_to_a_tls_server(stage: Stage) -> None:
    """Plain text is spoken to a TLS port: told as such."""
    async with tls_server() as port:
        error = await failure(stage, stage.harness.at("127.0.0.1", port))
    assert error.reason == "plaintext", repr(error)


@guarantee("G17", needs=("hosts", "broken_tls"))
async def test_an_untrusted_certificate(stage: Stage) -> None:
    """The server's certificate is nobody's that is trusted: told as TLS, with the certificate named."""
    async with tls_server() as port:
        error = await failure(stage, stage.harness.at("127.0.0.1", port, tls=True))
    assert error.reason == "tls", repr(error)
    assert "certificate" in str(error).lower()


@guarantee("G17", needs=("password",))
async def test_a_wrong_password(stage: Stage) -> None:
    """The broker refuses the password: `AuthenticationError`, at once, and the password is not shown."""
    url, options = stage.harness.with_password(SECRET)
    error = await failure(stage, url, options)
    assert isinstance(error, AuthenticationError), repr(error)


@guarantee("G17", needs=("vhost",))
async def test_a_wrong_virtual_host(stage: Stage) -> None:
    """The virtual host does not exist: `AuthenticationError` that names it."""
    error = await failure(stage, stage.harness.at_vhost("no-such-vhost"), stage.harness.options)
    assert isinstance(error, AuthenticationError), repr(error)
    assert "no-such-vhost" in str(error)
