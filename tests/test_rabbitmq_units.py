"""URLs, names, arguments, the form on the wire, and errors of the RabbitMQ adapter."""

import socket
import ssl
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiormq
import pytest
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pydantic import SecretStr
from unimsg_rabbitmq import RabbitOptions, errors
from unimsg_rabbitmq.options import Server
from unimsg_rabbitmq.topology import arguments_of, options_of, queues_of
from unimsg_rabbitmq.wire import deliveries_before, properties_of, wire_of

from unimsg.adapter import Address, Kind, Wanted, Wire
from unimsg.dead_letters import read, without_record
from unimsg.errors import AuthenticationError, CapabilityError, ConfigurationError, PermissionDenied, TopologyError

SECRET = "hunter2"
QUEUE = Address("orders.place", Kind.QUEUE)


def test_an_url_with_several_hosts() -> None:
    server = Server.from_url("amqp://ann%40acme@h1:5673,h2,[::1]:5674/a%2Fb?heartbeat=5", {"password": SECRET})
    assert server.hosts == (("h1", 5673), ("h2", 5672), ("::1", 5674))
    assert (server.user, server.vhost, server.options.heartbeat, server.tls) == ("ann@acme", "a/b", 5, None)
    assert SECRET not in repr(server)


@pytest.mark.parametrize(
    ("path", "vhost"), [("", "/"), ("/", "/"), ("/%2F", "/"), ("/shop", "shop"), ("/a%20b", "a b")]
)
def test_virtual_hosts(path: str, vhost: str) -> None:
    server = Server.from_url(f"amqp://host{path}", {})
    assert server.vhost == vhost
    assert aiormq_vhost(server) == vhost


def aiormq_vhost(server: Server) -> str:
    path = server.url("host", 5672).path
    return "/" if path == "/" else path[1:]


def test_a_password_of_any_characters() -> None:
    password = "p@ss/w%3Ard:#é"
    server = Server.from_url("amqp://ann@host", {"password": SecretStr(password)})
    assert server.url("host", 1).password == password


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("amqp:///vhost", {}, "no host"),
        ("amqp://host:port", {}, "no host"),
        ("amqp://host?hartbeat=3", {}, "heartbeat"),
        ("amqp://host?heartbeat=often", {}, "heartbeat"),
        ("amqp://host", {"tls": {"ca_file": "x"}}, "amqps"),
        ("amqps://host", {"tls": {"ca_file": "/does/not/exist"}}, "tls"),
    ],
)
def test_a_bad_url_is_an_error(url: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Server.from_url(url, {"password": SECRET, **options})
    assert SECRET not in str(caught.value)


def test_names_of_queues() -> None:
    assert queues_of(QUEUE) == ("orders.place",)
    assert queues_of(Address("t", Kind.TOPIC, "billing", 2)) == ("t..billing..p0", "t..billing..p1")


def test_arguments_of_queues() -> None:
    assert arguments_of(QUEUE, RabbitOptions(max_length=5, arguments={"x-max-age": "1D"})) == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 100,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "orders.place..dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length": 5,
        "x-max-age": "1D",
    }
    ordered = arguments_of(Address("t", Kind.TOPIC, "s", 2), RabbitOptions())
    assert ordered["x-single-active-consumer"] is True
    assert ordered["x-dead-letter-routing-key"] == "t..s..dead"


def test_a_dead_letter_queue_is_the_same_however_it_is_declared() -> None:
    """The backstop of a queue declares it, and so does whoever reads it, as a channel of its own."""
    assert "x-dead-letter-exchange" not in arguments_of(Address("q..dead", Kind.QUEUE), RabbitOptions())


def test_needs_that_are_not_met() -> None:
    ordered = Address("t", Kind.TOPIC, "s", 2)
    with pytest.raises(CapabilityError, match="replay="):
        options_of(ordered, Wanted(start=datetime.now(UTC)))


def test_a_message_goes_there_and_back() -> None:
    wire = Wire("id", b"body", {"content-type": "text/plain", "cloudEvents:type": "a.b", "user": "ü"}, "key")
    assert wire_of(properties_of(wire), b"body") == wire


