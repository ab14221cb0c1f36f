"""What adapters need of the network: where a broker is, and TLS on the way to it."""

import asyncio
import ipaddress
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from unimsg.errors import ConfigurationError

if TYPE_CHECKING:
    from unimsg.options import Tls


def host_and_port(where: str, text: str, default_port: int) -> tuple[str, int]:
    """`text` is a host, with a port or without. `where` names its place in errors: "kafka://".

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise ConfigurationError(f"{where}: {text!r} is no host or host:port")
    return host, port or default_port


def is_loopback(host: str) -> bool:
    """Whether it names this machine for sure."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(where: str, tls: "Tls | None") -> ssl.SSLContext:
    """Verifies certificate and host name. `where` names the place of the options in errors: "amqps://".

    Raises:
        ConfigurationError: a file cannot be used; names it.
    """
    ca_file, cert_file, key_file = (tls.ca_file, tls.cert_file, tls.key_file) if tls else (None, None, None)
    for option, file in (("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)):
        if file is not None:
            _look_into(f"{where}.tls.{option}", file)  # ssl does not say which file is missing
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{where}.tls.ca_file: {ca_file} holds no certificates in PEM form ({error}): name the file of the "
            "authorities to trust"
        ) from error
    if cert_file is not None:
        try:
            # With a password, though there is none: without, an encrypted key makes OpenSSL ask at the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except ssl.SSLError as error:
            key = f"key_file {key_file}" if key_file else "its key in the same file"
            raise ConfigurationError(
                f"{where}.tls.cert_file: {cert_file} and {key} cannot be used ({error}): both must be PEM, belong "
                "together and have no password"
            ) from error
    return context


async def speaks_tls(host: str, port: int, *, within: float) -> bool:
    """Whether a server answers a TLS greeting in `within` seconds: for one that did not understand plain text. Nothing
    is sent on the connection, so that its certificate does not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(within):
            _reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in str(error)  # it speaks it, and wants a client's certificate, say
    except (OSError, ValueError):  # ValueError: a host that can be no name
        return False
    writer.transport.abort()
    return True


def _look_into(option: str, file: str) -> None:
    try:
        with Path(file).open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{option}: cannot read {file} ({error.strerror}): name a PEM file that this process may read"
        ) from error
