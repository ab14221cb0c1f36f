"""Channels are plain data: what is wrong with a declaration is said where it stands, before any connection."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg import ConfigurationError, Queue, Topic
from unimsg.channel import check_short_name
from unimsg.memory import MemoryOptions


@pytest.mark.parametrize(
    "name", ["abc", "orders.place", "a-b_c.1.2-3", "o" * 100, "orders.placed.v1", "unimsgs.x", "a.unimsg"]
)
def test_a_name_that_every_broker_can_carry_is_taken(name: str) -> None:
    assert Queue(name, int).name == name
    assert Topic(name, int).name == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "a", "ab", "o" * 101, "Orders", "orders.Place", "1orders", "-orders", "_orders", ".orders", "orders."),
        *("orders..place", "orders place", "orders/place", "orders#", "orders.*", "ördérs", "orders\n", "orders\0"),
        *("unimsg.reply.x", "unimsg.x"),
    ],
)
@pytest.mark.parametrize("kind", [Queue, Topic])
def test_any_other_name_is_refused_where_it_is_declared(kind: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="channel name"):
        kind(name, int)


@pytest.mark.parametrize("name", [None, 5, b"orders", ["orders"]])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="channel name"):
        Queue(name, int)


@given(st.text(max_size=120))
def test_a_name_that_is_taken_collides_with_no_derived_name(name: str) -> None:
    """Names of the library's own hold an empty part, so that nothing of a user's can meet them."""
    try:
        Queue(name, int)
    except ConfigurationError:
        return
    assert ".." not in name
    assert name.isascii()
    assert name == name.lower()


@pytest.mark.parametrize("name", ["ab", "billing", "billing-2", "a" * 60])
def test_a_name_of_a_service_or_subscription(name: str) -> None:
    check_short_name("service", name)
    check_short_name("subscription", name)


@pytest.mark.parametrize(
    "name", ["", "a", "a" * 61, "Billing", "2billing", "-x", "bil.ling", "bil_ling", "bil ling", "billing\n", None]
)
@pytest.mark.parametrize("what", ["service", "subscription"])
def test_any_other_short_name_is_refused(what: str, name: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{what} name"):
        check_short_name(what, name)


@pytest.mark.parametrize("name", ["retry", "dead", "delay", "history", "p0", "p17"])
def test_words_of_derived_names_are_no_subscriptions(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is reserved"):
        check_short_name("subscription", name)


def test_a_queue_carries_commands_and_a_topic_events_unless_said_otherwise() -> None:
    assert (Queue("a.x", int).kind, Topic("a.x", int).kind) == ("command", "event")
    assert (Queue("a.x", int, kind="document").kind, Topic("a.x", int, kind="document").kind) == ("document",) * 2


def test_another_kind_is_refused_with_those_there_are() -> None:
    kind: Any = "request"
    with pytest.raises(ConfigurationError, match=r"a\.x: kind must be one of command, event, document, not 'request'"):
        Queue("a.x", int, kind=kind)


def test_a_key_makes_a_channel_ordered() -> None:
    assert not Queue("a.x", int).ordered
    assert Queue("a.x", int, key=str).ordered
    assert Topic("a.x", int, ordered=True).ordered


def test_options_are_typed() -> None:
    assert Queue("a.x", int, options=[MemoryOptions(max_length=1)]).options == (MemoryOptions(max_length=1),)
    wrong: Any = {"max_length": 1}
    with pytest.raises(ConfigurationError, match=r"a\.x: options= takes ChannelOptions, not a dict"):
        Queue("a.x", int, options=[wrong])


def test_channels_are_compared_by_identity_and_shown_by_name() -> None:
    one = Queue("a.x", int)
    assert one != Queue("a.x", int)
    assert {one: 1}[one] == 1
    assert (repr(one), repr(Topic("a.x", int))) == ("Queue('a.x')", "Topic('a.x')")


def test_a_queue_takes_no_history() -> None:
    more: Any = {"history": 5}
    with pytest.raises(TypeError, match="history"):
        Queue("a.x", int, **more)


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_a_time_to_live_that_makes_no_sense_is_refused(ttl: float) -> None:
    with pytest.raises(ConfigurationError, match=r"a\.x: ttl must be more than 0 seconds"):
        Queue("a.x", int, ttl=ttl)
