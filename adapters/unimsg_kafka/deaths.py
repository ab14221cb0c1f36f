"""How often the owners of a partition died of its messages. Pure: no client, no clock.

Kafka counts no deliveries, so owners count each other's deaths, in the metadata of the group's commits, behind what
`offsets` writes there. "!" says that messages may be in somebody's hands; an owner that leaves in good order takes it
away. Who takes a partition over and finds it adds a death to what is said of the message at the commit, the first that
is not settled: "u2:<id>:2,3:1!" is one death, and the next unless the owner leaves.

After two deaths on end nobody knows whose fault they were, and the messages that were there are handed out one at a
time, each after a commit that says so. So whoever dies now dies of the one at the commit: it alone has more than two
deaths, and when it has as many as its channel allows it is given up. What is settled takes its deaths with it.
"""

from dataclasses import dataclass

from unimsg_kafka.offsets import VERSION

ALONE_FROM = 2
"""Deaths from which on messages are handed out one at a time. One is an accident, and must cost nothing."""
_IN_HANDS = "!"


@dataclass(frozen=True, slots=True)
class Deaths:
    """Of one partition, as its new owner finds them."""

    head: int = 0
    """The offset of the first message that was not settled."""
    count: int = 0
    """Deaths on end while that one was not settled."""
    until: int = 0
    """Messages from this offset on had nothing to do with it."""

    def at(self, mark: int | None) -> int:
        """Of what the message at `mark` may be the cause. None: nothing arrived yet."""
        if mark is None or mark == self.head:
            return self.count
        return min(self.count, ALONE_FROM) if mark < self.until else 0


NONE = Deaths()


def found(offset: int, metadata: str, *, window: int, end: int) -> Deaths:
    """What the commit of the last owner says. `window`: so many messages an owner has at most. `end`: the offset that
    the next message will have; what was not there yet killed nobody."""
    count = deaths_in(metadata)
    until = min(offset + window, end)
    return Deaths(offset, count, until) if count and offset < until else NONE


def deaths_in(metadata: str) -> int:
    """The last owner's own among them, if it died. 0 in anybody else's text."""
    version, _, said = metadata.rpartition(":")
    if not version.startswith(f"{VERSION}:") or version.count(":") != 2:
        return 0
    digits = said.removesuffix(_IN_HANDS)
    return (int(digits) if digits.isascii() and digits.isdigit() else 0) + said.endswith(_IN_HANDS)


def with_deaths(metadata: str, count: int, *, in_hands: bool) -> str:
    """A commit's metadata with what it says of deaths."""
    said = (str(count) if count else "") + (_IN_HANDS if in_hands else "")
    return f"{metadata}:{said}" if said else metadata


def is_of_all(metadata: str) -> bool:
    """Whether it says that whatever is there may be in hands, and not one message alone."""
    return metadata.endswith(_IN_HANDS) and deaths_in(metadata) <= ALONE_FROM
