"""Who creates what: `create`, `verify` or `off`, decided once per channel and process."""

from typing import TYPE_CHECKING

from unimsg.adapter import Adapter, Address, Wanted
from unimsg.errors import TopologyError

if TYPE_CHECKING:
    from unimsg.config import Topology


class Preparation:
    """Makes sure, as the configuration says, that the channels of one broker exist."""

    def __init__(self, adapter: Adapter, topology: "Topology") -> None:
        self._adapter = adapter
        self._topology = topology
        self._done: dict[Address, frozenset[float]] = {}
        """With the delays that each was prepared for."""

    @property
    def makes(self) -> bool:
        """Whether what is missing is made."""
        return self._topology == "create"

    def forget(self, address: Address) -> None:
        """It was deleted: it is made, or looked for, again."""
        self._done.pop(address, None)

    async def prepare(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        """Raises:
        TopologyError: missing or different.
        CapabilityError, PermissionDenied, ConnectError: as `Adapter.ensure`.
        """
        done = self._done.get(address)
        if (done is not None and done.issuperset(wanted.delays)) or self._topology == "off":
            return
        if self._topology == "create":
            await self._adapter.ensure(address, wanted, timeout=timeout)
        else:
            await self._verify(address, wanted, timeout)
        self._done[address] = self._done.get(address, frozenset()).union(wanted.delays)

    async def _verify(self, address: Address, wanted: Wanted, timeout: float) -> None:
        differences = await self._adapter.operations().inspect(address, wanted, timeout=timeout)
        if differences:
            lines = [
                f"+ {d.what}: missing" if d.found is None else f"~ {d.what}: {d.found}, wanted {d.wanted}"
                for d in differences
            ]
            raise TopologyError(
                f'{self._adapter.broker}: {address.name} is not as declared (topology = "verify" changes nothing): '
                f'{"; ".join(lines)}; create it, or run once with topology = "create"'
            )