def test_native_properties() -> None:
    headers = {
        "cloudEvents:type": "a.b",
        "cloudEvents:causationid": "cause",
        "cloudEvents:time": "2026-11-24T08:00:00.5Z",
    }
    properties = properties_of(Wire("id", b"", headers))
    assert (properties.message_id, properties.message_type, properties.correlation_id) == ("id", "a.b", "cause")
    assert properties.timestamp == datetime(2026, 11, 24, 8, 0, 0, 500_000, UTC)
    assert properties.delivery_mode == 2
    assert properties.expiration is None
    long = properties_of(Wire("id", b"", {"cloudEvents:type": "x" * 256, "cloudEvents:time": "noon"}))
    assert long.message_type is None


def test_a_message_of_another_program() -> None:
    properties = Basic.Properties(
        message_id="native",
        content_type="text/plain",
        headers={
            "text": "é",
            "number": 7,
            "truth": True,
            "decimal": Decimal("1.5"),
            "moment": datetime(2026, 1, 1, tzinfo=UTC),
            "bytes": bytearray(b"\xff"),
            "nothing": None,
            "list": [1, {"a": None}],
            "x-death": [{"count": 3}],
            "X-Own": "1",
            "cloudEvents_type": "other prefix",
        },
    )
    assert wire_of(properties, b"") == Wire(
        "native",
        b"",
        {
            "text": "é",
            "number": "7",
            "truth": "true",
            "decimal": "1.5",
            "moment": "2026-01-01T00:00:00+00:00",
            "list": '[1, {"a": null}]',
            "cloudEvents:type": "other prefix",
            "content-type": "text/plain",
        },
    )


def test_a_message_without_an_id_gets_one() -> None:
    first, second = wire_of(Basic.Properties(), b""), wire_of(Basic.Properties(), b"")
    assert first.id != second.id
    assert wire_of(Basic.Properties(headers={"cloudEvents:id": 42}), b"").id == "42"


def death(queue: str, reason: str) -> FieldTable:
    when = datetime(2026, 11, 24, 8, 0, 1, tzinfo=UTC)
    return {"count": 1, "queue": queue, "reason": reason, "time": when, "exchange": "", "routing-keys": [queue]}


def test_a_message_that_rabbitmq_gave_up_is_a_dead_letter() -> None:
    headers: FieldTable = {
        "tenant": "acme",
        "unimsg-attempt": "2",
        "x-death": [death("t..billing..p3", "delivery_limit"), death("t..billing..retry.1s", "expired")],
        "x-first-death-reason": "expired",
        "x-delivery-count": 5,
    }
    wire = wire_of(Basic.Properties(message_id="native", headers=headers), b"")
    assert wire == Wire(
        "native",
        b"",
        {
            "tenant": "acme",
            "unimsg-attempt": "2",
            "unimsg-dead-reason": "delivery-limit",
            "unimsg-dead-attempts": "0",
            "unimsg-dead-origin": "t/billing",
            "unimsg-dead-last-failed": "2026-11-24T08:00:01+00:00",
        },
    )
    letter = read(wire, "cloudEvents:", "t")
    assert (letter.reason, letter.attempts, letter.origin) == ("delivery-limit", 0, "t/billing")
    assert letter.last_failed == datetime(2026, 11, 24, 8, 0, 1, tzinfo=UTC)
    assert letter.message.headers == {"tenant": "acme"}
    assert without_record(wire).headers == {"tenant": "acme"}


def test_without_an_id_it_is_known_again_among_the_dead_letters() -> None:
    def seen(count: int, body: bytes = b"x") -> str:
        headers: FieldTable = {"n": 1, "x-death": [death("q", "delivery_limit")], "x-delivery-count": count}
        return wire_of(Basic.Properties(headers=headers), body).id

    assert seen(1) == seen(2) != seen(1, b"y")


