"""A box that takes firmware: real TUF over HTTPS, real D-Bus, made-up slots; time passes when the test says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.integration.update.conftest import Box, make_box
from tests.integration.update.repository_side import Simulator
from tests.integration.update.web_side import Pki, Web
from tests.support.rauc import HASH, Plan, private_bus, rauc_service
from vigie.contract.firmware import (
    Bundle,
    Check,
    FirmwareDescriptor,
    FirmwareOrder,
    Severity,
    Version,
    bundle_path,
    firmware_path,
)
from vigie.host.boxconfig import BoxConfig
from vigie.update.boot.chain import Slot
from vigie.update.boot.opening import Said
from vigie.update.boot.outcome import Outcome
from vigie.update.firmware.health import Ports, Seen
from vigie.update.firmware.rauc import Rauc
from vigie.update.firmware.service import Firmware
from vigie.update.firmware.source import Source
from vigie.update.firmware.store import Store
from vigie.update.firmware.week import HOURS, Week, hour_of_week

OLD, NEW = Version(2026, 10, 1), Version(2026, 12, 1)
BUNDLE = b"bundle" * 1000


@dataclass
class Slots:
    """The machine: slots, boot loader, figures. restarts: what was asked of root."""

    version: Version = OLD
    said: Said = field(default_factory=lambda: Said("A", "A"))
    starts: int = 1
    at: float = 0.0
    sick: Check | None = None
    restarts: list[str] = field(default_factory=list)

    def boot(self) -> str:
        return f"boot{self.starts}"

    def boottime(self) -> float:
        return self.at

    def running(self) -> Version:
        return self.version

    def board(self) -> str:
        return "cm4"

    def slots(self) -> Said | None:
        return self.said

    def outcome(self, said: Said | None) -> Outcome:
        return said.outcome if said is not None and said.trial == said.current else Outcome.NONE

    def free(self) -> int:
        return 1 << 30

    def base(self) -> int:
        return 7

    def cables(self) -> tuple[str, ...]:
        return ("eth0", "eth1")

    def frames(self) -> int:
        return 1000

    def seen(self, *, thorough: bool) -> Seen:
        beat = {"at": 100.0, "base": 7, "attached": True, "loop": False}
        ways = (Ports(500, 0 if self.sick is Check.FORWARD else 500),)
        ports = ("eth0", "eth1")
        linked = self.sick is not Check.LINK
        return Seen(100.0, beat, ports, ports, ways, linked, thorough or None, 1 << 30, 1 << 28, True)

    def restart(self, how: str) -> None:
        self.restarts.append(how)

    def installed(self) -> None:
        """RAUC has written the other slot and told the boot loader's notes."""
        other: Slot = "B" if self.said.current == "A" else "A"
        self.said = replace(self.said, trial=other)

    def marked(self, state: str, slot: str) -> None:
        if state == "good":
            self.said = replace(self.said, committed=self.said.current, trial=None)
        else:
            self.said = replace(self.said, trial=None)

    def restarted(self, version: Version, current: Slot, outcome: Outcome) -> None:
        self.starts, self.at, self.version = self.starts + 1, 30.0, version
        self.said = replace(self.said, current=current, outcome=outcome)


@dataclass
class Station:
    """The whole of one test."""

    box: Box
    repository: Simulator
    web: Web
    plan: Plan
    slots: Slots
    bus: str

    @property
    def config(self) -> BoxConfig:
        return self.box.config

    def process(self) -> Firmware:
        """A new process with the same folders."""
        store = Store(self.config.paths)
        source = Source(self.config, self.box.clock, store.folder)
        firmware = Firmware(store, self.box.clock, self.slots, source, Rauc(address=self.bus))
        firmware.start()
        return firmware

    def publish(
        self, version: Version = NEW, *, floor: Version = OLD, board: str = "cm4", bundle: bytes = BUNDLE,
        severity: Severity = Severity.NORMAL, requires: Version | None = None, manifest: str = HASH,
    ) -> FirmwareDescriptor:  # fmt: skip
        path = bundle_path(board, version)
        offer = FirmwareDescriptor(
            version, {board: Bundle(manifest, path, len(BUNDLE))}, floor, requires, severity, 0, "", ""
        )
        self.repository.offline_targets[firmware_path(version)] = offer.to_bytes()
        self.repository.publish()
        self.repository.files[path] = bundle
        return offer

    def order(self, version: Version | None = NEW, number: int = 1) -> None:
        """As the link writes it down."""
        order = None if version is None else FirmwareOrder(version, number).to_dict()
        self.config.paths.link.mkdir(parents=True, exist_ok=True)
        (self.config.paths.link / "settings.json").write_text(json.dumps({"v": 1, "firmware": order, "hours": None}))

    def quiet(self, now: bool = True) -> None:
        """What the box has learned of its week: this hour is the quietest of the day, or the busiest."""
        local = time.localtime(self.box.machine.system)
        frames = [1000.0] * HOURS
        frames[hour_of_week(local.tm_wday, local.tm_hour)] = 1.0 if now else 9000.0
        Store(self.config.paths).save_week(Week((1.0,) * HOURS, tuple(frames)))

    def later(self, seconds: float) -> None:
        """The signed clock goes on."""
        self.box.machine.system += seconds
        self.signed()

    def signed(self) -> None:
        self.box.clock.adopt(self.box.machine.system)

    def told(self) -> dict[str, object]:
        said = json.loads((self.config.paths.run_update / "firmware.json").read_text())
        state: dict[str, object] = said["state"]
        return state


@pytest.fixture
def station(tmp_path: Path, web: Web, pki: Pki, repository: Simulator) -> Iterator[Station]:
    box = make_box(tmp_path / "box", web, pki, repository)
    slots, plan = Slots(), Plan()
    plan.installed, plan.marked = slots.installed, slots.marked
    with private_bus(tmp_path) as bus, rauc_service(bus, plan):
        made = Station(box, repository, web, plan, slots, bus)
        made.signed()
        made.quiet()
        yield made
