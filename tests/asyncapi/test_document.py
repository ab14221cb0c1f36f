"""The document of services: valid AsyncAPI 3.0, complete, and without secrets."""

import copy
import functools
import inspect
import json
from typing import Any

import pytest
import sample_shop as shop
from official import problems, validator
from pydantic import BaseModel

import unimsg
from unimsg.asyncapi import document, to_json, to_yaml
from unimsg.asyncapi._text import read
from unimsg.config import Settings
from unimsg.errors import ConfigurationError

URLS = {
    "rabbitmq": "amqps://maria:hunter2@rabbit.prod,rabbit2.prod:5672/shop",
    "kafka": "kafkas://maria:hunter2@k1:9093,k2?sasl=scram-sha-512",
    "pubsub": "pubsub://acme",
    "memory": "memory://",
}
PREFIXES = {"rabbitmq": "cloudEvents:", "kafka": "ce_", "pubsub": "ce-", "memory": "ce-"}
BROKERS = pytest.mark.parametrize("broker", URLS)


@functools.cache
def _made(broker: str) -> dict[str, Any]:
    return document(*shop.SERVICES, settings=Settings(url=URLS[broker], prefix="ann."))


def made(broker: str = "rabbitmq") -> dict[str, Any]:
    return copy.deepcopy(_made(broker))


def message(channel: str, key: str | None = None, broker: str = "rabbitmq") -> dict[str, Any]:
    found: dict[str, Any] = made(broker)["channels"][channel]["messages"][key or channel]
    return found


def receiving(service: str, source: str, broker: str = "rabbitmq") -> dict[str, Any]:
    found: dict[str, Any] = made(broker)["operations"][f"{service}.receive.{source}"]
    return found


# -- as a whole


@BROKERS
def test_it_is_valid_by_the_official_schema(broker: str) -> None:
    assert problems(validator(), made(broker)) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made["channels"]["orders.place"].update(colour="red"),
        lambda made: made["operations"]["orders.send.orders.placed"].update(action="shout"),
        lambda made: made["components"]["schemas"]["Quote"].update(type="objekt"),
        lambda made: made["info"].pop("version"),
    ],
    ids=["channel", "operation", "schema", "info"],
)
def test_the_official_schema_would_notice(spoil: Any) -> None:
    spoiled = made()
    spoil(spoiled)
    assert problems(validator(), spoiled) != []


@BROKERS
def test_every_reference_leads_somewhere(broker: str) -> None:
    whole = made(broker)
    for reference in references(whole):
        target: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            assert step in target, reference
            target = target[step]


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [each for value in part.values() for each in references(value)]
    return [each for value in part for each in references(value)] if isinstance(part, list) else []


@BROKERS
def test_messages_of_an_operation_are_messages_of_its_channel(broker: str) -> None:
    for operation in made(broker)["operations"].values():
        start = operation["channel"]["$ref"] + "/messages/"
        assert all(each["$ref"].startswith(start) for each in operation["messages"])


@BROKERS
def test_no_user_and_no_password_is_shown(broker: str) -> None:
    text = to_json(made(broker)) + to_yaml(made(broker))
    assert "hunter2" not in text
    assert "maria" not in text


def test_no_secret_is_read() -> None:
    settings = Settings(brokers={"default": {"url": "amqps://a@rabbit.prod", "password_file": "/nowhere/secret"}})
    assert document(shop.orders, settings=settings)["servers"]["default"]["host"] == "rabbit.prod:5671"


@BROKERS
def test_json_and_yaml_say_the_same(broker: str) -> None:
    assert read(to_json(made(broker))) == read(to_yaml(made(broker))) == made(broker)


def test_it_is_the_same_each_time() -> None:
    once = document(*shop.SERVICES, settings=Settings(url="amqp://localhost"))
    assert to_json(once) == to_json(document(*shop.SERVICES, settings=Settings(url="amqp://localhost")))


@pytest.mark.parametrize("text", ["[1]", "{", "a: [", "openapi: 3.0.0", "asyncapi: 2.6.0", "", "{}"])
def test_what_is_no_document_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"AsyncAPI 3 document|neither JSON nor YAML"):
        read(text)


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(ConfigurationError, match="neither JSON nor YAML"):
        read("asyncapi: 3.0.0\nx: !!python/object/apply:os.getcwd []")


