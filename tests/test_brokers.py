"""Which broker a channel lives on, under which name and with which options; several brokers in one process."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from memory_like import Tea, TeaOptions
from waiting import came

import unimsg
from unimsg import (
    AuthenticationError,
    Bus,
    CapabilityError,
    ConfigurationError,
    ConnectError,
    Context,
    EncodeError,
    PublishRejected,
    Queue,
    Service,
    Settings,
    Topic,
    registry,
)
from unimsg.adapter import Adapter, Address, ChannelOptions, Kind
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

Serve = Callable[[str, type[Adapter]], str]


@pytest.fixture
def tea(serve: Serve) -> str:
    Tea.forget()
    return serve("tea", Tea)


async def send_one(channel: Queue[Any], **settings: Any) -> None:
    async with unimsg.connect(settings=Settings(**settings)) as bus:
        await bus.send(channel, 1)


def ensured() -> dict[str, Any]:
    """The options that each channel of Tea was made with."""
    return {address.name: wanted.options for address, wanted in Tea.ensured}


# -- patterns


@pytest.mark.parametrize(
    ("channels", "name"),
    [
        ({"*": "all"}, "all"),
        ({"*": "all", "web.*": "web"}, "web"),
        ({"web.*": "web", "*": "all"}, "web"),
        ({"web.clicks": "exact", "web.*": "web", "web.click?": "one"}, "exact"),
        ({"web.*": "web", "web.clicks*": "longer"}, "longer"),
        ({"web.c*s": "literal", "web.c*": "prefix"}, "literal"),
        ({"*.clicks": "end", "web.*": "web"}, "web"),
        ({"shop.*": "shop", "WEB.*": "case", "web": "part"}, None),
        ({"[vw]eb.*": "set"}, "set"),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_the_most_specific_pattern_wins_whatever_the_order_of_the_file(
    channels: dict[str, str], name: str | None, turned: bool
) -> None:
    items = list(channels.items())
    found = Settings(channels={key: {"name": value} for key, value in (items[::-1] if turned else items)})
    assert found.channel("web.clicks").name == name


def test_patterns_are_merged_key_by_key_and_their_tables_too() -> None:
    settings = Settings(
        channels={
            "*": {"broker": "all", "max_body": 1, "kafka": {"partitions": 1, "compression": "gzip"}},
            "web.*": {"max_body": 2, "kafka": {"partitions": 2}},
            "web.clicks": {"kafka": {"partitions": 3}},
        }
    )
    assert settings.channel("web.clicks").model_dump(exclude_unset=True) == {
        "broker": "all",
        "max_body": 2,
        "kafka": {"partitions": 3, "compression": "gzip"},
    }
    assert settings.channel("shop.x").max_body == 1


# -- several brokers


async def test_a_pattern_sends_a_channel_to_another_broker(tea: str) -> None:
    settings = Settings(
        brokers={"default": {"url": "memory://"}, "analytics": {"url": tea}},
        channels={"web.*": {"broker": "analytics"}},
    )
    async with unimsg.connect(settings=settings) as bus:
        await bus.send(Queue("shop.orders", int), 1)
        assert Tea.connected == [], "a broker that nobody needs is not connected"
        await bus.send(Queue("web.clicks", int), 2)
        assert [(address.channel, wire.body) for address, wire in Tea.sent] == [("web.clicks", b"2")]
        assert len(Tea.connected) == 1


async def test_a_handler_of_one_broker_publishes_to_another_and_nothing_is_lost(tea: str) -> None:
    clicks = Queue("web.clicks", int)
    counted = Topic("shop.counted", int)
    service, got = Service("counter"), list[int]()

    @service.handler(clicks)
    async def count(body: int, context: Context) -> None:
        await context.publish(counted, body * 10)

    @service.handler(counted)
    async def collect(body: int) -> None:
        got.append(body)

    settings = Settings(
        brokers={"default": {"url": "memory://"}, "analytics": {"url": tea}},
        channels={"web.*": {"broker": "analytics"}},
    )
    async with unimsg.connect(service, settings=settings) as bus:
        for number in range(20):
            await bus.send(clicks, number)
        await came(got, [number * 10 for number in range(20)])
        assert {address.channel for address, _ in Tea.sent} == {"web.clicks"}
        health = await bus.health()
        assert (health.ready, list(health.problems)) == (True, [])


async def test_two_brokers_of_one_kind_are_two(tea: str) -> None:
    settings = Settings(
        brokers={"one": {"url": tea}, "two": {"url": tea}},
        channels={"a.*": {"broker": "one"}, "b.*": {"broker": "two"}},
    )
    async with unimsg.connect(settings=settings) as bus:
        await bus.send(Queue("a.x", int), 1)
        await bus.send(Queue("b.x", int), 1)
    assert len(Tea.connected) == 2


async def test_a_process_whose_brokers_have_other_names_needs_no_default(tea: str) -> None:
    await send_one(Queue("a.x", int), brokers={"one": {"url": tea}}, channels={"*": {"broker": "one"}})
    assert len(Tea.sent) == 1


async def test_a_broker_that_is_not_configured_is_an_error_with_a_suggestion(tea: str) -> None:
    with pytest.raises(ConfigurationError, match=r"brokers\.analytic is not configured; did you mean analytics\?"):
        await send_one(
            Queue("web.clicks", int),
            brokers={"default": {"url": "memory://"}, "analytics": {"url": tea}},
            channels={"web.*": {"broker": "analytic"}},
        )
    with pytest.raises(ConfigurationError, match=r"brokers\.default is not configured; known: analytics"):
        await send_one(Queue("web.clicks", int), brokers={"analytics": {"url": tea}})


async def test_a_handler_on_such_a_broker_is_found_at_the_start(tea: str) -> None:
    service = Service("counter")

    @service.handler(Queue("web.clicks", int))
    async def count(body: int) -> None:
        print(body)

    settings = Settings(url="memory://", channels={"web.*": {"broker": "nowhere"}})
    with pytest.raises(ConfigurationError, match="nowhere is not configured"):
        async with unimsg.connect(service, settings=settings):
            pass


# -- names


async def test_the_prefix_stands_before_every_channels_name(tea: str) -> None:
    await send_one(Queue("shop.orders", int), url=tea, prefix="ann.")
    assert [address for address, _ in Tea.sent] == [Address("ann.shop.orders", Kind.QUEUE)]


async def test_a_name_of_its_own_is_taken_as_it_is(tea: str) -> None:
    await send_one(
        Queue("shop.orders", int), url=tea, prefix="ann.", channels={"shop.orders": {"name": "PROD-Orders_1"}}
    )
    assert [address.channel for address, _ in Tea.sent] == ["PROD-Orders_1"]


async def test_senders_and_receivers_with_other_prefixes_do_not_meet() -> None:
    orders, service, got = Queue("shop.orders", int), Service("shop"), list[int]()

    @service.handler(orders)
    async def collect(body: int) -> None:
        got.append(body)

    async with (
        unimsg.connect(service, settings=Settings(url="memory://", prefix="ann.")) as ann,
        unimsg.connect(settings=Settings(url="memory://", prefix="bob.")) as bob,
    ):
        await bob.send(orders, 2)
        await ann.send(orders, 1)
        await came(got, [1])
        assert MemoryBroker.current().queues["bob.shop.orders"].waiting == 1


async def test_a_queue_and_a_topic_never_share_a_name(tea: str) -> None:
    async with unimsg.connect(url=tea) as bus:
        await bus.send(Queue("shop.orders", int), 1)
        with pytest.raises(ConfigurationError, match=r"shop\.orders is declared twice, differently"):
            await bus.publish(Topic("shop.orders", int), 1)


async def test_one_name_has_one_order() -> None:
    service = Service("shop")

    @service.handler(Queue("shop.orders", int))
    async def handle(body: int) -> None:
        print(body)

    async with unimsg.connect(service, url="memory://") as bus:
        with pytest.raises(ConfigurationError, match=r"shop\.orders is declared twice, differently"):
            await bus.send(Queue("shop.orders", int, ordered=True), 1, key="k")


async def test_the_same_declaration_twice_is_one_channel(tea: str) -> None:
    async with unimsg.connect(url=tea) as bus:
        await bus.send(Queue("shop.orders", int), 1)
        await bus.send(Queue("shop.orders", int), 2)
    assert [wire.body for _, wire in Tea.sent] == [b"1", b"2"]


# -- options


async def test_of_the_options_given_to_a_channel_those_of_its_broker_apply(tea: str) -> None:
    options: list[ChannelOptions] = [MemoryOptions(max_length=5), TeaOptions(sugar=2), ChannelOptions(max_body=10)]
    await send_one(Queue("shop.orders", int, options=options), url=tea)
    assert ensured() == {"shop.orders": TeaOptions(sugar=2, max_body=10)}


async def test_what_is_configured_wins_over_the_code_key_by_key(tea: str) -> None:
    channel = Queue("shop.orders", int, options=[TeaOptions(sugar=2, max_length=7)])
    settings = {"*": {"tea": {"sugar": 3}}, "shop.orders": {"max_body": 20, "memory": {"max_length": 1}}}
    await send_one(channel, url=tea, channels=settings)
    assert ensured() == {"shop.orders": TeaOptions(sugar=3, max_length=7, max_body=20)}


async def test_partitions_are_part_of_the_address_of_an_ordered_channel(tea: str) -> None:
    async with unimsg.connect(settings=Settings(url=tea, channels={"b.*": {"tea": {"partitions": 3}}})) as bus:
        await bus.send(Queue("a.x", int, ordered=True), 1, key="k")
        await bus.send(Queue("b.x", int, ordered=True), 1, key="k")
        await bus.send(Queue("b.y", int), 1)
    assert [address.partitions for address, _ in Tea.sent] == [8, 3, 0]


async def test_a_misspelt_option_of_a_channel_is_an_error_with_a_suggestion(tea: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"channels\.shop\.orders\.tea\.suger: unknown option; did you mean sugar\?"
    ):
        await send_one(Queue("shop.orders", int), url=tea, channels={"shop.*": {"tea": {"suger": 3}}})


async def test_a_wrong_value_of_an_option_is_an_error_that_names_it(tea: str) -> None:
    with pytest.raises(ConfigurationError, match=r"channels\.shop\.orders\.tea\.sugar: Input should be a valid int"):
        await send_one(Queue("shop.orders", int), url=tea, channels={"shop.*": {"tea": {"sugar": "much"}}})


async def test_a_table_of_no_broker_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match=r"channels\.shop\.orders\.kafak: .*did you mean kafka\?"):
        await send_one(Queue("shop.orders", int), url="memory://", channels={"shop.*": {"kafak": {"partitions": 3}}})


async def test_a_table_of_a_configured_broker_may_stand_at_a_channel_of_another(tea: str) -> None:
    """The channel may be there tomorrow, or be there in another stage."""
    await send_one(
        Queue("shop.orders", int),
        brokers={"default": {"url": "memory://"}, "other": {"url": tea}},
        channels={"*": {"tea": {"sugar": 3}, "kafka": {"partitions": 3}}},
    )


async def test_a_body_may_be_as_large_as_the_channel_says(tea: str) -> None:
    async with unimsg.connect(settings=Settings(url=tea, channels={"small.*": {"max_body": 3}})) as bus:
        await bus.send(Queue("small.x", bytes), b"123")
        with pytest.raises(EncodeError, match=r"small\.x: a body of 4 bytes, at most 3"):
            await bus.send(Queue("small.x", bytes), b"1234")
        await bus.send(Queue("large.x", bytes), bytes(1_000_000))
        with pytest.raises(EncodeError, match="a body of 1000001 bytes, at most 1000000"):
            await bus.send(Queue("large.x", bytes), bytes(1_000_001))
        large = Queue("larger.x", bytes, options=[ChannelOptions(max_body=2_000_000)])
        await bus.send(large, bytes(1_500_000))
    assert [len(wire.body) for _, wire in Tea.sent] == [3, 1_000_000, 1_500_000]


async def test_a_body_beyond_what_the_broker_can_do_is_a_capability_error() -> None:
    most = MemoryAdapter.capabilities.max_body
    channel = Queue("shop.orders", bytes, options=[ChannelOptions(max_body=most + 1)])
    with pytest.raises(CapabilityError, match=rf"shop\.orders: max_body = {most + 1}, and memory takes {most}"):
        await send_one(channel, url="memory://")


# -- the URL's scheme, and its client


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ampq://localhost", r"brokers\.default\.url: unknown scheme ampq://; did you mean amqp\?"),
        ("http://localhost", r"unknown scheme http://"),
        ("localhost:5672", r"brokers\.default\.url must begin with a scheme, as in amqp://localhost"),
        ("", r"must begin with a scheme"),
        ("memory://host", r"takes no host"),
        ("memory://?colour=red", r"colour: unknown option"),
        ("memory://?conect_timeout=1", r"conect_timeout: unknown option; did you mean connect_timeout\?"),
        ("memory://?connect_timeout=soon", r"connect_timeout: Input should be a valid number"),
        ("amqp://localhost?hartbeat=5", r"hartbeat: unknown option; did you mean heartbeat\?"),
        ("kafka://localhost?sals=plain", r"sals: unknown option; did you mean sasl\?"),
        ("pubsub://project?colour=red", r"colour: unknown option"),
    ],
)
async def test_a_url_that_is_wrong_is_an_error_before_any_network(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        async with unimsg.connect(url=url):
            pass


@pytest.mark.parametrize(
    ("url", "blocked", "extra"),
    [
        ("amqp://localhost", ["aiormq", "aio_pika"], "unimsg[rabbitmq]"),
        ("amqps://localhost", ["aiormq", "aio_pika"], "unimsg[rabbitmq]"),
        ("kafka://localhost", ["aiokafka"], "unimsg[kafka]"),
        ("pubsub://project", ["google.pubsub_v1", "google.auth", "google.api_core", "grpc"], "unimsg[pubsub]"),
    ],
)
async def test_a_missing_client_is_an_error_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, url: str, blocked: list[str], extra: str
) -> None:
    ours = ("unimsg_rabbitmq", "unimsg_kafka", "unimsg_pubsub")
    for name in list(sys.modules):
        if name.startswith((*ours, *(f"{client}." for client in blocked))):
            monkeypatch.delitem(sys.modules, name)
    for client in blocked:
        monkeypatch.setitem(sys.modules, client, None)  # as if it were not installed
    with pytest.raises(ConfigurationError) as caught:
        async with unimsg.connect(url=url):
            pass
    assert str(caught.value).endswith(f": pip install '{extra}'")
    assert any(client in str(caught.value) for client in blocked), f"it names the client: {caught.value}"


def test_an_adapter_of_somebody_else_can_be_registered_and_taken_back() -> None:
    registry.register("tea", Tea)
    try:
        adapter = registry.adapter_for("x", Settings(url="tea://").brokers["default"])
        assert isinstance(adapter, Tea)
    finally:
        registry.register("tea", None)
        registry.register("tea", None)  # twice is once
    with pytest.raises(ConfigurationError, match="unknown scheme tea://"):
        registry.adapter_for("x", Settings(url="tea://").brokers["default"])


# -- connecting


async def test_a_broker_that_cannot_be_reached_at_the_start_is_an_error_and_nothing_is_started(tea: str) -> None:
    Tea.fails_to_connect = ConnectError("tea: nobody listens on localhost", reason="refused")
    entered: list[str] = []

    def lifespan(bus: Bus) -> Any:  # a context manager that must not be made
        entered.append("lifespan")

    service: Service[None] = Service("shop", lifespan=lifespan)
    service.handler(Queue("shop.orders", int))(print_it)
    with pytest.raises(ConnectError, match="nobody listens") as caught:
        async with unimsg.connect(service, url=tea):
            entered.append("block")
    assert (caught.value.reason, entered, Tea.ensured) == ("refused", [], [])


async def print_it(body: int) -> None:
    print(body)


async def test_a_refused_login_at_the_start_is_an_authentication_error(tea: str) -> None:
    Tea.fails_to_connect = AuthenticationError("tea: the user ann is refused")
    with pytest.raises(AuthenticationError, match="ann is refused"):
        async with unimsg.connect(url=tea):
            pass


async def test_a_second_broker_that_cannot_be_reached_fails_the_send_and_the_next_tries_again(tea: str) -> None:
    settings = Settings(
        brokers={"default": {"url": "memory://"}, "other": {"url": tea}}, channels={"web.*": {"broker": "other"}}
    )
    clicks = Queue("web.clicks", int)
    Tea.fails_to_connect = ConnectError("tea: nobody listens", reason="refused")
    async with unimsg.connect(settings=settings) as bus:
        for _ in range(2):
            with pytest.raises(PublishRejected, match=r"web\.clicks: not sent: tea: nobody listens") as caught:
                await bus.send(clicks, 1, id="7")
            assert (caught.value.channel, caught.value.message_id) == ("web.clicks", "7")
        Tea.fails_to_connect = None
        await bus.send(clicks, 1)
        assert len(Tea.connected) == 3


async def test_concurrent_first_sends_share_one_connection_and_one_making_of_the_channel(tea: str) -> None:
    orders = Queue("shop.orders", int, ordered=True)
    async with unimsg.connect(url=tea) as bus:
        await asyncio.gather(*(bus.send(orders, number, key="k") for number in range(50)))
    assert (len(Tea.connected), len(Tea.ensured)) == (1, 1)
    assert [wire.body for _, wire in Tea.sent] == [b"%d" % number for number in range(50)], "in the order of the calls"


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"url": "tea://"}, 10.0),
        ({"url": "tea://?connect_timeout=3"}, 3.0),
        ({"brokers": {"default": {"url": "tea://?connect_timeout=3", "connect_timeout": 4}}}, 4.0),
    ],
    ids=["default", "in the URL", "in the table"],
)
async def test_the_first_connection_has_the_configured_deadline(
    tea: str, settings: dict[str, Any], seconds: float
) -> None:
    async with unimsg.connect(settings=Settings(**settings)):
        assert Tea.connected == [seconds]
