from typing import Any

MUTANTS: list[Any] = []
