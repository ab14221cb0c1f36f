"""python -m examples.food_delivery               all in one process, until a few orders have ended
python -m examples.food_delivery SERVICE       that alone, until Ctrl-C: orders | kitchen | billing | couriers
python -m examples.food_delivery place [COUNT] places orders, and does not wait for them
python -m examples.food_delivery rescue        has the kitchen cook what it could not
"""

import asyncio
import sys
from typing import Any

import unimsg

from . import billing, couriers, kitchen, operator, orders
from .channels import order_updates
from .customers import Waiting, place, some_orders
from .screen import show_log

SERVICES: dict[str, list[unimsg.Service[Any]]] = {
    "orders": [orders.service],
    "kitchen": [kitchen.service],
    "billing": [billing.service],
    "couriers": couriers.services,
}
PATIENCE = 60.0
"""Seconds until all orders must have ended."""


async def everything(count: int = 7, *, url: str | None = None) -> None:
    """`url`: the broker, instead of the configured one."""
    wanted = some_orders(count)
    waiting = Waiting(wanted)
    customers = unimsg.Service("customers")
    customers.handler(order_updates, concurrency=1)(waiting.hear)
    services = [service for each in SERVICES.values() for service in each]
    async with unimsg.connect(*services, customers, url=url) as bus:
        await place(bus, wanted)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(operator.watch(bus, ended))
            await asyncio.wait_for(waiting.all_ended(), PATIENCE)
            ended.set()


async def only_place(count: int) -> None:
    async with unimsg.connect() as bus:
        await place(bus, some_orders(count))


async def rescue() -> None:
    async with unimsg.connect() as bus:
        await operator.rescue(bus)


def main(arguments: list[str]) -> None:
    show_log()
    match arguments:
        case []:
            asyncio.run(everything())
        case [name] if name in SERVICES:
            _need_a_broker()
            unimsg.run(*SERVICES[name])
        case ["place", *count] if len(count) < 2 and all(number.isdecimal() for number in count):
            _need_a_broker()
            asyncio.run(only_place(int(count[0]) if count else 7))
        case ["rescue"]:
            _need_a_broker()
            asyncio.run(rescue())
        case _:
            sys.exit(__doc__)


def _need_a_broker() -> None:
    if not unimsg.Settings.load().brokers:
        sys.exit("processes meet at a broker: set UNIMSG_URL, for example to amqp://guest:guest@localhost:5672/")


if __name__ == "__main__":
    main(sys.argv[1:])
