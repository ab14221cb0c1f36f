"""Parts of the Kafka adapter that need no broker."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka  # type: ignore[import-untyped]  # aiokafka has no py.typed
from pydantic import SecretStr
from unimsg_kafka.adapter import KafkaAdapter
from unimsg_kafka.errors import publish_error
from unimsg_kafka.options import KafkaOptions
from unimsg_kafka.wire import decode, encode, inbox_of, topic_of

from unimsg.adapter import Address, Kind, Wire
from unimsg.errors import (
    ConfigurationError,
    MessageTooLarge,
    PublishForbidden,
    PublishRejected,
    PublishUnconfirmed,
    Refused,
    Unroutable,
)

QUEUE = Address("orders.place", Kind.QUEUE)
INBOX = Address("unimsg.inbox.abc", Kind.INBOX)


def record(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> SimpleNamespace:
    return SimpleNamespace(topic="t", partition=3, offset=17, key=key, value=value, headers=headers)


@pytest.mark.parametrize("key", [None, "", "order-1", "schlüssel"])
def test_a_message_arrives_as_it_was_sent(key: str | None) -> None:
    wire = Wire("id-1", b"\x00body", {"content-type": "text/plain", "ce_source": "/x", "tenant": "ä"}, key)
    assert decode(record(*encode(wire))) == wire
    assert decode(record(*encode(wire, INBOX.channel))) == wire


def test_an_inbox_is_told_from_its_neighbours() -> None:
    key, value, headers = encode(Wire("id-1", b"", {}, "k"), INBOX.channel)
    assert key == b"unimsg.inbox.abc"
    assert inbox_of(record(key, value, headers)) == key
    assert inbox_of(record(b"k", b"", [])) is None


def test_foreign_records_are_read() -> None:
    assert decode(record(None, None, [])) == Wire("t/3/17", b"", {}, None)
    headers = [("a", b"1"), ("a", b"2"), ("none", None), ("bytes", b"\xff"), ("ce_id", b"")]
    assert decode(record(b"\xffk", b"v", headers)) == Wire("t/3/17", b"v", {"a": "2"}, "\\xffk")


def test_topics_of_addresses() -> None:
    assert topic_of(QUEUE) == "orders.place"
    assert topic_of(INBOX) == "unimsg.replies"
    assert topic_of(Address("ann.unimsg.inbox.abc", Kind.INBOX)) == "ann.unimsg.replies"
    assert topic_of(Address("placed", Kind.TOPIC, "billing")) == "placed..billing..retry"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (kafka.MessageSizeTooLargeError(), MessageTooLarge),
        (kafka.InvalidTimestampError(), Refused),
        (kafka.for_code(87)(), Refused),
        (kafka.UnknownError(), PublishUnconfirmed),
        (kafka.TopicAuthorizationFailedError("t"), PublishForbidden),
        (kafka.ClusterAuthorizationFailedError(), PublishForbidden),
        (kafka.UnknownTopicOrPartitionError("t"), Unroutable),
        (kafka.InvalidTopicError(), Unroutable),
        (kafka.LeaderNotAvailableError(), PublishUnconfirmed),
        (kafka.KafkaConnectionError("x"), PublishUnconfirmed),
        (kafka.RequestTimedOutError(), PublishUnconfirmed),
    ],
)
def test_what_a_refusal_becomes(error: Exception, outcome: type[Exception]) -> None:
    mapped = publish_error(error, "orders.place", "id-1")
    assert type(mapped) is outcome
    assert mapped.__cause__ is error
    assert (mapped.channel, mapped.message_id) == ("orders.place", "id-1")
    assert isinstance(mapped, PublishRejected) is (outcome is not PublishUnconfirmed)


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("kafka://", {}, "no host or host:port"),
        ("kafka://h/path", {}, "has no path"),
        ("kafka://h:x", {}, "no host or host:port"),
        ("kafka://u:geheim@h", {}, "no password in the URL"),
        ("kafka://h?sesion_timeout=7", {}, "did you mean session_timeout"),
        ("kafka://u@h", {}, "no sasl"),
        ("kafka://h", {"sasl": "plain"}, "needs a user and a password"),
        ("kafka://u@h", {"sasl": "plain", "password": SecretStr("geheim")}, "kafkas://"),
        ("kafka://h", {"tls": {}}, "use kafkas://"),
        ("kafka://h", {"session_timeout": 1}, "session_timeout"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as raised:
        KafkaAdapter.from_url(url, options)
    assert "geheim" not in str(raised.value)


def test_urls_that_are_right() -> None:
    KafkaAdapter.from_url("kafka://h1,h2:9093,[::1]:9094?session_timeout=6", {})
    KafkaAdapter.from_url("kafka://u@127.0.0.1", {"sasl": "plain", "password": SecretStr("geheim")})
    KafkaAdapter.from_url("kafkas://u@h", {"sasl": "scram-sha-512", "password": SecretStr("geheim"), "tls": {}})


def test_options_of_a_channel() -> None:
    assert KafkaOptions().partitions == 8
    with pytest.raises(ValueError, match="compression"):
        KafkaOptions(compression="rar")  # type: ignore[arg-type]  # the point of the test
