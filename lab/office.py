"""What an expectation gets to work with: the lab, the box, the clock board."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import plan
from lab.base import Bases
from lab.box import Product
from lab.netns import Namespace
from lab.topology import Topology


@dataclass
class Office:
    """`product` is None over a plain bridge. `times` holds the figures of the JSON line (ms unless the name says s)."""

    lab: Topology
    product: Product | None = None
    bases: Bases | None = None
    times: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Namespace:
        return self.lab[name]

    @property
    def ca(self) -> Path:
        return self.lab.servers.pki.ca

    @property
    def indicators(self) -> plan.Indicators:
        return self.lab.indicators

    @property
    def box(self) -> Product:
        if self.product is None:
            raise AssertionError("this expectation needs the product in the box")
        return self.product

    @contextmanager
    def unheard(self, log: Path, what: str) -> Iterator[None]:
        """Nothing is added to that server's log while the block runs: not one byte arrived."""
        before = len(log.read_bytes())
        yield
        added = log.read_bytes()[before:].decode(errors="replace")
        if added:
            raise AssertionError(f"{what} must not see anything, but it says:\n{added[:2000]}")


def within(value: float, limit: float, what: str) -> str:
    if value > limit:
        raise AssertionError(f"{what}: {value:.1f} ms, must be at most {limit:.0f} ms")
    return f"{what}: {value:.1f} ms"