def test_what_came_through_a_delay_queue_is_as_it_was_sent() -> None:
    wire = Wire("id", b"body", {"content-type": "text/plain", "user": "ü"}, "key")
    properties = properties_of(wire)
    properties.headers = {
        **(properties.headers or {}),
        "x-death": [death("q..retry.1s", "expired"), death("q", "delivery_limit")],
        "x-last-death-reason": "expired",
        "x-delivery-count": 1,
    }
    assert wire_of(properties, b"body") == wire


@pytest.mark.parametrize("deaths", [[], "text", [7], [{}], [{"reason": "delivery_limit"}]])
def test_odd_deaths_stop_nothing(deaths: Any) -> None:
    """Any: whatever another program wrote."""
    assert wire_of(Basic.Properties(message_id="native", headers={"x-death": deaths}), b"").id == "native"


def test_redeliveries_are_counted_as_far_as_the_queue_does() -> None:
    assert deliveries_before({"x-delivery-count": 3}, True) == 3
    assert deliveries_before(None, True) == 1
    assert deliveries_before({}, False) == 0


@pytest.mark.parametrize(
    ("error", "head", "closed", "tls", "reason"),
    [
        (socket.gaierror(-2, "unknown"), b"", None, False, "dns"),
        (ConnectionRefusedError(111, "refused"), b"", None, False, "refused"),
        (ssl.SSLCertVerificationError("no"), b"", None, False, "tls"),
        (ssl.SSLError("wrong version"), b"", None, False, "tls"),
        (TimeoutError(), b"", None, False, "timeout"),
        (aiormq.AMQPConnectionError("closed"), b"", None, True, "plaintext"),
        (aiormq.AMQPConnectionError("closed"), b"\x15\x03", None, False, "plaintext"),
        (aiormq.AMQPConnectionError("closed"), b"", None, False, "protocol"),
        (aiormq.AMQPError("what?"), b"HTTP/1.1", None, False, "protocol"),
        (aiormq.InvalidFrameError("close"), b"\x01", (530, "NOT_ALLOWED - vhost x not found"), False, "authentication"),
        (aiormq.InvalidFrameError("close"), b"\x01", (403, "ACCESS_REFUSED"), False, "authentication"),
        (aiormq.InvalidFrameError("close"), b"\x01", (320, "CONNECTION_FORCED"), False, "protocol"),
    ],
)
def test_why_a_connection_failed(
    error: Exception, head: bytes, closed: tuple[int, str] | None, tls: bool, reason: str
) -> None:
    failure = errors.connect_failure(error, "host:1", head=head, closed=closed, server_speaks_tls=tls)
    assert failure.reason == reason
    assert "host:1" in str(failure)


def test_a_refused_virtual_host_is_told_from_a_refused_password() -> None:
    def text(code: int, words: str) -> str:
        error = errors.connect_failure(OSError(), "h:1", head=b"\x01", closed=(code, words), server_speaks_tls=False)
        assert isinstance(error, AuthenticationError)
        return str(error)

    assert "virtual host" in text(530, "NOT_ALLOWED - access to vhost 'x' refused for user 'y'")
    assert "password" in text(403, "ACCESS_REFUSED - Login was refused")


def test_what_a_refused_declare_means() -> None:
    denied = errors.operation_failure(aiormq.ChannelAccessRefused("ACCESS_REFUSED"), "declaring", QUEUE)
    assert isinstance(denied, PermissionDenied)
    assert "declaring orders.place" in str(denied)
    text = (
        "inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received '6' but current is the value '5' of"
    )
    other = aiormq.ChannelPreconditionFailed(f"PRECONDITION_FAILED - {text} type 'byte'")
    assert isinstance(errors.operation_failure(other, "declaring", QUEUE), TopologyError)
    assert errors.difference(other) == ("x-delivery-limit", "6", "5")


def test_a_queue_that_is_away_is_not_missing() -> None:
    assert errors.is_absent(aiormq.ChannelNotFoundEntity("NOT_FOUND - no queue 'q' in vhost '/'"))
    assert not errors.is_absent(aiormq.ChannelNotFoundEntity("NOT_FOUND - queue 'q' process is stopped by supervisor"))
    assert not errors.is_absent(aiormq.AMQPConnectionError("lost"))
