"""Channels that a service seems to send to, and does not declare: a document would keep quiet about them."""

import types
from collections.abc import Iterator
from typing import Any

from unimsg.asyncapi._uses import function_of
from unimsg.channel import Channel
from unimsg.service import Service


def undeclared(service: Service[Any]) -> list[str]:
    """The names of channels that the functions of its handlers name, which it neither handles nor has in `sends=`. What
    these functions call is not looked into."""
    known = {handler.channel.name for handler in service.handlers} | {channel.name for channel in service.sends}
    found = {
        channel.name: None
        for handler in service.handlers
        for channel in _named(function_of(handler))
        if channel.name not in known
    }
    return list(found)


def _named(function: Any) -> Iterator[Channel[Any, Any]]:
    function = getattr(function, "__func__", function)  # of a bound method
    if not isinstance(function, types.FunctionType):
        function = getattr(type(function), "__call__", None)  # noqa: B004  # the function behind an object that is called
    if not isinstance(function, types.FunctionType):
        return
    names = list(_names(function.__code__))
    enclosed = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    for value in [*(function.__globals__.get(name) for name in names), *enclosed]:
        if isinstance(value, Channel):
            yield value
        elif isinstance(value, types.ModuleType):  # channels.order_placed
            yield from (each for name in names if isinstance(each := vars(value).get(name), Channel))


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):  # a function inside
            yield from _names(constant)


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # its variable has no value yet
        return False
    return True
