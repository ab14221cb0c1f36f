"""Which brokers a run is for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from unimsg_contracts.brokers import KNOWN, load
from unimsg_contracts.harness import Harness


@dataclass(slots=True)
class Selection:
    """The brokers of this run, and those that it does without."""

    chosen: dict[str, Harness] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """By broker, why it cannot run here."""
    errors: list[str] = field(default_factory=list)
    """What must end the run: a broker was asked for and is missing."""
    used: bool = False
    """Whether any collected case needs a broker at all."""

    def add(self, name: str, path: str, *, required: bool) -> None:
        reason = self._load(path)
        if isinstance(reason, Harness):
            self.chosen[reason.name] = reason
        else:
            self.missing[name] = reason
            if required:
                self.errors.append(f"{name}: {reason}")

    def _load(self, path: str) -> Harness | str:
        try:
            harness = load(path)()
        except ImportError as error:
            return f"{error}; is its client installed?"
        except (AttributeError, TypeError) as error:
            return str(error)
        return harness.missing() or harness


def select(brokers: Sequence[str], harnesses: Sequence[str], *, require_all: bool) -> Selection:
    """What `--broker` and `--harness` name; without both: memory, and every broker that can run here."""
    selection = Selection()
    for path in harnesses:
        selection.add(path, path, required=True)
    for name in brokers:
        if name in KNOWN:
            selection.add(name, KNOWN[name], required=True)
        else:
            selection.errors.append(f"no broker is called {name}; known: {', '.join(KNOWN)}, others by --harness")
    if not brokers and not harnesses:
        for name, path in KNOWN.items():
            selection.add(name, path, required=require_all)
    return selection
