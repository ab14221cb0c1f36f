"""The broker in memory: nothing to start, and everything that a process can do to itself."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from unimsg.adapter import Address, Wanted, Wire
from unimsg.memory import MemoryAdapter, MemoryBroker, MemoryOptions
from unimsg_contracts.harness import Foreign, Harness, Network

NO_NETWORK = "there is no network in a process"


class MemoryHarness(Harness):
    name = "memory"
    adapter_type = MemoryAdapter
    url = "memory://"
    patience = 2.0
    recovery = 2.0
    too_large = MemoryAdapter.capabilities.max_body + 1
    unproved: ClassVar[Mapping[str, str]] = {
        "away": NO_NETWORK,
        "backstop": "nothing outlives a process that dies",
        "broken_tls": NO_NETWORK,
        "hosts": NO_NETWORK,
        "kill": "it dies with its process",
        "password": "it asks for none",
        "permissions": "it has none",
        "processes": "each process has its own",
        "restart": "it dies with its process",
        "revoke": "it has no permissions",
        "stall": NO_NETWORK,
        "vhost": "it has none",
    }

    def where(self) -> str:
        return "in this process"

    @asynccontextmanager
    async def network(self) -> AsyncIterator[Network]:
        yield _Cut()

    async def delete(self, address: Address) -> None:
        MemoryBroker.current().delete(address.channel)

    def refusing(self) -> Wanted:
        return Wanted(options=MemoryOptions(max_length=3))

    @asynccontextmanager
    async def full(self, address: Address) -> AsyncIterator[None]:
        (line,) = MemoryBroker.current().lines(address)
        line.max_length = 0
        yield
        line.max_length = None

    async def put(self, address: Address, message: Foreign) -> None:
        """There is no other program in this process: what the real adapters make of a foreign message is put in."""
        headers = dict(message.attributes)
        if message.content_type is not None:
            headers["content-type"] = message.content_type
        for line in MemoryBroker.current().lines(address):
            line.put(Wire(f"foreign-{id(message)}", message.body, headers, message.key))
            line.pump()

    async def read(self, address: Address, count: int) -> list[Foreign]:
        adapter = MemoryAdapter()
        receiver = await adapter.receiver(address, prefetch=count, timeout=1.0)
        found: list[Foreign] = []
        while len(found) < count:
            deliveries = await receiver.receive()
            await receiver.ack(deliveries)
            found += [_plain(delivery.wire) for delivery in deliveries]
        await adapter.aclose(timeout=1.0)
        return found


class _Cut(Network):
    url = MemoryHarness.url

    async def cut(self) -> None:
        MemoryBroker.current().cut()


def _plain(wire: Wire) -> Foreign:
    headers = {**wire.headers, f"{MemoryAdapter.attribute_prefix}id": wire.id}
    if wire.key is not None:
        headers[f"{MemoryAdapter.attribute_prefix}partitionkey"] = wire.key
    return Foreign(wire.body, headers, wire.key, headers.pop("content-type", None))
