"""Declaring services and handlers: what is wrong is said at the decorator."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import unimsg
from unimsg import ConfigurationError, Context, Queue, Service, Settings, Topic

pytestmark = pytest.mark.usefixtures("elsewhere")

orders = Queue("shop.orders", int)
events = Topic("shop.events", int)


async def takes_body(body: int) -> None: ...


async def takes_both(body: int, context: Context) -> None: ...


def declare(function: Any, channel: Queue[int] | Topic[int] = orders, **more: Any) -> Service[None]:
    service = Service("shop")
    decorator: Any = service.handler
    assert decorator(channel, **more)(function) is function, "the function stays what it was"
    return service


# -- signatures


class Methods:
    async def bound(self, body: int) -> None: ...

    async def bound_with_context(self, body: int, context: Context) -> None: ...

    def plain(self, body: int) -> None: ...

    async def __call__(self, body: int) -> None: ...


async def with_default(body: int, more: int = 5) -> None: ...


async def positional_only(body: int, /) -> None: ...


async def with_keyword(body: int, *, more: int = 5) -> None: ...


async def with_rest(body: int, *rest: Any, **named: Any) -> None: ...


async def configured(rate: float, body: int, context: Context) -> None: ...


def plain(body: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes_context", "is_async"),
    [
        (takes_body, False, True),
        (takes_both, True, True),
        (plain, False, False),
        (Methods().bound, False, True),
        (Methods().bound_with_context, True, True),
        (Methods().plain, False, False),
        (Methods(), False, True),
        (with_default, False, True),
        (positional_only, False, True),
        (with_keyword, False, True),
        (with_rest, False, True),
        (functools.partial(configured, 0.2), True, True),
        (lambda body: None, False, False),
        (print, None, None),
    ],
    ids=lambda value: getattr(value, "__qualname__", type(value).__name__),
)
def test_what_takes_a_body_or_a_body_and_a_context_is_a_handler(
    function: Callable[..., Any], takes_context: bool | None, is_async: bool | None
) -> None:
    if takes_context is None:
        with pytest.raises(ConfigurationError, match="must take"):
            declare(function)
        return
    [handler] = declare(function).handlers
    assert (handler.takes_context, handler.is_async) == (takes_context, is_async)


async def nothing() -> None: ...


async def three(body: int, context: Context, more: int) -> None: ...


async def only_keyword(*, body: int) -> None: ...


async def wants_keyword(body: int, *, more: int) -> None: ...


async def rest(*bodies: int) -> None: ...


@pytest.mark.parametrize("function", [nothing, three, only_keyword, wants_keyword, rest], ids=lambda f: f.__name__)
def test_another_signature_is_refused_and_the_handler_named(function: Callable[..., Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"shop\.orders: handler {function.__name__} must take \(body\) or \(body, context\)"
    ):
        declare(function)


def test_a_plain_function_with_a_context_is_refused() -> None:
    def sync(body: int, context: Context) -> None: ...

    with pytest.raises(ConfigurationError, match=r"handler .*sync takes a context and must be async def"):
        declare(sync)


def test_a_function_with_a_yield_is_refused() -> None:
    async def agen(body: int) -> AsyncIterator[int]:
        yield body

    def gen(body: int) -> Iterator[int]:
        yield body

    for function in (agen, gen):
        with pytest.raises(ConfigurationError, match=rf"handler .*{function.__name__} has a yield"):
            declare(function)


@pytest.mark.parametrize("function", [None, 5, "place", dict])
def test_what_is_no_function_is_refused(function: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^shop\.orders: "):
        declare(function)


# -- options


@pytest.mark.parametrize("more", [{"concurrency": 0}, {"concurrency": -1}, {"timeout": 0}, {"timeout": -1}])
def test_a_count_or_time_that_makes_no_sense_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"shop\.orders: concurrency must be 1 or more, timeout more than 0"):
        declare(takes_body, **more)


@pytest.mark.parametrize("what", ["replay"])
def test_what_does_not_exist_yet_is_never_accepted_and_ignored(what: str) -> None:
    with pytest.raises((TypeError, ConfigurationError), match=what):
        declare(takes_body, orders, **{what: 5})


@pytest.mark.parametrize("store", [5, "memory", object(), unimsg.MemoryStore])
def test_a_store_is_one(store: object) -> None:
    with pytest.raises(ConfigurationError, match=r"shop\.orders: store must be a Store, not "):
        declare(takes_body, store=store)
    declare(takes_body, store=unimsg.MemoryStore())


def test_a_queue_has_no_subscriptions() -> None:
    with pytest.raises(ConfigurationError, match=r"shop\.orders is a queue: only topics have subscriptions"):
        declare(takes_body, orders, subscription="mail")


def test_a_topics_subscription_is_named_after_the_service_unless_said_otherwise() -> None:
    [default] = declare(takes_body, events).handlers
    [named] = declare(takes_body, events, subscription="mail").handlers
    assert (default.source, named.source) == ("shop.events/shop", "shop.events/mail")


@pytest.mark.parametrize("subscription", ["", "Mail", "dead", "retry", "p1", "m"])
def test_a_bad_subscription_name_is_refused(subscription: str) -> None:
    with pytest.raises(ConfigurationError, match="subscription name"):
        declare(takes_body, events, subscription=subscription)


@pytest.mark.parametrize("name", ["", "s", "Shop", "shop.orders", "shop_orders"])
def test_a_bad_service_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="service name"):
        Service(name)


def test_a_negative_grace_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="service shop: grace must be 0 or more seconds"):
        Service("shop", grace=-1)


def test_a_service_is_shown_by_its_name() -> None:
    assert repr(Service("shop")) == "Service('shop')"


# -- two handlers for the same


@pytest.mark.parametrize("channel", [orders, events, Queue("shop.orders", int)], ids=["queue", "topic", "same name"])
def test_two_handlers_of_one_service_for_the_same_are_refused_and_both_are_named(
    channel: Queue[int] | Topic[int],
) -> None:
    service = declare(takes_body, orders if isinstance(channel, Queue) else events)
    decorator: Any = service.handler
    with pytest.raises(ConfigurationError, match=r"two handlers for shop\.\w+(/shop)?: takes_body and takes_both"):
        decorator(channel)(takes_both)
    assert len(service.handlers) == 1


async def test_two_services_with_a_handler_for_the_same_queue_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"two handlers for shop\.orders: .*; a queue has one handler"):
        async with unimsg.connect(declare(takes_body), declare(takes_both), url="memory://"):
            pass


async def test_so_are_two_services_with_one_subscription() -> None:
    other = Service("other")
    other.handler(events, subscription="shop")(takes_both)
    with pytest.raises(
        ConfigurationError, match=r"two handlers for shop\.events/shop: .*; give one of them subscription="
    ):
        async with unimsg.connect(declare(takes_body, events), other, url="memory://"):
            pass


async def test_so_is_a_service_that_is_started_twice() -> None:
    service = declare(takes_body)
    with pytest.raises(ConfigurationError, match="two handlers"):
        async with unimsg.connect(service, service, url="memory://"):
            pass


async def test_so_are_two_queues_that_the_configuration_gives_one_name() -> None:
    service = declare(takes_body)
    service.handler(Queue("shop.others", int))(takes_both)
    settings = Settings(url="memory://", channels={"shop.*": {"name": "one"}})
    with pytest.raises(ConfigurationError, match=r"shop\.orders and shop\.others are both called one on the broker"):
        async with unimsg.connect(service, settings=settings):
            pass


async def test_two_subscriptions_of_one_topic_are_fine() -> None:
    service = declare(takes_body, events)
    service.handler(events, subscription="mail")(takes_both)
    async with unimsg.connect(service, url="memory://") as bus:
        assert (await bus.health()).ready


async def test_services_without_handlers_are_fine() -> None:
    async with unimsg.connect(Service("shop"), url="memory://") as bus:
        await bus.send(orders, 1)


# -- configured handlers


async def test_a_nearly_right_handler_in_the_configuration_is_warned_of_and_another_is_somebody_elses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = declare(takes_body)
    fine = Settings(url="memory://", handlers={"billing.charge": {"concurrency": 5}})
    async with unimsg.connect(service, settings=fine):
        pass
    wrong = Settings(url="memory://", handlers={"shop.order": {"concurrency": 5}})
    assert "is no handler" not in caplog.text
    async with unimsg.connect(service, settings=wrong):
        pass
    assert "handlers.shop.order of the configuration is no handler" in caplog.text
    assert "did you mean shop.orders?" in caplog.text
