"""The lab with the virtual board in place of the box: town hall, department, and a board fresh from the workshop."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import base as lab_base
from lab import plan
from lab.base import DELIVERED, Bases
from lab.central import Central
from lab.clients.leak import Leak
from lab.department import Department
from lab.fleet import Member
from lab.netns import Namespace
from lab.topology import Topology
from vm import layout, wiring
from vm.base import sample_bases
from vm.image import SOURCE_DATE, image
from vm.machine import Machine

LEAK_PERIOD_S = 0.005


class Trickle(Leak):
    """The lab's leak detector at a fifth of its pace: an emulated processor has better things to do while it starts."""

    def _send(self) -> None:
        while not self._stop.wait(LEAK_PERIOD_S):
            self._lan.send(*self._frames)

    @property
    def unfiltered_ms(self) -> float:
        return (self.leaked[-1] - self.leaked[0] + LEAK_PERIOD_S) * 1000 if self.leaked else 0.0


@dataclass
class VmOffice:
    """What an expectation gets to work with. `times` holds the figures of the JSON line (s unless the name says ms)."""

    lab: Topology
    machine: Machine
    image: Path
    """folder of the image that the board was flashed with"""
    central: Central | None = None
    member: Member | None = None
    times: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Namespace:
        return self.lab[name]

    @property
    def department(self) -> Central:
        if self.central is None:
            raise AssertionError("this expectation needs the department")
        return self.central

    @property
    def box(self) -> str:
        """The board's id in the fleet."""
        if self.member is None:
            raise AssertionError("this expectation needs a registered board")
        return self.member.box

    # -- what the board says -----------------------------------------------------------------------------

    def file(self, path: str) -> dict[str, Any]:
        """A JSON file inside the board; empty while it is not there or half written."""
        try:
            found = json.loads(self.machine.shell(f"cat {path}").out)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def until(self, holds: Callable[[], bool], what: str, seconds: float, pause: float = 1.0) -> float:
        """Seconds until it holds; the evidence is what the board's services say."""
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > seconds:
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self.evidence()}")
            time.sleep(pause)
        return time.monotonic() - start

    def evidence(self) -> str:
        """Failed units, states, the end of the journal."""
        commands = (
            "systemctl --failed --no-legend --plain",
            "systemctl list-jobs --no-legend",
            "cat /run/vigie-early.json /run/vigie/heartbeat.json /data/vigie/enrol/status.json "
            "/run/vigie/link/link-status.json /data/vigie/update/status.json",
            "journalctl -b -n 40 --no-pager -o short-monotonic",
        )
        return "\n".join(self.machine.shell(command).evidence for command in commands)

    def base_version(self) -> int:
        """Of the base that the filter has in force."""
        return int(self.file("/run/vigie/heartbeat.json").get("base") or 0)

    def enrolled(self) -> bool:
        return self.file("/data/vigie/enrol/status.json").get("state") == "enrolled"


@contextmanager
def open_office(tell: Callable[[str], None], *, department: bool = True, terminal: bool = False) -> Iterator[VmOffice]:
    """The board is flashed, registered and off; the department has published a base that the board does not have."""
    built = image(tell)
    bases = sample_bases()
    indicators = lab_base.pick(bases)
    with Topology(indicators, department=bases.feeds if department else None) as lab:
        folder = lab.world.temp / "board"
        folder.mkdir()
        nics = wiring.connect(lab)
        machine = Machine(
            folder, nics, wiring.starter(lab.box, terminal=terminal), serial="stdio" if terminal else "file"
        )
        machine.make_disk(built / "vigie-vm.img")
        office = VmOffice(lab, machine, built)
        if department:
            _join(office, bases, tell)
        try:
            yield office
        finally:
            machine.power_cut()
            if office.central is not None:
                office.central.capture.stop()


def _join(office: VmOffice, bases: Bases, tell: Callable[[str], None]) -> None:
    """Department, register, first base; then the identity partition as the workshop leaves it."""
    lab = office.lab
    tell("the department ...")
    department = Department(lab["dept"], lab.world.temp / "dept")
    department.users = department.users_can_run()
    department.init()
    department.start()
    office.central = central = Central(department, bases.sources, lab.world.temp / "central")
    central.capture.start()
    office.member = member = Member(lab.box, lab.world.temp / "member", department)
    member.flash(Path("/run/vigie/filter.sock"))
    member.register()
    tell("the department's first base ...")
    version = central.prepare(plan.CENTRAL.v4, plan.CENTRAL.v6, least=DELIVERED + 10)
    central.make_operators()
    central.release(version)
    flash_identity(office.machine, member.folder / "identity", department.config.paths.trust, lab.world.temp)


def flash_identity(machine: Machine, identity: Path, trust: Path, work: Path) -> None:
    """p7: what the factory writes, and the department's trust folder, which any other board has in its image."""
    folder = work / "identity-partition"
    shutil.copytree(identity, folder)
    shutil.copytree(trust, folder / "trust")
    (folder / "trust" / "build-time").write_text(SOURCE_DATE + "\n")
    for path in (folder / "trust").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "trust").chmod(0o755)
    place = layout.partitions(machine.disk)[layout.number("IDENTITY_PART")]
    layout.put_file_system(machine.disk, place, folder, "vigie-identity", work)
