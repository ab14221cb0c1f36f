"""Mutants that are planted in each process of a crew, and in the command line's, since the fault must be there."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest.mock import patch

from unimsg.adapter import Delivery, Receiver
from unimsg_contracts.commands import Command
from unimsg_contracts.killer import Killer
from unimsg_contracts.member import Member
from unimsg_contracts.mutants.broken import BrokenReceiver

Planting = Callable[[], AbstractContextManager[None]]


def in_members(fault: Planting) -> Planting:
    """`fault`, which must stand under its name in its module, in the processes of a crew, in those that are killed and
    in commands; and here, for what this process makes on the broker."""
    name = f"{fault.__module__}:{fault.__name__}"
    if getattr(sys.modules[fault.__module__], fault.__name__, None) is not fault:
        raise LookupError(f"{name} is not what is to be planted: the processes would end, and not show the fault")

    @contextmanager
    def planted() -> Iterator[None]:
        with fault(), ExitStack() as stack:
            for kind in (Member, Killer, Command):
                stack.enter_context(patch.object(kind, "fault", name))
            yield

    planted.__name__, planted.__doc__ = fault.__name__, fault.__doc__
    return planted


class SettlesNothingAfterStop(BrokenReceiver):
    """What ends while its service ends is not acknowledged."""

    def __init__(self, inner: Receiver) -> None:
        super().__init__(inner)
        self._stopped = False

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        if not self._stopped:
            await super().ack(deliveries)

    async def stop(self) -> None:
        self._stopped = True
        await super().stop()
