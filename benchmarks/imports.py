"""What `import unimsg` costs a program, and which modules of others it loads."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

ROUNDS = 10
GOAL = 0.100
"""Seconds."""
CLIENTS = ("aio_pika", "aiormq", "pamqp", "aiokafka", "google", "grpc", "confluent_kafka", "faststream")

_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""With it each interpreter would compile all of unimsg anew, which no installed program does."""
_MODULES = "import json, sys; before = set(sys.modules); {}; print(json.dumps(sorted(set(sys.modules) - before)))"


@dataclass(frozen=True, slots=True)
class ImportCost:
    seconds: float
    """Median over fresh interpreters, less that of one that imports nothing."""
    others: tuple[str, ...]
    """Packages loaded that are neither ours nor Python's."""

    @property
    def problems(self) -> list[str]:
        problems = []
        if self.seconds > GOAL:
            problems.append(f"import unimsg takes {self.seconds * 1000:.0f} ms, more than {GOAL * 1000:.0f} ms")
        if clients := sorted(set(self.others) & set(CLIENTS)):
            problems.append(f"import unimsg loads a client: {', '.join(clients)}")
        return problems


def measure() -> ImportCost:
    _seconds("import unimsg")  # writes the compiled files, once
    with_it, without = [], []
    for _ in range(ROUNDS):
        without.append(_seconds("pass"))
        with_it.append(_seconds("import unimsg"))
    loaded = json.loads(_python(_MODULES.format("import unimsg")))
    packages = {module.partition(".")[0] for module in loaded} - sys.stdlib_module_names - {"unimsg"}
    return ImportCost(statistics.median(with_it) - statistics.median(without), tuple(sorted(packages)))


def _seconds(program: str) -> float:
    start = time.perf_counter()
    _python(program)
    return time.perf_counter() - start


def _python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], env=_ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
