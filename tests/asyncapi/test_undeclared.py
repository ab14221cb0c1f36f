"""Channels that handlers name and services do not declare."""

import functools
from typing import Any

import sample_shop as shop

import unimsg
from unimsg.asyncapi._undeclared import undeclared

first = unimsg.Queue("some.first", str)
second = unimsg.Topic("some.second", str)
read = unimsg.Queue("some.read", str)


def service(function: Any, **more: Any) -> unimsg.Service[None]:
    made = unimsg.Service("some", **more)
    made.handler(read)(function)
    return made


async def uses_globals(body: str, context: unimsg.Context) -> None:
    await context.send(first, body)
    await context.publish(shop.placed, shop.Placed(1, body))
    await context.send(read, body)


async def uses_them_inside(body: str, context: unimsg.Context) -> None:
    async def inner() -> None:
        await context.publish(second, body)

    await inner()


class Uses:
    async def __call__(self, body: str, context: unimsg.Context) -> None:
        await context.send(first, body)

    async def bound(self, body: str, context: unimsg.Context) -> None:
        await context.publish(second, body)


def test_what_handlers_name_is_found() -> None:
    assert undeclared(service(uses_globals)) == ["some.first", "orders.placed"]
    assert undeclared(service(uses_them_inside)) == ["some.second"]
    assert undeclared(service(Uses())) == ["some.first"]
    assert undeclared(service(Uses().bound)) == ["some.second"]
    assert undeclared(service(functools.partial(uses_globals))) == ["some.first", "orders.placed"]


def test_what_is_enclosed_is_found() -> None:
    enclosed = unimsg.Queue("some.enclosed", str)

    async def handle(body: str, context: unimsg.Context) -> None:
        await context.send(enclosed, body)

    assert undeclared(service(handle)) == ["some.enclosed"]


def test_what_is_declared_is_not_told() -> None:
    assert undeclared(service(uses_globals, sends=[first, shop.placed])) == []
    assert undeclared(service(uses_globals, sends=[shop.placed])) == ["some.first"]


def test_the_shop_declares_all() -> None:
    assert [undeclared(each) for each in shop.SERVICES] == [[], []]
