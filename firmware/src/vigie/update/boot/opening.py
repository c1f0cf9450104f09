"""The boot loader of this board, and what was last said of the slots to those who may not ask it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from vigie.errors import HostError
from vigie.host.files import read_json, read_small, write_json

from .boot import Boot
from .chain import BootError, Chain, Slot, as_slot
from .outcome import Cause, Outcome
from .storage import Disk
from .tryboot import Tryboot
from .uboot import Uboot

SLOT = re.compile(r"(?:^|\s)rauc\.slot=([AB])(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Places:
    """Files of the machine. Each may be set by VIGIE_BOOT_ and its name: RAUC passes no arguments of ours.

    config: U-Boot's fw_env.config; a board that has none is a Raspberry Pi.
    """

    state: Path = Path("/data/rauc/boot")
    select: Path = Path("/dev/disk/by-partuuid/76696769-01")
    config: Path = Path("/etc/fw_env.config")
    cmdline: Path = Path("/proc/cmdline")
    said: Path = Path("/run/vigie-boot.json")
    guardian: Path = Path("/data/guardian/state.json")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Places:
        """With what the environment sets."""
        names = {field.name: environment.get(f"VIGIE_BOOT_{field.name.upper()}") for field in fields(cls)}
        return cls(**{name: Path(value) for name, value in names.items() if value})


def open_boot(places: Places = Places()) -> Boot:
    """Of this board; root alone can do more than read. Raises BootError when the kernel was not told its slot."""
    found = SLOT.search((read_small(places.cmdline) or b"").decode(errors="replace"))
    if found is None:
        raise BootError(f"{places.cmdline}: no rauc.slot=, this system was not started from a slot")
    disk = Disk()
    chain: Chain = Uboot(places.config) if places.config.exists() else Tryboot(places.select, disk)
    return Boot(chain, disk, places.state, as_slot(found[1]))


def cause(places: Places) -> Cause:
    """Why this start happened: the guardian's judgement, if it is of this start."""
    with contextlib.suppress(HostError, ValueError):
        judged = read_json(places.guardian) or {}
        boot = (read_small(places.boot_id) or b"").decode(errors="replace").strip()
        if boot and judged.get("boot") == boot:
            return Cause(str(judged.get("reason")))
    return Cause.UNKNOWN


@dataclass(frozen=True, slots=True)
class Said:
    """`/run/vigie-boot.json`. outcome: of this start; failed: slot of the last failed trial; armed, lost: counts."""

    current: Slot
    committed: Slot
    trial: Slot | None = None
    outcome: Outcome = Outcome.NONE
    failed: Slot | None = None
    armed: int = 0
    lost: int = 0


def tell(boot: Boot, places: Places, outcome: Outcome | None = None) -> None:
    """Writes it; without `outcome` the one of this start stays. Raises HostError, BootError."""
    if outcome is None:
        before = read(places)
        outcome = before.outcome if before else Outcome.NONE
    notes = boot.notes()
    trial = notes.trial
    write_json(places.said, {
        "current": boot.current(), "committed": boot.committed(), "trial": trial.slot if trial else None,
        "outcome": outcome.value, "failed": notes.failed, "armed": trial.armed if trial else 0,
        "lost": trial.lost if trial else 0,
    })  # fmt: skip


def read(places: Places = Places()) -> Said | None:
    """What was last said, for users that are not root; None before the first word of this start. Raises HostError."""
    said = read_json(places.said) or {}
    with contextlib.suppress(KeyError, ValueError, TypeError):
        trial, failed = said["trial"], said["failed"]
        return Said(
            as_slot(said["current"]), as_slot(said["committed"]), None if trial is None else as_slot(trial),
            Outcome(said["outcome"]), None if failed is None else as_slot(failed),
            int(said["armed"]), int(said["lost"]),
        )  # fmt: skip
    return None


def dump(said: Said) -> str:
    """One line of JSON, for people."""
    return json.dumps({field.name: getattr(said, field.name) for field in fields(said)})
