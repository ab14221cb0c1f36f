"""The contract suite: what unimsg promises, as cases that run against the real brokers.

It is library code. Whoever writes an adapter subclasses `Harness` and runs
`pytest -p unimsg_contracts.plugin --pyargs unimsg_contracts --harness package:Harness`.
"""

from unimsg_contracts.harness import Foreign, Harness, Network
from unimsg_contracts.marks import guarantee

__all__ = ["Foreign", "Harness", "Network", "guarantee"]
