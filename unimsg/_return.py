"""Return addresses: where a reply goes. They have one shape, and nothing else is ever answered."""

import re
import secrets
from collections import OrderedDict

from unimsg._publisher import Publisher
from unimsg.adapter import Adapter, Address, Kind

_INBOX_NAME = re.compile(r"unimsg\.inbox\.[0-9a-f]{32}")
_REPLY_QUEUE_NAME = re.compile(r"unimsg\.reply\.(?=.{3,100}\Z)[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")
REMEMBERED = 1000
"""Return addresses that are kept ready: each process that asks has one."""


def new_inbox() -> str:
    """The name of an inbox that nobody can guess: 128 random bits."""
    return f"unimsg.inbox.{secrets.token_hex(16)}"


def address_of(return_address: str, prefix: str) -> Address | None:
    """Where a reply goes on the broker; None for what is no return address of ours. `prefix`: of all names there."""
    if _INBOX_NAME.fullmatch(return_address):
        return Address(prefix + return_address, Kind.INBOX)
    if _REPLY_QUEUE_NAME.fullmatch(return_address):
        return Address(prefix + return_address, Kind.QUEUE)
    return None


class ReturnPath:
    """Everything that this process answers over one broker."""

    def __init__(self, adapter: Adapter, prefix: str) -> None:
        self.prefix = prefix
        self._adapter = adapter
        self._publishers: OrderedDict[Address, Publisher] = OrderedDict()

    def to(self, address: Address) -> Publisher:
        publisher = self._publishers.get(address)
        if publisher is None:
            publisher = self._publishers[address] = Publisher(self._adapter, address, _nothing)
            publisher.is_open = True
            while len(self._publishers) > REMEMBERED:
                self._publishers.popitem(last=False)  # what it still sends, its senders wait for
        else:
            self._publishers.move_to_end(address)
        return publisher


async def _nothing() -> None:
    """An answer makes no channel."""
