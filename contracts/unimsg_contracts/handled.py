"""What handlers saw, for cases to look at."""

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from unimsg import Context
from unimsg_contracts.reading import eventually

Body = TypeVar("Body", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Seen(Generic[Body]):
    """One attempt."""

    body: Body
    attempt: int
    last: bool
    when: float
    """`time.time()`, as the library's own due times."""


@dataclass(slots=True)
class Handled(Generic[Body]):
    """All attempts, in the order in which they began."""

    seen: list[Seen[Body]] = field(default_factory=list)

    def note(self, body: Body, context: Context) -> None:
        self.seen.append(Seen(body, context.attempt, context.last_attempt, time.time()))

    async def reach(self, number: int, patience: float) -> None:
        """Waits until so many attempts began."""
        await eventually(
            lambda: len(self.seen) >= number, patience, lambda: f"{len(self.seen)} of {number} attempts: {self.bodies}"
        )

    def of(self, body: Body) -> list[Seen[Body]]:
        return [seen for seen in self.seen if seen.body == body]

    def attempts(self, body: Body) -> list[int]:
        return [seen.attempt for seen in self.of(body)]

    @property
    def bodies(self) -> list[Body]:
        return [seen.body for seen in self.seen]
