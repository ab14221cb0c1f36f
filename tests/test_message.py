"""A message: what is checked before it is sent, what a receiver sees, and what a foreign sender cannot break."""

import os
import random
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import time_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg import EncodeError, Message
from unimsg._message import (
    MAX_HEADER_VALUE,
    MAX_HEADERS,
    check_headers,
    check_id,
    check_key,
    derived_id,
    following,
    new_id,
    now,
    read_message,
    shown,
)
from unimsg.adapter import Wire

PREFIXES = ["ce-", "ce_", "cloudEvents:"]
anything = st.text(st.characters(exclude_categories=[]), max_size=300)


def read(headers: Mapping[str, str], *, id: str = "7", key: str | None = None, prefix: str = "ce-") -> Message[str]:
    return read_message(
        Wire(id, b"", headers, key), "the body", prefix, type="orders.place", kind="command", raw="the raw one"
    )


# -- ids


def test_an_id_is_a_uuid_of_version_7() -> None:
    parsed = uuid.UUID(new_id())
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_ids_are_ordered_by_time() -> None:
    before = time_ns() // 1_000_000
    id = uuid.UUID(new_id())
    assert before <= id.int >> 80 <= time_ns() // 1_000_000
    earlier = [new_id() for _ in range(20)]
    begin = time_ns() // 1_000_000
    while time_ns() // 1_000_000 == begin:  # until the clock has moved on
        pass
    assert max(earlier) < new_id()


def test_ids_are_unique() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


@given(anything, st.text(min_size=1, max_size=40), st.integers(1, 1000))
def test_a_derived_id_is_the_same_each_time_and_valid(message: str, handler: str, number: int) -> None:
    id = derived_id(message, handler, number)
    assert id == derived_id(message, handler, number)
    assert uuid.UUID(id).version == 8
    check_id(id)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", "x1"]), st.integers(1, 30)), unique=True))
def test_derived_ids_of_different_messages_handlers_and_numbers_differ(made_of: list[tuple[str, str, int]]) -> None:
    assert len({derived_id(*parts) for parts in made_of}) == len(made_of)


def test_derived_ids_never_change_between_releases() -> None:
    """A handler that is repeated by a newer release of the library must send what it sent before."""
    assert derived_id("order-7", "kitchen:orders.placed/kitchen", 1) == "0302e498-d531-83f9-8195-34ef931d8310"


@pytest.mark.parametrize("id", ["7", "order 7", "~" * 128, "a/b?c=d&e", new_id()])
def test_an_id_of_printable_ascii_is_taken(id: str) -> None:
    check_id(id)


@pytest.mark.parametrize("id", ["", "x" * 129, "ü", "a\nb", "a\n", "tab\t", "nul\0", "\x7f", 7, None, b"7"])
def test_any_other_id_is_refused(id: str) -> None:
    with pytest.raises(EncodeError, match="1 to 128 printable ASCII"):
        check_id(id)


# -- keys


@pytest.mark.parametrize("key", ["k", "x" * 255, "ü" * 127, " ", "\n", "😀" * 63])
def test_a_key_of_up_to_255_bytes_is_taken(key: str) -> None:
    check_key("orders.place", key)


@pytest.mark.parametrize("key", ["", "x" * 256, "ü" * 128, "😀" * 64, "\ud800", 7, b"k", ["k"], True])
def test_any_other_key_is_refused_and_the_channel_is_named(key: str) -> None:
    with pytest.raises(EncodeError, match=r"^orders\.place: (a|the) key"):
        check_key("orders.place", key)


# -- headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"tenant": "acme"},
        {"tenant": ""},
        {"0": "digits may begin"},
        {"a.b_c-d": "ünï \n \0 😀"},
        {"x" * 128: "longest name"},
        {"tenant": "v" * MAX_HEADER_VALUE},
        {f"h{n}": "v" for n in range(MAX_HEADERS)},
        {"cex": "v", "unimsgs": "v", "amq": "v", "xx-a": "v"},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_headers_that_every_broker_carries_are_taken(headers: dict[str, str]) -> None:
    check_headers("orders.place", headers)


