"""Adapters that are deliberately wrong. Each is caught by the case meant for it: who cannot fail proves nothing."""

from unimsg_contracts.mutants.inside import inside
from unimsg_contracts.mutants.planted import Mutant
from unimsg_contracts.mutants.table import MUTANTS, wrapped

__all__ = ["MUTANTS", "Mutant", "inside", "wrapped"]
