"""A box in memory that takes firmware: two slots, the boot loader's notes, a disk that keeps what was written to it.

The decision core is the real one, and so is the table that judges a trial. RAUC, restarts and time are played. Cut may
be raised at every point between two steps; what survives is the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vigie.contract.firmware import (
    Bundle,
    Check,
    FirmwareDescriptor,
    FirmwareOrder,
    Severity,
    UpdateCode,
    Version,
    bundle_path,
)
from vigie.update.boot.notes import Trial
from vigie.update.boot.outcome import Cause, Outcome, judge
from vigie.update.firmware.core import handle
from vigie.update.firmware.record import Record, readable
from vigie.update.firmware.view import (
    Action,
    Committed,
    Copying,
    Event,
    Facts,
    Installed,
    Judged,
    NotInstalled,
    Started,
    Turn,
)

BOARD = "cm4"
START = 1_790_000_000.0
OLD = Version(2026, 10, 1)


class Cut(Exception):
    """The power went."""


def release(
    version: Version, floor: Version = OLD, requires: Version | None = None, severity: Severity = Severity.NORMAL,
    earliest: int = 0, board: str = BOARD,
) -> FirmwareDescriptor:  # fmt: skip
    """A signed descriptor, as the repository gives it."""
    bundle = Bundle("ab" * 32, bundle_path(board, version), 1000)
    return FirmwareDescriptor(version, {board: bundle}, floor, requires, severity, earliest, "", "")


@dataclass(frozen=True)
class Make:
    """How a release turns out. sick: the check it fails; dies: it never comes to userspace; torn: RAUC refuses it."""

    sick: Check | None = None
    dies: bool = False
    torn: UpdateCode | None = None


@dataclass
class Box:
    """See the module. `point` is called between two steps and may raise Cut."""

    offers: dict[Version, FirmwareDescriptor] = field(default_factory=dict)
    makes: dict[Version, Make] = field(default_factory=dict)
    order: FirmwareOrder | None = None
    quiet: bool = True
    point: Callable[[], None] = lambda: None
    # what survives a cut
    slots: dict[str, Version | None] = field(default_factory=lambda: {"A": OLD, "B": OLD})
    committed: str = "A"
    trial: Trial | None = None
    disk: str = "{}"
    now: float = START
    # what does not
    running: str = "A"
    boot: int = 1
    flag: bool = False
    outcome: Outcome = Outcome.NONE
    record: Record = field(default_factory=Record)
    # what tests look at
    installed: list[tuple[Version, Version, Version]] = field(default_factory=list)  # version, running, floor
    floors: list[Version] = field(default_factory=list)
    said_good: list[tuple[Version | None, Version | None]] = field(default_factory=list)
    restarts: int = 0

    @property
    def version(self) -> Version:
        """Of the system that runs."""
        version = self.slots[self.running]
        assert version is not None, "a slot that was not whole has been started"
        return version

    def facts(self) -> Facts:
        offer = None if self.order is None else self.offers.get(self.order.version)
        outcome = self.outcome
        if outcome is Outcome.ON_TRIAL and self.trial is None:
            outcome = Outcome.NONE
        return Facts(
            now=self.now, boot=str(self.boot), boottime=self.now - START, running=self.version, board=BOARD,
            outcome=outcome, order=self.order, offer=offer, quiet=self.quiet,
            refusal=None if offer is not None else UpdateCode.UNKNOWN_VERSION,
        )  # fmt: skip

    # ---- power ------------------------------------------------------------------------------------------------

    def start(self, cause: Cause = Cause.POWER) -> None:
        """The firmware of the board takes a slot; then the service starts."""
        self.boot += 1
        self.running = self.trial.slot if self.flag and self.trial is not None else self.committed
        self.flag = False
        self.restarts += 1
        if self.running != self.committed and self.makes.get(self.version, Make()).dies:
            self.boot += 1
            self.running, cause = self.committed, Cause.WATCHDOG
        self.outcome = judge(self.trial, self.running, self.committed, cause)  # type: ignore[arg-type]
        if self.outcome is Outcome.ON_TRIAL and self.trial is not None:
            self.trial = replace(self.trial, reached=self.trial.armed)
        elif self.outcome in (Outcome.COMMITTED, Outcome.ROLLED_BACK):
            self.trial = None
        self.serve()

    def serve(self) -> None:
        """The service starts (again)."""
        self.record = readable(json.loads(self.disk)) or Record()
        self.give(Started())

    # ---- the service ------------------------------------------------------------------------------------------

    def give(self, event: Event) -> Action:
        record, action = handle(self.record, event, self.facts())
        self.point()
        self.record = record
        self.disk = json.dumps(record.to_dict())
        self.floors.append(record.floor)
        if record.phase.value == "good":
            self.said_good.append((record.version, self.version))
        self.point()
        return action

    def turn(self) -> None:
        """Time passes, and what follows is done."""
        self.now += 60
        self.do(self.give(Turn()))

    def do(self, action: Action) -> None:
        match action:
            case Action.INSTALL:
                self._install()
            case Action.TRY:
                assert self.trial is not None
                self.trial = replace(
                    self.trial, armed=self.trial.armed + 1,
                    lost=self.trial.lost + (self.trial.reached != self.trial.armed),
                )  # fmt: skip
                self.point()
                self.flag = True
                self.start(Cause.ORDERLY)
            case Action.EXAMINE:
                self.do(self.give(Judged(self.makes.get(self.version, Make()).sick, "seen")))
            case Action.COMMIT:
                self.committed = self.running
                self.point()
                self.trial = None
                self.point()
                self.do(self.give(Committed()))
            case Action.DROP:
                self.trial = None
            case Action.LEAVE:
                if self.trial is not None and self.trial.slot == self.running:
                    self.trial = None
                self.point()
                self.start(Cause.ORDERLY)
            case Action.WAIT:
                pass

    def _install(self) -> None:
        order = self.record.ordered
        assert order is not None
        version = order.version
        self.installed.append((version, self.version, self.record.floor))
        torn = self.makes.get(version, Make()).torn
        other = "B" if self.running == "A" else "A"
        assert other != self.committed
        self.point()
        if torn is not None:
            self.give(NotInstalled(torn, False, "refused"))
            return
        self.trial = None
        self.slots[other] = None
        self.give(Copying())
        self.point()
        self.slots[other] = version
        self.trial = Trial(other)  # type: ignore[arg-type]
        self.point()
        self.do(self.give(Installed()))
