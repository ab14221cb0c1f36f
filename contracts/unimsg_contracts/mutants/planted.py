"""A mutant, and how it gets under a case."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from unimsg.adapter import Adapter
from unimsg_contracts.harness import Harness
from unimsg_contracts.marks import Case
from unimsg_contracts.mutants.broken import Broken, BrokenReceiver, around
from unimsg_contracts.stage import Stage


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault, and a case that must catch it."""

    case: Case
    fault: type[Broken] | type[BrokenReceiver] | None = None
    """Around any adapter."""
    patch: Callable[[], AbstractContextManager[None]] | None = None
    """Inside of one adapter, or of the core, for as long as the case runs."""
    brokers: tuple[str, ...] = ("memory",)
    slow: bool = False
    """Whether it runs in the slow tier (`--tier N`) only: it takes half a minute, and its case has another one."""
    patience: float | None = None
    """Seconds that the case waits for what will not happen; None: a little for memory, more for a real broker."""

    @property
    def name(self) -> str:
        fault = self.fault.__name__ if self.fault is not None else self.patch.__name__ if self.patch else "none"
        return f"{fault}-{getattr(self.case, '__name__', '')}"

    @contextmanager
    def planted(self, adapter_type: type[Adapter]) -> Iterator[type[Adapter]]:
        """The adapter type to run the case on."""
        with ExitStack() as stack:
            if self.patch is not None:
                stack.enter_context(self.patch())
            yield around(self.fault, adapter_type) if self.fault is not None else adapter_type


def instead(owner: Any, name: str, fault: Any, why: str) -> Callable[[], AbstractContextManager[None]]:
    """A mutant in which `owner` has `fault` as `name`."""

    @contextmanager
    def planted() -> Iterator[None]:
        with patch.object(owner, name, fault):
            yield

    planted.__name__, planted.__doc__ = why.replace(" ", "_"), why
    planted.__module__ = sys._getframe(1).f_globals["__name__"]  # where it stands under its name: see `in_members`
    return planted


async def assert_caught(mutant: Mutant, harness: Harness) -> None:
    """Runs the case on the mutant. Fails unless the case fails, by an assertion of its own."""
    patience = mutant.patience or (0.5 if harness.patience < 5 else 5.0)
    failure: BaseException | None = None
    with mutant.planted(harness.adapter_type) as adapter_type:
        try:
            async with Stage(harness, adapter_type=adapter_type, patience=patience) as stage:
                await mutant.case(stage)
        except BaseExceptionGroup as group:  # what a case raises inside a TaskGroup
            failure = group.exceptions[0]
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # judged below
            failure = error
    assert failure is not None, "the case did not notice it"
    if not isinstance(failure, AssertionError | pytest.fail.Exception):
        raise AssertionError(f"the case did not fail but break: {failure!r}") from failure