# -- services


def test_title_and_version_can_be_said() -> None:
    info = document(shop.orders, settings=Settings(url="memory://"), title="Shop", version="1.2.3")["info"]
    assert (info["title"], info["version"]) == ("Shop", "1.2.3")


def test_the_docstring_of_its_module_describes_a_service() -> None:
    info = document(shop.orders, settings=Settings(url="memory://"))["info"]
    assert info["title"] == "orders"
    assert info["description"] == inspect.getdoc(shop)


def test_no_service_makes_an_empty_document() -> None:
    empty = document(settings=Settings(url="memory://"))
    assert (empty["channels"], empty["operations"]) == ({}, {})
    assert problems(validator(), empty) == []


def test_two_services_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two services are called orders"):
        document(shop.orders, unimsg.Service("orders"), settings=Settings(url="memory://"))


def test_a_channel_that_is_declared_twice_differently_is_refused() -> None:
    other = unimsg.Service("other", sends=[unimsg.Topic("orders.place", int)])
    with pytest.raises(ConfigurationError, match=r"orders\.place is declared twice, differently"):
        document(shop.orders, other, settings=Settings(url="memory://"))


def test_a_channel_that_is_declared_twice_alike_has_the_messages_of_both() -> None:
    first = unimsg.Service("first", sends=[unimsg.Topic("orders.some", shop.Paid)])
    second = unimsg.Service("second", sends=[unimsg.Topic("orders.some", shop.Refused)])
    found = document(first, second, settings=Settings(url="memory://"))
    assert list(found["channels"]["orders.some"]["messages"]) == ["com.acme_paid.v2", "com.acme.refused"]


@pytest.mark.parametrize("wrong", [["orders.place"], [shop.Order], [None]], ids=str)
def test_a_service_sends_to_channels_only(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"service orders: sends= takes queues and topics"):
        unimsg.Service("orders", sends=wrong)


def test_nothing_configured_is_the_broker_in_memory(elsewhere: object) -> None:
    found = document(shop.orders)
    assert "servers" not in found
    assert found["channels"]["orders.place"]["address"] == "orders.place"


