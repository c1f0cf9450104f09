"""What the decision core sees and says: facts of one moment, events, actions. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vigie.contract.firmware import NO_RELEASE, Check, FirmwareDescriptor, FirmwareOrder, UpdateCode, Version
from vigie.update.boot.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Facts:
    """This moment. now: Unix seconds of the trusted clock, signed: whether the department signed it in this boot.

    boot, boottime: boot id, CLOCK_BOOTTIME. running: version of the system that runs; board: as descriptors name it.
    outcome: of the trial that the boot loader's notes tell of. order: the department's, None when withdrawn or none.
    offer: the signed descriptor of the order's version; refusal: why there is none. quiet: the box may restart now.
    ill: the first check that this system does not pass now. free: bytes on /data. base, ports: base in force, ports
    with a cable, for the comparison after the update.
    """

    now: float = 0.0
    signed: bool = True
    boot: str = ""
    boottime: float = 0.0
    running: Version = NO_RELEASE
    board: str = ""
    outcome: Outcome = Outcome.NONE
    order: FirmwareOrder | None = None
    offer: FirmwareDescriptor | None = None
    refusal: UpdateCode | None = None
    quiet: bool = True
    ill: Check | None = None
    free: int = 1 << 40
    base: int = 0
    ports: tuple[str, ...] = ()


# ---- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """This service has just started: after a start of the box, or alone."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Time has passed, or something was told."""


@dataclass(frozen=True, slots=True)
class Copying:
    """RAUC has found the bundle to be the one that is signed, and writes the other slot."""


@dataclass(frozen=True, slots=True)
class Installed:
    """RAUC has written and verified the other slot, and the boot loader's notes name it for a trial."""


@dataclass(frozen=True, slots=True)
class NotInstalled:
    """It has not. passing: the way is to blame (network, space, a service that restarted), not the release."""

    code: UpdateCode
    passing: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """Of the new system about itself. check None: it has been well for long enough."""

    check: Check | None
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """Ordinary starts take the running slot from now on; read back from the boot loader."""


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """They do not, for the reason given."""

    detail: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """The mairie asks to wait until `until` (Unix seconds); 0: no longer."""

    until: float


Event = Started | Turn | Copying | Installed | NotInstalled | Judged | Committed | NotCommitted | Postpone

# ---- actions ------------------------------------------------------------------------------------------------------


class Action(StrEnum):
    """What the shell does next. It has put the new record on disk before."""

    WAIT = "wait"
    INSTALL = "install"
    TRY = "try"  # restart into the slot under trial
    EXAMINE = "examine"  # the health checks, until Judged
    COMMIT = "commit"
    DROP = "drop"  # what was installed is not tried: the other slot is called bad
    LEAVE = "leave"  # call the running slot bad and restart into the other one
