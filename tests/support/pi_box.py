"""A whole update on a model of a board, through the product's own `Boot`, with power cuts at chosen steps.

What drives it is as simple as an updater can be: install when the old release runs, restart into the trial, soak,
commit or go back. `finish` runs it until nothing is left to do and says how that ended.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tests.support.pi_disk import BOOT, NEW, OLD, ROOT, SELECT, Disk, flashed, release, version
from tests.support.pi_firmware import Firmware
from tests.support.pi_power import Cut, Power, PowerCutError
from vigie.update.boot import Boot, Cause, Chain, Outcome, Slot, autoboot, other
from vigie.update.boot.tryboot import Tryboot

CHUNK = 32 * 1024
SPOILT = b"\xff" * 100 * 1024 + bytes(SELECT[1] - 100 * 1024)
STARTS = 16
"""after which it counts as unfinished"""


class Release(StrEnum):
    """What the new one is like."""

    GOOD = "good"
    UNHEALTHY = "unhealthy"
    """starts, and finds itself bad in the soak"""
    PANICS = "panics"
    """before userspace"""
    HANGS = "hangs"
    """in the soak, until the watchdog resets"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """committed: the slot that runs before. spoilt: partition 1 is not readable to begin with."""

    name: str
    committed: Slot
    release: Release
    spoilt: bool = False

    def disk(self) -> Disk:
        return flashed(self.committed, SPOILT if self.spoilt else None)


SCENARIOS = (
    Scenario("A to B", "A", Release.GOOD),
    Scenario("B to A", "B", Release.GOOD),
    Scenario("A to B, back", "A", Release.UNHEALTHY),
    Scenario("B to A, back", "B", Release.UNHEALTHY),
    Scenario("A to B, panics", "A", Release.PANICS),
    Scenario("B to A, hangs", "B", Release.HANGS),
    Scenario("A to B, partition 1 spoilt", "A", Release.GOOD, spoilt=True),
)


class Board(Protocol):
    """A boot loader's side."""

    def flash(self, disk: Disk, committed: Slot) -> None:
        """What the factory writes besides the partitions."""
        ...

    def start(self, power: Power, flag: bool) -> Slot | None:
        """Which slot it starts; None: none."""
        ...

    def ordinary(self, disk: Disk) -> Slot | None:
        """Which slot an ordinary start would take."""
        ...

    def in_order(self, disk: Disk, slot: Slot) -> bool:
        """Whether its settings are as they should be when `slot` is committed."""
        ...

    def chain(self, power: Power) -> Chain:
        """What the box writes them with."""
        ...


class PiBoard:
    """A CM4. walk: as PARTITION_WALK in its EEPROM."""

    def __init__(self, work: Path, *, walk: bool = True) -> None:
        self._firmware = Firmware(work, walk=walk)

    def flash(self, disk: Disk, committed: Slot) -> None:
        """Nothing: it is all in the partitions."""

    def start(self, power: Power, flag: bool) -> Slot | None:
        return self._firmware.start(power.disk, flag)

    def ordinary(self, disk: Disk) -> Slot | None:
        return self._firmware.start(disk, flag=False)

    def in_order(self, disk: Disk, slot: Slot) -> bool:
        return self._firmware.autoboot(disk) == autoboot.text(slot)

    def chain(self, power: Power) -> Chain:
        return Tryboot(Path("p1"), power)


class End(StrEnum):
    """finished: in the slot that is right, committed, whole, partition 1 and notes in order."""

    FINISHED = "finished"
    BRICKED = "bricked"
    UNFINISHED = "unfinished"


@dataclass
class Run:
    """Of one scenario with its cuts."""

    scenario: Scenario
    power: Power
    end: End = End.UNFINISHED
    why: str = ""
    starts: list[str] = field(default_factory=list)