def test_without_settings_those_of_the_environment_count(elsewhere: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMSG_URL", "amqp://rabbit.test")
    assert document(shop.orders)["servers"]["default"]["host"] == "rabbit.test:5672"


def test_a_broker_that_is_not_configured_is_an_error() -> None:
    settings = Settings(url="memory://", channels={"orders.*": {"broker": "defualt"}})
    with pytest.raises(ConfigurationError, match=r"brokers\.defualt is not configured; did you mean default"):
        document(shop.orders, settings=settings)


# -- servers and channels


def test_servers_are_the_hosts_of_the_brokers_in_use() -> None:
    rabbit, kafka, pubsub = (made(broker)["servers"] for broker in ("rabbitmq", "kafka", "pubsub"))
    assert [(each["host"], each["protocol"]) for each in rabbit.values()] == [
        ("rabbit.prod:5671", "amqps"),
        ("rabbit2.prod:5672", "amqps"),
    ]
    assert rabbit["default"]["pathname"] == "/shop"
    assert rabbit["default"]["security"] == [{"type": "userPassword"}]
    assert [(each["host"], each["protocol"]) for each in kafka.values()] == [
        ("k1:9093", "kafka-secure"),
        ("k2:9093", "kafka-secure"),
    ]
    assert kafka["default"]["security"] == [{"type": "scramSha512"}]
    assert pubsub["default"]["host"] == "pubsub.googleapis.com:443"
    assert pubsub["default"]["protocol"] == "googlepubsub"
    assert "servers" not in made("memory")


def test_each_channel_names_its_own_broker() -> None:
    settings = Settings(
        brokers={
            "default": {"url": "amqp://rabbit.test"},
            "fast": {"url": "kafka://k1"},
            "unused": {"url": "amqp://x"},
        },
        channels={"orders.placed": {"broker": "fast", "name": "theirs"}},
    )
    found = document(shop.orders, settings=settings)
    assert sorted(found["servers"]) == ["default", "fast"]
    assert found["channels"]["orders.placed"]["servers"] == [{"$ref": "#/servers/fast"}]
    assert found["channels"]["orders.placed"]["address"] == "theirs"
    assert found["channels"]["orders.place"]["servers"] == [{"$ref": "#/servers/default"}]
    assert problems(validator(), found) == []


def test_a_queue_says_what_it_is() -> None:
    channel = made()["channels"]["orders.place"]
    assert channel["address"] == "ann.orders.place"
    assert channel["tags"] == [{"name": "queue"}]
    assert channel["description"] == (
        "Queue: each message goes to one receiver. Messages of one key (made of `customer`) are handled in the order "
        "sent. A message that was not handled after 1 hour is dropped."
    )
    assert channel["x-unimsg"] == {
        "channel": "queue",
        "ordered": True,
        "key": "customer",
        "partitions": 4,
        "ttl": 3600,
    }


def test_a_topic_says_how_far_back_it_goes() -> None:
    channel = made()["channels"]["orders.placed"]
    assert channel["x-unimsg"] == {"channel": "topic", "ordered": False, "history": 2 * 86400}
    assert "its history goes back 2 days" in channel["description"]


def test_a_reply_queue_is_told_from_others() -> None:
    channel = made()["channels"]["orders.answers"]
    assert channel["address"] == "ann.unimsg.reply.orders.answers"
    assert list(channel["messages"]) == ["orders.answers", "unimsg.error"]
    assert channel["x-unimsg"]["replies"] is True


def test_a_name_that_needs_escaping_stands_whole_beside_its_key() -> None:
    messages = made()["channels"]["orders.outcome"]["messages"]
    assert {key: each["name"] for key, each in messages.items()} == {
        "com.acme_paid.v2": "com.acme/paid.v2",
        "com.acme.refused": "com.acme.refused",
        "com.acme.paid.v1": "com.acme.paid.v1",
    }


def test_names_that_are_alike_once_escaped_have_keys_of_their_own() -> None:
    @unimsg.message("a/b")
    class One(BaseModel): ...

    @unimsg.message("a_b")
    class Two(BaseModel): ...

    service = unimsg.Service("some", sends=[unimsg.Topic("some.topic", One | Two)])
    messages = document(service, settings=Settings(url="memory://"))["channels"]["some.topic"]["messages"]
    assert {key: each["name"] for key, each in messages.items()} == {"a_b": "a/b", "a_b-2": "a_b"}


# -- keys


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (lambda o: o.customer, "customer"),
        (lambda o: o.to.city, "to.city"),
        (lambda o: o["customer"], "customer"),
        (lambda o: o["to"].city, "to.city"),
        (lambda o: str(o.customer), "customer"),
        (lambda o: f"{o.to.city}/{o.customer}", "{to.city}/{customer}"),
        (lambda o: f"{o.customer:>10}", "customer"),
        (lambda o: "all", "made from the body"),
        (lambda o: o.customer.lower(), "made from the body"),
        (lambda o: o.customer + "x", "made from the body"),
        (lambda o: next(iter(o.items)), "made from the body"),
        (lambda o: 1 / 0, "made from the body"),
        (lambda o: o.customer if o.note is None else "x", "made from the body"),
    ],
)
def test_what_a_key_is_made_of_is_told_where_it_can_be_seen(key: Any, text: str) -> None:
    service = unimsg.Service("some", sends=[unimsg.Queue("some.queue", shop.Order, key=key)])
    facts = document(service, settings=Settings(url="memory://"))["channels"]["some.queue"]["x-unimsg"]
    assert facts["key"] == text


# -- operations


def test_each_handler_is_an_operation() -> None:
    operation = receiving("orders", "orders.place")
    assert operation["action"] == "receive"
    assert operation["title"] == "take"
    assert operation["summary"] == "Takes an order, if the kitchen is open."
    assert operation["description"] == "It is *refused* where it is not."
    assert operation["x-unimsg"] == {
        "service": "orders",
        "handler": "take",
        "retry": [1, 5],
        "timeout": 300,
        "deadLetters": "ann.orders.place..dead",
    }


