"""Hosts, ports and TLS, as each adapter takes them."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from unimsg_contracts.loopback import closed_port, tls_server
from unimsg_kafka.adapter import KafkaAdapter
from unimsg_pubsub.channels import open_channel
from unimsg_pubsub.options import PubSubBrokerOptions
from unimsg_rabbitmq.adapter import RabbitAdapter

from unimsg.errors import ConfigurationError
from unimsg.network import host_and_port, is_loopback, speaks_tls, tls_context
from unimsg.options import Tls

Opens = Callable[[Tls], Awaitable[None]]


async def opens_rabbitmq(tls: Tls) -> None:
    await RabbitAdapter.from_url("amqps://127.0.0.1:1", {"tls": tls}).connect(timeout=1)


async def opens_kafka(tls: Tls) -> None:
    await KafkaAdapter.from_url("kafkas://127.0.0.1:1", {"tls": tls}).connect(timeout=1)


async def opens_pubsub(tls: Tls) -> None:
    open_channel(PubSubBrokerOptions(tls=tls), None)


@pytest.mark.parametrize("opens", [opens_rabbitmq, opens_kafka, opens_pubsub])
@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("ca_file", None, "No such file or directory"),
        ("cert_file", None, "No such file or directory"),
        ("key_file", None, "No such file or directory"),
        ("ca_file", "no certificate", "authorities"),
        ("cert_file", "no certificate", "PEM"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(
    opens: Opens, option: str, text: str | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "the-file.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"tls\.{option}.*the-file\.pem.*{words}"):
        await opens(Tls(**{option: str(file)}))


def test_without_files_the_systems_authorities_are_trusted_and_the_name_is_verified() -> None:
    for tls in (None, Tls()):
        context = tls_context("amqps://", tls)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("text", "found"),
    [("h", ("h", 9)), ("h:", ("h", 9)), ("h:1", ("h", 1)), ("[::1]:5", ("::1", 5)), ("[::1]", ("::1", 9))],
)
def test_hosts_and_ports(text: str, found: tuple[str, int]) -> None:
    assert host_and_port("amqp://", text, 9) == found


@pytest.mark.parametrize("text", ["", ":1", "h:port", "h:70000", "::1", "[::1"])
def test_what_is_no_host_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"amqp://: .* is no host or host:port"):
        host_and_port("amqp://", text, 9)


@pytest.mark.parametrize(("host", "local"), [("localhost", True), ("127.8.0.1", True), ("::1", True), ("h", False)])
def test_this_machine(host: str, local: bool) -> None:
    assert is_loopback(host) is local


async def test_a_port_that_speaks_tls_is_told_from_others() -> None:
    async with tls_server() as port:
        assert await speaks_tls("127.0.0.1", port, within=5)
    assert not await speaks_tls("127.0.0.1", closed_port(), within=5)
    assert not await speaks_tls("a" * 70, 1, within=5), "a host that can be no name"