class Box:
    """The driver."""

    def __init__(self, board: Board, scenario: Scenario, cuts: list[Cut]) -> None:
        self._board = board
        self.run = Run(scenario, Power(scenario.disk(), list(cuts)))
        board.flash(self.run.power.disk, scenario.committed)
        self._flag = False
        self._cause = Cause.ORDERLY

    def finish(self) -> Run:
        """Until nothing is left to do, the box is dead, or it does not come to an end."""
        run = self.run
        for _ in range(STARTS):
            try:
                ended = self._start()
            except PowerCutError as cut:
                run.starts.append(f"cut at {cut}")
                self._flag, self._cause = False, Cause.POWER
                continue
            if ended:
                return run
        run.why = "; ".join(run.starts)
        return run

    def _start(self) -> bool:
        """One start of the machine, to its next restart. True when it is over, for better or worse."""
        run, power = self.run, self.run.power
        flag, self._flag = self._flag, False
        slot = self._board.start(power, flag)
        holds = version(power.disk, slot) if slot else None
        run.starts.append(f"{slot}: {holds}")
        if slot is None or holds is None:
            run.end, run.why = End.BRICKED, "; ".join(run.starts)
            return True
        power.step("firmware")
        if holds == NEW and run.scenario.release is Release.PANICS:
            self._cause = Cause.PANIC
            return False
        boot = Boot(self._board.chain(power), power, Path("data"), slot)
        outcome = boot.start(self._cause)
        if boot.settled():  # vigie-boot-good.service
            boot.set_state(slot, good=True)
        run.starts[-1] += f" {outcome}"
        self._cause = Cause.ORDERLY
        if holds == NEW:
            return self._new(boot, outcome)
        return self._old(boot, outcome)

    def _new(self, boot: Boot, outcome: Outcome) -> bool:
        power, kind = self.run.power, self.run.scenario.release
        if outcome is not Outcome.ON_TRIAL:
            return self._over(boot, NEW)
        power.step("soak")
        if kind is Release.HANGS:
            self._cause = Cause.WATCHDOG
        elif kind is Release.UNHEALTHY:
            boot.set_state(boot.current(), good=False)
            power.step("restart")
        else:
            boot.set_state(boot.current(), good=True)
            return self._over(boot, NEW)
        return False

    def _old(self, boot: Boot, outcome: Outcome) -> bool:
        power = self.run.power
        if outcome is Outcome.ON_TRIAL:  # what the firmware fell back to, with no trial known
            boot.set_state(boot.current(), good=True)
        if outcome is Outcome.ROLLED_BACK or boot.notes().failed is not None:
            return self._over(boot, OLD)
        if outcome is Outcome.NONE or outcome is Outcome.ON_TRIAL:
            self._install(boot)
        self._flag = bool(boot.activate())
        power.step("restart")
        return False

    def _install(self, boot: Boot) -> None:
        """What RAUC does, through its custom backend."""
        target, power = other(boot.current()), self.run.power
        boot.set_state(target, good=False)
        for place, data in zip((BOOT[target], ROOT[target]), release(NEW), strict=True):
            for at in range(0, len(data), CHUNK):
                power.write_slot(place[0] + at, data[at : at + CHUNK])
            power.flush_slot()
        boot.set_primary(target)

    def _over(self, boot: Boot, wanted: int) -> bool:
        """Everything in order, or not."""
        run, disk = self.run, self.run.power.disk
        slot, running = self._board.ordinary(disk), boot.current()
        faults = []
        if slot != running or version(disk, running) != wanted:
            faults.append(f"an ordinary start takes {slot}")
        if (run.scenario.release is Release.GOOD) != (wanted == NEW):
            faults.append(f"ends with release {wanted}")
        if boot.trial() is not None or boot.committed() != running or boot.state(running) != "good":
            faults.append(f"notes: {boot.notes()}")
        # What was spoilt before is written anew by the commit or the arming at the latest.
        if not self._board.in_order(disk, running):
            faults.append("the boot loader's settings are not in order")
        run.end = End.UNFINISHED if faults else End.FINISHED
        run.why = "; ".join([*run.starts, *faults])
        return True


def single(board: Board, scenario: Scenario) -> Iterator[Cut]:
    """Every cut there is: each step of the scenario, each way it can end."""
    ways = Box(board, scenario, []).finish().power.ways
    return (Cut(step, way) for step, count in enumerate(ways) for way in range(count))


def double(board: Board, scenario: Scenario, count: int, seed: int) -> Iterator[list[Cut]]:
    """Two cuts, the second while the box makes good the first: that many, drawn at random."""
    chance = random.Random(f"{scenario.name} {seed}")
    every = list(single(board, scenario))
    for _ in range(count):
        first = chance.choice(every)
        ways = Box(board, scenario, [first]).finish().power.ways
        step = chance.randrange(first.step + 1, len(ways)) if first.step + 1 < len(ways) else None
        if step is not None:
            yield [first, Cut(step, chance.randrange(ways[step]))]
