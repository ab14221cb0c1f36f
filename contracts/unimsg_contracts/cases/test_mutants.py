"""The suite's own proof: each case is seen to fail on an adapter that breaks its promise."""

import pkgutil
from importlib import import_module

import pytest

from unimsg_contracts import cases
from unimsg_contracts.harness import Harness
from unimsg_contracts.marks import Case, contract_of
from unimsg_contracts.mutants import MUTANTS, Mutant
from unimsg_contracts.mutants.planted import assert_caught


def all_cases() -> set[Case]:
    modules = [import_module(f"{cases.__name__}.{found.name}") for found in pkgutil.iter_modules(cases.__path__)]
    functions = [value for module in modules for name, value in vars(module).items() if name.startswith("test_")]
    return {function for function in functions if hasattr(function, "pytestmark")} - {test_it_is_caught}


def test_every_case_has_a_mutant() -> None:
    """A case that no mutant is meant for may be one that cannot fail."""
    without = {case.__name__ for case in all_cases()} - {mutant.case.__name__ for mutant in MUTANTS}
    assert not without, f"cases without a mutant: {sorted(without)}"


def test_every_case_names_its_guarantee() -> None:
    assert all(contract_of(case).guarantee.startswith("G") for case in all_cases())


@pytest.mark.asyncio
async def test_it_is_caught(mutant: Mutant, harness: Harness, pytestconfig: pytest.Config) -> None:
    """The case fails on the mutant that is meant for it."""
    if mutant.slow and pytestconfig.option.tier != "N":
        pytest.skip("slow: run with --tier N")
    await assert_caught(mutant, harness)