def test_a_subscription_is_an_operation_with_dead_letters_of_its_own() -> None:
    operation = receiving("billing", "orders.outcome..audit")
    assert operation["x-unimsg"] == {
        "service": "billing",
        "handler": "audit",
        "subscription": "audit",
        "retry": [],
        "timeout": 7,
        "deadLetters": "ann.orders.outcome..audit..dead",
        "handledOnce": True,
    }


def test_a_batch_says_its_size() -> None:
    assert receiving("billing", "logs.lines")["x-unimsg"]["batch"] == {"size": 10, "within": 2}


def test_settings_of_handlers_win() -> None:
    settings = Settings(url="memory://", handlers={"orders.outcome/audit": {"retry": [3], "timeout": 9}})
    facts = document(shop.billing, settings=settings)["operations"]["billing.receive.orders.outcome..audit"]["x-unimsg"]
    assert (facts["retry"], facts["timeout"]) == ([3], 9)


def test_channels_that_a_service_only_sends_to_are_there() -> None:
    operation = made()["operations"]["orders.send.orders.invoices"]
    assert operation["action"] == "send"
    assert operation["messages"] == [{"$ref": "#/channels/orders.invoices/messages/orders.invoices"}]
    assert operation["tags"] == [{"name": "orders"}]


def test_what_is_only_read_is_not_among_what_is_sent() -> None:
    """Old types, and the other codecs of a channel."""
    sent = made()["operations"]["orders.send.orders.outcome"]["messages"]
    assert [each["$ref"].rpartition("/")[2] for each in sent] == ["com.acme_paid.v2", "com.acme.refused"]
    read_ = receiving("billing", "orders.outcome..audit")["messages"]
    assert len(read_) == 3
    assert message("orders.outcome", "com.acme.paid.v1")["deprecated"] is True


def test_a_handler_may_be_anything_that_can_be_called() -> None:
    class Called:
        """Is called."""

        async def __call__(self, body: str) -> None: ...

        async def bound(self, body: str) -> None:
            """Is bound."""

    async def partly(more: int, body: str) -> None:
        """Is partly applied."""

    service = unimsg.Service("some")
    service.handler(unimsg.Queue("some.called", str))(Called())
    service.handler(unimsg.Queue("some.bound", str))(Called().bound)
    service.handler(unimsg.Queue("some.partly", str))(functools.partial(partly, 1))
    operations = document(service, settings=Settings(url="memory://"))["operations"].values()
    assert [each["summary"] for each in operations] == ["Is called.", "Is bound.", "Is partly applied."]


# -- replies


def test_a_channel_with_replies_says_how_it_is_answered() -> None:
    for operation in (receiving("billing", "prices.quote"), made()["operations"]["orders.send.prices.quote"]):
        assert operation["reply"]["address"]["location"] == "$message.header#/cloudEvents:replyto"
        assert operation["reply"]["channel"] == {"$ref": "#/channels/prices.quote..reply"}
        assert [each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]] == [
            "prices.quote.reply",
            "unimsg.error",
        ]
    channel = made()["channels"]["prices.quote..reply"]
    assert channel["address"] is None
    assert channel["messages"]["prices.quote.reply"]["payload"] == {"$ref": "#/components/schemas/Quote"}
    assert channel["messages"]["prices.quote.reply"]["correlationId"] == {
        "$ref": "#/components/correlationIds/rabbitmq-request"
    }


def test_replies_may_be_of_several_types() -> None:
    messages = made()["channels"]["prices.offers..reply"]["messages"]
    assert list(messages) == ["com.acme_paid.v2", "com.acme.refused", "unimsg.error"]


def test_a_channel_without_replies_has_none() -> None:
    assert "reply" not in receiving("orders", "orders.place")
    assert "orders.place..reply" not in made()["channels"]


# -- headers, kinds, correlation


