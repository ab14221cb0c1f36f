"""The queues that unimsg makes beside those that were declared, told by their names."""

from unimsg.adapter import Address, Kind

DEAD = "dead"
RETRY = "retry"


def role_of(address: Address) -> str:
    """What a derived queue is for: "dead", "retry.5m", "delay"; empty for one that was declared."""
    if address.kind is not Kind.QUEUE or ".." not in address.channel:
        return ""
    return address.channel.rpartition("..")[2]


def graveyard_of(address: Address) -> Address | None:
    """Where Pub/Sub moves what it delivered too often, None: nowhere.

    What waits for its next attempt is handled straight from where it waits: it is backed as its queue is. What waits to
    be published is handled by nobody, and dead letters neither.
    """
    if address.kind is Kind.INBOX:
        return None
    role = role_of(address)
    if not role:
        return Address(f"{address.name}..{DEAD}", Kind.QUEUE)
    if role.startswith(RETRY):
        return Address(f"{address.channel.rpartition('..')[0]}..{DEAD}", Kind.QUEUE)
    return None
