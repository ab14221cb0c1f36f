"""The pure parts of the Pub/Sub adapter."""

from datetime import timedelta
from typing import Any

import pytest
from google.pubsub_v1 import types
from hypothesis import given
from hypothesis import strategies as st
from unimsg_pubsub import PubSubOptions, received, requests, settlements, wire
from unimsg_pubsub.options import parse_url
from unimsg_pubsub.topology import Topology

from unimsg.adapter import Address, Kind, Wire
from unimsg.errors import ConfigurationError, MessageTooLarge, Refused

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20).filter(lambda name: not name.startswith("goog"))


@given(st.binary(max_size=50), st.dictionaries(NAMES, TEXT, max_size=5), st.none() | TEXT.filter(bool), st.booleans())
def test_a_message_arrives_as_it_was_sent(body: bytes, headers: dict[str, str], key: str | None, ordered: bool) -> None:
    sent = Wire("id-1", body, headers, key)
    message = wire.encode(sent, ordered=ordered, inbox="unimsg.inbox.1")
    assert message.ordering_key == (key if ordered and key else "")
    assert wire.decode(message) == sent


def test_a_foreign_message_gets_the_service_s_id_and_loses_its_bookkeeping() -> None:
    attributes = {"colour": "red", "googclient_schemaencoding": "JSON", "CloudPubSubDeadLetterSourceTopic": "t"}
    message = types.PubsubMessage(data=b"x", message_id="77", ordering_key="k", attributes=attributes)
    assert wire.decode(types.PubsubMessage.pb(message)) == Wire("77", b"x", {"colour": "red"}, "k")


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (Wire("i", bytes(10_000_000)), MessageTooLarge),
        (Wire("i", b"", {"a": "x" * 1025}), Refused),
        (Wire("i", b"", {"a": "ü" * 513}), Refused),
        (Wire("i", b"", {"a" * 257: ""}), Refused),
        (Wire("i", b"", {f"a{n}": "" for n in range(100)}), Refused),
        (Wire("i", b"", {}, "k" * 1025), Refused),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(sent: Wire, kind: type[Exception]) -> None:
    assert type(wire.refusal(wire.encode(sent, ordered=True, inbox=None), "orders", sent.id)) is kind


def test_what_the_service_takes_is_not_refused() -> None:
    sent = Wire("i", bytes(9_960_000), {"a": "x" * 1024, **{f"a{n}": "" for n in range(97)}}, "k" * 255)
    assert wire.refusal(wire.encode(sent, ordered=True, inbox=None), "orders", sent.id) is None


@given(st.lists(st.integers(1, 5000), max_size=60))
def test_settlements_go_in_requests_that_the_service_takes(lengths: list[int]) -> None:
    ids = [f"{n}".ljust(length, "x") for n, length in enumerate(lengths)] * 20
    parts = list(requests.parts(ids, settlements._size, settlements.MOST_BYTES))
    assert [each for part in parts for each in part] == ids
    assert all(len(part) <= 1000 and sum(map(len, part)) <= 480 * 1024 for part in parts)


def test_url_and_options() -> None:
    project, options = parse_url("pubsub://shop?emulator=h:1&ack_deadline=30", {"endpoint": "e:443"})
    assert (project, options.target, options.ack_deadline) == ("shop", "h:1", 30)


def test_the_environment_names_an_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    assert parse_url("pubsub://shop", {})[1].target == "127.0.0.1:9"
    assert parse_url("pubsub://shop?emulator=h:1", {})[1].target == "h:1"
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST")
    assert parse_url("pubsub://shop", {})[1].target == "pubsub.googleapis.com:443"


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("pubsub://", {}, "write pubsub://project"),
        ("pubsub://shop/orders", {}, "write pubsub://project"),
        ("pubsub://ann@shop", {}, "credentials_file"),
        ("pubsub://shop", {"password": "canary"}, "credentials_file"),
        ("pubsub://shop?emulater=h:1", {}, "did you mean emulator"),
        ("pubsub://shop?ack_deadline=5", {}, "ack_deadline"),
    ],
)
def test_a_wrong_url_is_refused(url: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        parse_url(url, options)
    assert "canary" not in str(caught.value)


def test_retention_has_the_service_s_limits() -> None:
    assert PubSubOptions(retention=timedelta(minutes=10)).retention
    for wrong in (timedelta(minutes=9), timedelta(days=32)):
        with pytest.raises(ValueError, match="retention"):
            PubSubOptions(retention=wrong)


def test_received_gives_the_client_s_own_message() -> None:
    raw = types.ReceivedMessage.pb(types.ReceivedMessage(ack_id="a", message={"message_id": "77"}))

    class Received:
        pass

    message = Received()
    message.raw = raw  # type: ignore[attr-defined]  # all that `received` looks at
    assert received(message).message.message_id == "77"  # type: ignore[arg-type]
    message.raw = None  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        received(message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("", "127.0.0.1:8085"),
        ("?endpoint=europe-west1-pubsub.googleapis.com:443", "europe-west1-pubsub.googleapis.com:443"),
        ("?emulator=127.0.0.1:9", "127.0.0.1:9"),
        ("?credentials_file=key.json", "127.0.0.1:8085"),
    ],
)
def test_where_it_connects_is_what_was_written_and_else_the_environments(
    query: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:8085")
    assert parse_url(f"pubsub://shop{query}", {})[1].target == target


@pytest.mark.parametrize("prefix", ["", "ann."])
def test_replies_have_a_topic_under_each_prefix(prefix: str) -> None:
    """Else who may use the names with a prefix only could not ask anything."""
    link: Any = None  # nothing is sent
    topology = Topology("local", link, 60)
    inbox = Address(f"{prefix}unimsg.inbox.{'0' * 32}", Kind.INBOX)
    assert topology.topic(inbox) == f"projects/local/topics/{prefix}unimsg.replies"
