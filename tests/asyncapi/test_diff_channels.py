"""What changes of channels, messages, operations and replies break."""

import copy
import dataclasses
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sample_shop as shop
from pydantic import BaseModel
from unimsg_kafka import KafkaOptions

import unimsg
from unimsg.asyncapi import Change, diff, document
from unimsg.channel import Channel
from unimsg.codecs import Codec, Json, Protobuf
from unimsg.config import Settings

Json_ = dict[str, Any]
WAYS = ("received", "sent", "both")


@unimsg.message("some.one")
class One(BaseModel):
    a: int


@unimsg.message("some.two")
class Two(BaseModel):
    a: int


@unimsg.message("some.old")
class Old(BaseModel):
    b: int


class Plain(BaseModel):
    a: int


class Reply(BaseModel):
    cents: int


class OtherReply(BaseModel):
    cents: int
    more: int


def newer(old: Old) -> One:
    return One(a=old.b)


class AsText(Json[Any]):
    content_type = "application/x-other"


def services(way: str, *channels: Channel[Any, Any], subscription: str | None = None) -> unimsg.Service[None]:
    service = unimsg.Service("some", sends=channels if way != "received" else ())
    if way != "sent":
        for channel in channels:

            async def handle(body: Any) -> None: ...

            named: Json_ = {"subscription": subscription} if subscription and isinstance(channel, unimsg.Topic) else {}
            service.handler(channel, **named)(handle)  # type: ignore[call-overload]
    return service


def made(way: str, *channels: Channel[Any, Any], url: str = "memory://", **more: Any) -> Json_:
    return document(services(way, *channels, **more), settings=Settings(url=url))


def queue(body: Any = Plain, **more: Any) -> Any:
    return unimsg.Queue("some.queue", body, **more)


def topic(body: Any = Plain, **more: Any) -> Any:
    return unimsg.Topic("some.queue", body, **more)


@dataclasses.dataclass
class Case:
    """`breaks`: "received", "sent", both words, or neither."""

    name: str
    old: Callable[[], Any]
    new: Callable[[], Any]
    breaks: str
    says: str
    where: str = ""


