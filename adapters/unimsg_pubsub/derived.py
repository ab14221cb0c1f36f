"""The queues that unimsg makes beside those that were declared, told by their names."""

from unimsg.adapter import Address, Kind

DEAD = "dead"
RETRY = "retry"


def role_of(address: Address) -> str:
    """What a derived queue is for: "dead", "retry.5m", "delay"; empty for one that was declared."""
    if address.kind is not Kind.QUEUE or ".." not in address.channel:
        return ""
    return address.channel.rpartition("..")[2]


def owner_of(name: str) -> str:
    """The queue or subscription whose messages are in the queue or subscription `name`: others, or its own."""
    owner, _, role = name.rpartition("..")
    return owner if owner and role.startswith(RETRY) else name


def graveyard_of(address: Address) -> Address | None:
    """Where Pub/Sub moves what it delivered too often, None: nowhere.

    What waits for its next attempt is handled straight from where it waits: it is backed as its queue is. What waits to
    be published is handled by nobody, and dead letters neither.
    """
    if address.kind is Kind.INBOX:
        return None
    role = role_of(address)
    if role and not role.startswith(RETRY):
        return None
    return Address(f"{owner_of(address.name) if role else address.name}..{DEAD}", Kind.QUEUE)
