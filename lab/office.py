"""What an expectation gets to work with: the lab, the box, the clock board."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import plan
from lab.base import Bases
from lab.box import Product
from lab.central import Central
from lab.fleet import Member
from lab.netns import Namespace
from lab.topology import Topology


@dataclass
class Office:
    """`product` is None over a plain bridge. `times` holds the figures of the JSON line (ms unless the name says s)."""

    lab: Topology
    product: Product | None = None
    central: Central | None = None
    member: Member | None = None
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

    @property
    def department(self) -> Central:
        if self.central is None:
            raise AssertionError("this expectation needs the department")
        return self.central

    @property
    def fleet(self) -> Member:
        """The box as the department knows it."""
        if self.member is None:
            raise AssertionError("this expectation needs the product in the box")
        return self.member

    @contextmanager
    def without_updates(self) -> Iterator[None]:
        """Bases are changed by hand in the block; the department's comes back by itself after it."""
        version = self.box.base_version()
        self.fleet.stop("update")
        yield
        self.fleet.start("update")
        self.fleet.wait(lambda: self.box.base_version() == version, f"base {version} in force again", 30)

    @contextmanager
    def background(self, until: Callable[[], bool], pause_s: float = 0.02) -> Iterator[None]:
        """`until` is asked again and again in a thread, until it says so or the block ends."""
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set() and not until():
                stop.wait(pause_s)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)

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