@pytest.mark.parametrize(
    "name",
    [
        *("ce-id", "ce_type", "ce-x", "unimsg-attempt", "x-tenant", "x-death", "goog", "googclient_x", "amq.x"),
        *("content-type", "traceparent", "tracestate"),
    ],
)
def test_names_that_belong_to_brokers_and_standards_are_refused_as_reserved(name: str) -> None:
    with pytest.raises(EncodeError, match=rf"^orders\.place: header name '{re.escape(name)}' is reserved$"):
        check_headers("orders.place", {name: "v"})


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Tenant",
        "ten ant",
        "ten\nant",
        "tenant\n",
        "tenant:",
        "cloudEvents:id",
        "ünï",
        "-a",
        ".a",
        "_a",
        "x" * 129,
        "a\0",
    ],
)
def test_names_that_a_broker_could_not_carry_are_refused(name: str) -> None:
    with pytest.raises(EncodeError, match=r"^orders\.place: header name .* must be 1 to 128 of a-z 0-9"):
        check_headers("orders.place", {name: "v"})


@pytest.mark.parametrize("name", [7, None, b"tenant", ("a",)])
def test_a_name_that_is_no_text_is_refused(name: str) -> None:
    with pytest.raises(EncodeError, match="must be a str"):
        check_headers("orders.place", {name: "v"})


@pytest.mark.parametrize("value", [7, None, b"v", ["v"], True, 1.5])
def test_a_value_that_is_no_text_is_refused(value: str) -> None:
    with pytest.raises(EncodeError, match=rf"header 'tenant' must be a str, not a {type(value).__name__}"):
        check_headers("orders.place", {"tenant": value})


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"tenant": "v" * 1025}, "header 'tenant' has 1025 bytes, at most 1024"),
        ({"tenant": "ü" * 513}, "header 'tenant' has 1026 bytes, at most 1024"),
        ({f"h{n}": "v" for n in range(65)}, "65 headers, at most 64"),
        ({f"h{n:02}": "v" * 1000 for n in range(17)}, "headers of 17051 bytes, at most 16384 in all"),
        ({"tenant": "\ud800"}, "header 'tenant' has characters that UTF-8 cannot carry"),
    ],
    ids=["value", "bytes, not characters", "too many", "in all", "surrogate"],
)
def test_too_much_is_refused_with_the_limit(headers: dict[str, str], what: str) -> None:
    with pytest.raises(EncodeError, match=re.escape(what)):
        check_headers("orders.place", headers)


def test_no_refusal_shows_a_value() -> None:
    for headers in ({"tenant": "canary" * 200}, {"tenant": "canary\ud800"}, {"Bad Name": "canary"}, {"x-a": "canary"}):
        with pytest.raises(EncodeError) as caught:
            check_headers("orders.place", headers)
        assert "canary" not in str(caught.value)


@given(st.dictionaries(anything, anything, max_size=5))
def test_headers_are_taken_or_refused_with_an_encode_error(headers: dict[str, str]) -> None:
    try:
        check_headers("orders.place", headers)
    except EncodeError:
        return
    message = read(headers)
    assert message.headers == headers, "what is taken arrives, all of it and under its name"


# -- what a receiver sees


def test_a_message_shows_all_that_its_sender_said() -> None:
    message = read(
        {
            "ce-specversion": "1.0",
            "ce-type": "com.acme.placed.v1",
            "ce-source": "kitchen",
            "ce-time": "2026-01-02T03:04:05.678Z",
            "ce-messagekind": "event",
            "ce-correlationid": "conversation",
            "ce-causationid": "cause",
            "ce-replyto": "unimsg.reply.answers",
            "ce-expirytime": "2026-01-02T03:05:00+01:00",
            "ce-unknown": "x",
            "unimsg-attempt": "3",
            "content-type": "application/json",
            "traceparent": "00-1-2-3",
            "tenant": "acme",
            "X-Foreign": "kept",
        },
        key="ann",
    )
    assert (message.body, message.id, message.key, message.raw) == ("the body", "7", "ann", "the raw one")
    assert (message.type, message.source, message.kind) == ("com.acme.placed.v1", "kitchen", "event")
    assert message.time == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert (message.conversation_id, message.causation_id) == ("conversation", "cause")
    assert message.reply_to == "unimsg.reply.answers"
    assert message.expires == datetime(2026, 1, 2, 2, 5, tzinfo=UTC)
    assert message.content_type == "application/json"
    assert message.headers == {"tenant": "acme", "X-Foreign": "kept"}, "the user's own headers, and those of strangers"


def test_what_a_stranger_did_not_say_is_the_channels() -> None:
    before = datetime.now(UTC)
    message = read({}, id="foreign")
    assert (message.type, message.kind, message.source) == ("orders.place", "command", "")
    assert before <= message.time <= datetime.now(UTC), "when it was read"
    assert message.conversation_id == "foreign", "a conversation begins with it"
    assert (message.causation_id, message.reply_to, message.expires, message.key) == (None, None, None, None)
    assert (message.content_type, message.headers) == ("", {})


