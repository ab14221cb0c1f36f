"""How a case says what it proves and what it needs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, TypeAlias

import pytest

from unimsg_contracts.harness import Ability

if TYPE_CHECKING:
    from unimsg_contracts.stage import Stage

Case: TypeAlias = "Callable[[Stage], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class Contract:
    """What stands on a case."""

    guarantee: str
    needs: tuple[Ability, ...]
    tier: str


def guarantee(name: str, *, needs: tuple[Ability, ...] = (), tier: str = "C", times: int = 1) -> Callable[[Case], Case]:
    """Marks a case with the guarantee that it proves, and with what it needs of a harness.

    `tier="N"`: runs only with `--tier N`. The case fails after `times` times `Stage.limit` seconds, whatever it
    waits for.
    """

    def mark(case: Case) -> Case:
        @wraps(case)
        async def limited(stage: "Stage") -> None:
            try:
                async with asyncio.timeout(times * stage.limit) as limit:
                    await case(stage)
            except TimeoutError:
                if limit.expired():
                    pytest.fail(f"not done within {times * stage.limit:g} s")
                raise

        marked: Case = pytest.mark.asyncio(pytest.mark.contract(Contract(name, needs, tier))(limited))
        return marked

    return mark


def contract_of(case: Case) -> Contract:
    """What stands on a case that `guarantee` marked."""
    for mark in getattr(case, "pytestmark", ()):
        if mark.name == "contract":
            contract: Contract = mark.args[0]
            return contract
    raise LookupError(f"{case} names no guarantee")