@BROKERS
def test_headers_are_those_of_the_broker(broker: str) -> None:
    whole = made(broker)
    prefix = PREFIXES[broker]
    names = whole["components"]["schemas"][f"{broker}-headers"]["properties"]
    wanted = ["id", "specversion", "source", "type", "time", "messagekind", "partitionkey", "correlationid"]
    wanted += ["causationid", "expirytime", "replyto"]
    assert set(names) == {"content-type", *(prefix + name for name in wanted)}
    own = whole["channels"]["orders.outcome"]["messages"]["com.acme.refused"]["headers"]["allOf"][1]["properties"]
    assert own == {f"{prefix}messagekind": {"const": "event"}, f"{prefix}type": {"const": "com.acme.refused"}}
    ids = whole["components"]["correlationIds"]
    assert ids[f"{broker}-conversation"]["location"] == f"$message.header#/{prefix}correlationid"
    assert ids[f"{broker}-request"]["location"] == f"$message.header#/{prefix}causationid"


def test_of_what_it_sends_a_service_says_which_headers_are_there() -> None:
    own = message("clock.ticks")["headers"]["allOf"][1]
    assert "cloudEvents:partitionkey" in own["required"]
    assert "cloudEvents:expirytime" not in own["required"]
    assert "required" not in message("orders.place")["headers"]["allOf"][1]


def test_a_body_without_a_type_of_its_own_is_read_whatever_the_type_says() -> None:
    assert message("orders.place")["x-unimsg"] == {"kind": "command", "anyType": True}
    assert message("orders.outcome", "com.acme.refused")["x-unimsg"] == {"kind": "event"}
    assert message("clock.ticks")["x-unimsg"]["kind"] == "document"


def test_where_it_is_read_and_written_both_forms_are_told() -> None:
    found = message("orders.placed")
    components = made()["components"]["schemas"]
    read_, written = (
        components[each["$ref"].rpartition("/")[2]] for each in (found["payload"], found["x-unimsg"]["written"])
    )
    assert read_["required"] == ["number", "customer"]
    assert written["required"] == ["number", "customer", "tags"]
    assert "written" not in message("orders.place")["x-unimsg"]


# -- bindings


def test_bindings_of_rabbitmq() -> None:
    channels = made()["channels"]
    queue = channels["orders.place"]["bindings"]["amqp"]
    assert queue["is"] == "queue"
    assert queue["queue"] == {
        "name": "ann.orders.place",
        "durable": True,
        "autoDelete": False,
        "exclusive": False,
        "vhost": "shop",
    }
    assert queue["x-queues"] == [f"ann.orders.place..p{number}" for number in range(4)]
    topic = channels["orders.placed"]["bindings"]["amqp"]
    assert (topic["is"], topic["exchange"]["name"], topic["exchange"]["type"]) == (
        "routingKey",
        "ann.orders.placed",
        "direct",
    )
    assert message("orders.place")["bindings"]["amqp"]["messageType"] == "orders.place"
    assert receiving("orders", "orders.place")["bindings"]["amqp"]["ack"] is True
    assert made()["operations"]["orders.send.orders.placed"]["bindings"]["amqp"]["deliveryMode"] == 2


def test_bindings_of_kafka() -> None:
    channel = made("kafka")["channels"]["orders.place"]["bindings"]["kafka"]
    assert channel == {
        "topic": "ann.orders.place",
        "partitions": 12,
        "replicas": 3,
        "topicConfiguration": {"retention.ms": 604800000, "cleanup.policy": ["delete"]},
        "bindingVersion": "0.5.0",
    }
    group = receiving("billing", "orders.outcome..audit", "kafka")["bindings"]["kafka"]["groupId"]
    assert group == {"type": "string", "enum": ["ann.orders.outcome..audit"]}
    assert message("orders.place", broker="kafka")["bindings"]["kafka"]["key"]["description"] == "customer"
    assert "bindings" not in message("logs.lines", broker="kafka")


def test_bindings_of_pubsub() -> None:
    assert message("orders.place", broker="pubsub")["bindings"]["googlepubsub"]["orderingKey"] == "customer"
    assert message("clock.ticks", broker="pubsub")["bindings"]["googlepubsub"]["orderingKey"] == (
        "given by the sender with each message"
    )


def test_json_is_json() -> None:
    assert json.loads(to_json(made())) == made()
