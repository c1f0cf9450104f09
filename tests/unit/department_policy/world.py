"""A box with orders, without a data path: clocks that are moved by hand, devices by name, restarts and power cuts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vigie.contract.downward import Desired, Essential, Exemption, Isolation, Quarantine, Settings
from vigie.filter import department_file
from vigie.filter.base.lookup import Lookup
from vigie.filter.department_layer import FILE, Department, Surroundings
from vigie.filter.local_policy import LocalPolicy
from vigie.filter.pseudonym import Pseudonyms
from vigie.filter.service_clock import ServiceClock

T0 = 1_800_000_000
HOUR, DAY = 3600, 86_400
BOX = "vg-abcdefgh23456723"
MACS = tuple(f"02:00:00:00:00:{n:02x}" for n in range(1, 11))
GATEWAY = "02:00:00:00:00:fe"


@dataclass
class World:
    """One box. `real` is what passes in truth while the box is on; `unix` what it takes for the time."""

    folder: Path
    mono: float = 1000.0
    unix: float = float(T0)
    trusted: bool = True
    kernel: str = "boot-1"
    seen: tuple[str, ...] = MACS
    lookup: Lookup | None = None
    spared: tuple[str, ...] = ()
    version: int = 0
    layer: Department = field(init=False)
    names: Pseudonyms = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """The daemon comes up."""
        service = ServiceClock(self.folder / "service.json", self.mono, self.kernel)
        self.names = Pseudonyms(self.folder / "pseudonyms.json", service.at(self.mono))
        around = Surroundings(
            mono=lambda: self.mono,
            time=lambda: (self.unix, self.trusted),
            lookup=lambda: self.lookup,
            protected=lambda: {GATEWAY: "the gateway"},
            devices=lambda: self.seen,
            spared=lambda: self.spared,
        )
        self.layer = Department(self.folder, around, service, self.names, department_file.load(self.folder / FILE))

    def restart(self, away: float = 1.0) -> None:
        """The daemon stops in order and comes back; the kernel stays."""
        self.layer.close()
        self.mono += away
        self.unix += away
        self.start()

    def kill(self, away: float = 1.0) -> None:
        """The daemon dies and comes back; the kernel stays."""
        self.mono += away
        self.unix += away
        self.start()

    def power_cut(self, away: float = 60.0) -> None:
        """Everything stops; `away` seconds later the box is up again."""
        self.unix += away
        self.mono = 20.0
        self.kernel = f"boot-{int(self.kernel[5:]) + 1}"
        self.start()

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Ticks."""
        while seconds > 0:
            self.mono += min(step, seconds)
            self.unix += min(step, seconds)
            seconds -= step
            self.layer.tick()

    def pseudonym(self, mac: str) -> str:
        """As reports name a device."""
        name = self.names.name(mac)
        assert name is not None
        return name

    def document(self, **parts: Any) -> Desired:
        """The next version, issued now."""
        self.version += 1
        base: dict[str, Any] = {
            "box": BOX,
            "version": self.version,
            "issued": int(self.unix),
            "expires": int(self.unix) + 30 * DAY,
        }
        return Desired(**(base | parts))

    def order(self, *, second: bool = False, **parts: Any) -> dict[str, Any]:
        """Sends the next document; what the operation answers."""
        self.layer.order(self.document(**parts).to_bytes(), BOX, second=second)
        return self.layer.to_json()

    def isolate(self, level: int = 2, hours: float = 4.0, *, second: bool = False) -> dict[str, Any]:
        """Orders isolation."""
        return self.order(second=second, isolation=Isolation(level, int(self.unix + hours * HOUR)))

    def quarantine(self, macs: Sequence[str], hours: float = 4.0, *, second: bool = False) -> dict[str, Any]:
        """Orders quarantine of devices."""
        end = int(self.unix + hours * HOUR)
        return self.order(second=second, quarantine=tuple(Quarantine(self.pseudonym(m), end) for m in macs))

    def level(self) -> int:
        """Isolation in force."""
        return self.effective().isolation.level

    def effective(self, local: LocalPolicy | None = None) -> LocalPolicy:
        """What the tables get, at the system's time."""
        return self.layer.effective(local or LocalPolicy(), self.unix)

    def refused(self) -> dict[str, str]:
        """What is not in force: place -> code."""
        return {part["what"]: part["code"] for part in self.layer.to_json()["refused"]}

    def on_disk(self) -> Any:
        """The orders' file."""
        return json.loads((self.folder / FILE).read_text())


__all__ = [
    "BOX",
    "DAY",
    "GATEWAY",
    "HOUR",
    "MACS",
    "T0",
    "Essential",
    "Exemption",
    "Isolation",
    "Quarantine",
    "Settings",
    "World",
]