A, B = "received", "sent"
CASES = [
    Case("queue to topic", queue, topic, A + B, "the queue became a topic"),
    Case("topic to queue", topic, queue, A + B, "the topic became a queue"),
    Case("order lost", lambda: queue(ordered=True), queue, A + B, "order was lost"),
    Case("order gained", queue, lambda: queue(ordered=True), A + B, "it became ordered"),
    Case(
        "key changed",
        lambda: queue(shop.Order, key=lambda o: o.customer),
        lambda: queue(shop.Order, key=lambda o: o.to.city),
        A + B,
        "the key changed from customer to to.city",
    ),
    Case(
        "key derived",
        lambda: queue(shop.Order, ordered=True),
        lambda: queue(shop.Order, key=lambda o: o.customer),
        A + B,
        "the key changed from one that each sender gives to customer",
    ),
    Case("ttl new", queue, lambda: queue(ttl=60), A + B, "the time to live changed from none to 1 minute"),
    Case("ttl shorter", lambda: queue(ttl=60), lambda: queue(ttl=30), A + B, "from 1 minute to 30 seconds"),
    Case("ttl longer", lambda: queue(ttl=30), lambda: queue(ttl=60), "", "from 30 seconds to 1 minute"),
    Case("ttl gone", lambda: queue(ttl=30), queue, "", "from 30 seconds to none"),
    Case("history new", topic, lambda: topic(history=timedelta(days=1)), "", "from none to 1 day"),
    Case("history gone", lambda: topic(history=timedelta(days=1)), topic, A + B, "from 1 day to none"),
    Case(
        "history shorter",
        lambda: topic(history=timedelta(days=2)),
        lambda: topic(history=timedelta(hours=1)),
        A + B,
        "the history changed from 2 days to 1 hour",
    ),
    Case("kind", queue, lambda: queue(kind="event"), "", "its kind changed from command to event"),
    # messages
    Case("type named", queue, lambda: queue(One), A + B, "the message type changed from some.queue to some.one"),
    Case("type renamed", lambda: queue(One), lambda: queue(Two), A + B, "changed from some.one to some.two"),
    Case("type added", lambda: queue(One), lambda: queue(One | Two), B, "", "some.two"),
    Case("type removed", lambda: queue(One | Two), lambda: queue(One), A + B, "any more", "some.two"),
    Case(
        "type upgraded",
        lambda: queue(Old),
        lambda: queue(One, upgrades=[newer]),
        B,
        "",
        "",
    ),
    Case(
        "upgrade removed",
        lambda: queue(One, upgrades=[newer]),
        lambda: queue(One),
        A,
        "is not received any more",
        "some.old",
    ),
    Case(
        "content type",
        queue,
        lambda: queue(codec=AsText(Plain)),
        A + B,
        "application/x-other",
    ),
    Case("format read too", queue, lambda: queue(codec=[Json(Plain), AsText(Plain)]), "", ""),
    Case(
        "format changed, the old one is read",
        queue,
        lambda: queue(codec=[AsText(Plain), Json(Plain)]),
        B,
        "",
    ),
    Case("format removed", lambda: queue(codec=[Json(Plain), AsText(Plain)]), queue, A, "", ""),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_change(case: Case, way: str) -> None:
    found = diff(made(way, case.old()), made(way, case.new()))
    breaks = bool(case.breaks) if way == "both" else way in case.breaks
    mine = [each for each in found if case.says in each.text and each.where == f"some.queue {case.where}".strip()]
    if case.says and not (way == "sent" and case.breaks == A):
        assert mine, found
    assert any(each.breaking for each in found) is breaks, found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_what_does_not_change_is_no_change(case: Case, way: str) -> None:
    for make in (case.old, case.new):
        assert diff(made(way, make()), made(way, make())) == []


def test_a_removed_channel_is_told_by_who_misses_it() -> None:
    other = unimsg.Queue("other.queue", int)
    assert diff(made("received", queue(), other), made("received", other)) == [
        Change(True, "some.queue", "the queue was removed: what is sent to it is received by nobody")
    ]
    assert diff(made("sent", topic(), other), made("sent", other)) == [
        Change(True, "some.queue", "the topic was removed: nothing is sent to it any more")
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_new_channel_breaks_nobody(way: str) -> None:
    other = unimsg.Queue("other.queue", int)
    assert diff(made(way, other), made(way, other, queue())) == [Change(False, "some.queue", "the queue is new")]


def test_a_renamed_subscription_leaves_its_messages_behind() -> None:
    found = diff(made("received", topic(), subscription="one"), made("received", topic(), subscription="two"))
    assert found == [
        Change(True, "some.queue", "the subscription one was removed: what waits in it is received by nobody"),
        Change(False, "some.queue", "the subscription two is new"),
    ]


def test_who_stops_receiving_and_who_stops_sending() -> None:
    both, received, sent = (made(way, queue()) for way in ("both", "received", "sent"))
    assert Change(True, "some.queue", "nothing is sent to it any more") in diff(both, received)
    assert Change(True, "some.queue", "what is sent to it is received by nobody") in diff(both, sent)
    assert diff(received, both) == [Change(False, "some.queue", "it is sent to now")]
    assert diff(sent, both) == [Change(False, "some.queue", "it is received now")]


def test_that_it_is_read_as_more_than_it_is_written_is_no_change() -> None:
    """Defaults, decimals: a body is read in more forms than it is written in."""
    received, sent, both = (made(way, queue(shop.Order)) for way in WAYS)
    assert diff(sent, both) == [Change(False, "some.queue", "it is received now")]
    assert diff(received, both) == [Change(False, "some.queue", "it is sent to now")]
    assert [change for change in diff(both, sent) if change.breaking] == [
        Change(True, "some.queue", "what is sent to it is received by nobody")
    ]


def test_of_what_is_read_and_written_each_counts() -> None:
    class Before(BaseModel):
        a: int = 1

    class After(BaseModel):
        b: int = 1

    assert diff(made("both", queue(Before)), made("both", queue(After))) == [
        Change(True, "some.queue a", "the field was removed"),
        Change(False, "some.queue b", "the field is new, and optional"),
    ]


def test_another_service_that_handles_it_changes_nothing_for_others() -> None:
    def by(name: str) -> Json_:
        service = unimsg.Service(name)

        @service.handler(queue())
        async def handle(body: Plain) -> None: ...

        return document(service, settings=Settings(url="memory://"))

    assert diff(by("one"), by("two")) == []


# -- where it is


def test_another_name_on_the_broker_is_another_channel() -> None:
    old, new = (
        document(services("received", queue()), settings=Settings(url="memory://", prefix=prefix))
        for prefix in ("", "ann.")
    )
    (change,) = diff(old, new)
    assert change == Change(True, "some.queue", 'the address changed from "some.queue" to "ann.some.queue"')


def test_another_broker_is_a_breaking_change_and_another_host_of_it_is_none() -> None:
    rabbit, kafka = "amqp://rabbit.test", "kafka://k1"
    assert any(
        change.breaking and change.text == "it moved from amqp to kafka"
        for change in diff(made("received", queue(), url=rabbit), made("received", queue(), url=kafka))
    )
    other = made("received", queue(), url="amqps://other.test,third.test")
    assert diff(made("received", queue(), url=rabbit), other) == []


def test_other_partitions_move_keys() -> None:
    old, new = (
        made("received", queue(ordered=True, options=[KafkaOptions(partitions=count)]), url="kafka://k1")
        for count in (4, 8)
    )
    assert diff(old, new) == [Change(True, "some.queue", "the partitions changed from 4 to 8: keys move")]


def test_a_smaller_body_is_refused_where_it_is_received() -> None:
    old, new = (KafkaOptions(max_body=size) for size in (2000, 1000))
    for way, breaks in (("received", True), ("sent", False)):
        (change,) = diff(
            made(way, queue(options=[old]), url="kafka://k1"), made(way, queue(options=[new]), url="kafka://k1")
        )
        assert (change.breaking, change.text) == (breaks, "the largest body changed from 2000 bytes to 1000 bytes")


# -- replies


def asked(replies: Any) -> Any:
    return queue() if replies is None else queue(replies=replies)


REPLIES = [
    ("removed", Reply, None, "received", "the reply was removed", "some.queue"),
    ("added", None, Reply, "sent", "it is replied to now", "some.queue"),
    ("field added", Reply, OtherReply, "sent", "the field is new, and required", "reply to some.queue more"),
    ("field removed", OtherReply, Reply, "received", "the field was removed", "reply to some.queue more"),
    ("field of another type", Reply, int, "receivedsent", "changed from object Reply", "reply to some.queue"),
    ("type added", One, One | Two, "received", "", "reply to some.queue some.two"),
    ("type removed", One | Two, One, "receivedsent", "any more", "reply to some.queue some.two"),
]


@pytest.mark.parametrize("way", ["received", "sent"])
@pytest.mark.parametrize(
    ("old", "new", "breaks", "says", "where"), [each[1:] for each in REPLIES], ids=[each[0] for each in REPLIES]
)
def test_a_reply_goes_the_other_way(old: Any, new: Any, breaks: str, says: str, where: str, way: str) -> None:
    """Who receives a request sends its reply."""
    found = diff(made(way, asked(old)), made(way, asked(new)))
    assert any(change.breaking for change in found) is (way in breaks), found
    if says != "it is replied to now" or way == "received":
        mine = [change for change in found if change.where == where and says in change.text]
        assert mine or says == "the reply was removed", found


def test_a_reply_that_is_not_wanted_any_more_breaks_nobody() -> None:
    assert diff(made("sent", asked(Reply)), made("sent", asked(None))) == [
        Change(False, "some.queue", "no reply is wanted any more")
    ]
    assert diff(made("sent", asked(None)), made("sent", asked(Reply))) == [
        Change(True, "some.queue", "a reply is wanted now")
    ]


# -- as a whole


def test_breaking_changes_come_first() -> None:
    found = diff(made("received", queue(ttl=30)), made("received", queue(One, ttl=60)))
    assert [change.breaking for change in found] == sorted((change.breaking for change in found), reverse=True)
    assert len(found) == 2


def test_the_shop_is_the_same_as_the_shop() -> None:
    for url in ("amqp://rabbit.test", "kafka://k1", "pubsub://acme", "memory://"):
        one, other = (document(*shop.SERVICES, settings=Settings(url=url)) for _ in range(2))
        assert diff(one, other) == []


def test_every_removal_in_the_shop_is_told() -> None:
    whole = document(*shop.SERVICES, settings=Settings(url="memory://"))
    for name in whole["channels"]:
        less = copy.deepcopy(whole)
        del less["channels"][name]
        less["operations"] = {
            key: each for key, each in less["operations"].items() if each["channel"]["$ref"] != f"#/channels/{name}"
        }
        assert any(change.breaking for change in diff(whole, less)) or name.endswith("..reply"), name


# -- documents of other makers


THEIRS: Json_ = {
    "asyncapi": "3.0.0",
    "info": {"title": "Theirs", "version": "1"},
    "channels": {
        "users/signedUp": {
            "address": "user.signedup",
            "messages": {"up": {"$ref": "#/components/messages/Up"}},
        }
    },
    "operations": {
        "onUp": {
            "action": "receive",
            "channel": {"$ref": "#/channels/users~1signedUp"},
            "messages": [{"$ref": "#/channels/users~1signedUp/messages/up"}],
        }
    },
    "components": {
        "messages": {"Up": {"payload": {"$ref": "#/components/schemas/Up"}}},
        "schemas": {
            "Up": {
                "type": "object",
                "properties": {"name": {"type": ["string", "null"]}, "again": {"$ref": "#/components/schemas/Up"}},
                "allOf": [{"$ref": "#/components/schemas/Base"}],
            },
            "Base": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
        },
    },
}


def test_a_document_of_another_maker_can_be_compared() -> None:
    assert diff(THEIRS, THEIRS) == []
    new = copy.deepcopy(THEIRS)
    new["components"]["schemas"]["Up"]["properties"]["name"]["type"] = "string"
    new["components"]["schemas"]["Base"]["required"] = ["id", "at"]
    new["components"]["schemas"]["Base"]["properties"]["at"] = {"type": "string"}
    assert diff(THEIRS, new) == [
        Change(True, "users/signedUp up at", "the field is new, and required"),
        Change(True, "users/signedUp up name", "null is not allowed any more"),
    ]


CIRCLES: list[Json_] = [
    {"$ref": "#/components/schemas/A"},
    {"allOf": [{"$ref": "#/components/schemas/A"}]},
    {"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]},
    {"oneOf": [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/A"}]},
    {"items": {"$ref": "#/components/schemas/A"}},
    {"properties": {"a": {"allOf": [{"$ref": "#/components/schemas/A"}]}}},
    {"additionalProperties": {"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "integer"}]}},
    {"$ref": "#/nowhere"},
    {"$ref": "http://elsewhere/"},
    {"$ref": 7},
    {"type": 7, "properties": [], "required": 1, "enum": {}, "items": 3, "anyOf": "x", "allOf": 2},
]


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.product(CIRCLES, CIRCLES)), ids=lambda each: str(CIRCLES.index(each))
)
def test_circles_and_nonsense_end(one: Json_, other: Json_) -> None:
    def theirs(schema: Json_) -> Json_:
        whole = copy.deepcopy(THEIRS)
        whole["components"]["schemas"] = {"A": schema, "Up": {"$ref": "#/components/schemas/A"}}
        return whole

    assert isinstance(diff(theirs(one), theirs(other)), list)


@pytest.mark.parametrize("spoilt", [None, 1, "x", [], [1], {"$ref": "#/channels"}, {"a": 1}], ids=str)
@pytest.mark.parametrize("part", ["channels", "operations", "components", "servers", "info", "defaultContentType"])
def test_a_document_that_is_none_is_compared_as_far_as_it_goes(part: str, spoilt: Any) -> None:
    assert isinstance(diff({**THEIRS, part: spoilt}, THEIRS), list)
    assert isinstance(diff(THEIRS, {**THEIRS, part: spoilt}), list)


def test_protobuf_that_cannot_be_read_is_compared_as_text() -> None:
    class Odd:
        content_type = "application/protobuf"
        schema_format = "application/vnd.google.protobuf;version=3"

        def __init__(self, text: str) -> None:
            self._text = text

        def schema(self) -> str:
            return self._text

        encode = decode = Protobuf.encode

    def odd(text: str) -> Json_:
        codec: Codec[Any] = Odd(text)  # type: ignore[assignment]
        return made("received", queue(codec=codec))

    assert diff(odd("nonsense {"), odd("nonsense {")) == []
    assert diff(odd("nonsense {"), odd("other")) == [Change(True, "some.queue", "the .proto file changed")]