@pytest.mark.parametrize(
    "time", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01", "1767312245", "٢٠٢٦-01-01T00:00:00Z", "Z" * 9999]
)
def test_a_malformed_time_counts_as_not_said(time: str) -> None:
    message = read({"ce-time": time, "ce-expirytime": time})
    assert message.time.tzinfo is not None
    assert message.expires is None or message.expires.tzinfo is not None


def test_a_time_without_a_zone_is_utc() -> None:
    assert read({"ce-time": "2026-01-02T03:04:05"}).time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("id", ["", "x" * 129, "a\nb", "ü", "\0"])
def test_a_malformed_conversation_counts_as_not_said(id: str) -> None:
    message = read({"ce-correlationid": id, "ce-causationid": id}, id="own")
    assert (message.conversation_id, message.causation_id) == ("own", None)


def test_what_follows_from_a_message_carries_its_conversation_and_its_id() -> None:
    assert following("conversation", "7") == {"correlationid": "conversation", "causationid": "7"}


def test_ids_that_not_every_broker_could_carry_are_not_passed_on() -> None:
    assert following("x" * 5000, "a\nb") == {}


@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                *(f"{prefix}{name}" for prefix in PREFIXES for name in ("type", "time", "source", "messagekind", "id")),
                *("ce-expirytime", "ce-correlationid", "ce-causationid", "ce-replyto", "ce-specversion"),
                *("content-type", "unimsg-attempt", "traceparent"),
            ]
        )
        | anything,
        anything
        | st.datetimes().map(str)
        | st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]),
        max_size=8,
    ),
    id=anything,
    key=st.none() | anything,
    prefix=st.sampled_from(PREFIXES),
)
def test_no_foreign_attribute_stops_a_message(headers: dict[str, str], id: str, key: str | None, prefix: str) -> None:
    message = read(headers, id=id, key=key, prefix=prefix)
    assert (message.body, message.id, message.key) == ("the body", id, key)
    assert message.kind in ("command", "event", "document")
    assert message.time.utcoffset() is not None
    assert not [name for name in message.headers if name.startswith(("ce-", "ce_", "cloudEvents:", "unimsg-"))]
    for name, value in message.headers.items():
        assert headers[name] == value
    check_id(derived_id(message.id, "handler", 1))
    for value in following(message.conversation_id, message.id).values():
        check_id(value)
    repr(message)


def test_a_sender_says_when_in_utc_to_the_millisecond() -> None:
    text = now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(seconds=5)


# -- what is shown of it


def test_its_repr_shows_neither_body_nor_header_values() -> None:
    message = read_message(
        Wire("7", b"canary", {"token": "canary", "ce-source": "canary"}, "ann"),
        {"pin": "canary"},
        "ce-",
        type="orders.place",
        kind="command",
        raw="canary",
    )
    assert repr(message) == "<Message '7' type='orders.place' key='ann' headers=['token']>"
    assert "canary" not in f"{message} {message!r} {[message]}"


def test_its_repr_is_one_line_whatever_a_stranger_put_into_it() -> None:
    message = read({"ce-type": "a\nb", "na\nme": "v"}, id="7\nFORGED", key="k\x1b[31m")
    assert "\n" not in repr(message)
    assert "\x1b" not in repr(message)


def test_a_message_cannot_be_changed_and_is_compared_by_identity() -> None:
    message = read({})
    with pytest.raises(AttributeError):
        message.body = "other"  # type: ignore[misc]  # the point
    assert message != read({})
    assert len({message, message}) == 1


@pytest.mark.parametrize("id", ["7", new_id(), "order 7", "größe"])
def test_an_ordinary_id_is_shown_as_it_is(id: str) -> None:
    assert shown(id) == id


@given(anything | st.text(min_size=200, max_size=5000))
def test_a_shown_id_is_one_short_line(id: str) -> None:
    text = shown(id)
    assert text.isprintable()
    assert len(text) <= 1300


def test_new_ids_differ_in_programs_that_seed_random_alike() -> None:
    random.seed(42)
    first = [new_id()[15:] for _ in range(100)]
    random.seed(42)
    second = [new_id()[15:] for _ in range(100)]
    assert not set(first) & set(second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_new_ids_differ_in_a_forked_process() -> None:
    code = """
import os
from unimsg._message import new_id
if os.fork() == 0:
    print(new_id()[15:], flush=True)
    os._exit(0)
os.wait()
print(new_id()[15:])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    child, parent = done.stdout.split()
    assert child != parent
