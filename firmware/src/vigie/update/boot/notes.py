"""What the boot loader has no room for, on /data: the trial, and which slots are bad.

Losing the file loses a trial that was not committed, and nothing else: the box runs the slot that is committed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from vigie.errors import HostError

from .chain import BootError, Slot, as_slot
from .storage import Storage

FILE: Final = "notes.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """A slot that RAUC installed and nobody committed yet.

    armed: restarts into it that were asked for; reached: the number of the last one that came to userspace there;
    lost: those before the last one that did not.
    """

    slot: Slot
    armed: int = 0
    reached: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Notes:
    """bad: slots that must not be started; failed: the slot whose last trial judged itself bad, until the next one."""

    trial: Trial | None = None
    bad: frozenset[Slot] = frozenset()
    failed: Slot | None = None

    def with_bad(self, slot: Slot, bad: bool) -> Notes:
        """The same, with `slot` called bad or good."""
        return replace(self, bad=self.bad | {slot} if bad else self.bad - {slot})


def load(storage: Storage, folder: Path) -> Notes:
    """A file that a power cut or a bad block has spoilt counts as none, as does one on a dead partition."""
    try:
        data = storage.read(folder / FILE)
    except HostError:
        return Notes()
    if not data:
        return Notes()
    try:
        said = json.loads(data)
        trial = said["trial"]
        if trial is not None:
            trial = Trial(as_slot(trial["slot"]), *(_count(trial[name]) for name in ("armed", "reached", "lost")))
        failed = None if said["failed"] is None else as_slot(said["failed"])
        return Notes(trial, frozenset(as_slot(slot) for slot in said["bad"]), failed)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Notes()


def save(storage: Storage, folder: Path, notes: Notes) -> None:
    """On the disk before this returns; a cut leaves the old notes or the new ones. Raises BootError."""
    said = {
        "v": 1,
        "trial": asdict(notes.trial) if notes.trial else None,
        "bad": sorted(notes.bad),
        "failed": notes.failed,
    }
    path = folder / FILE
    new = path.with_name(FILE + ".new")
    try:
        storage.write(new, (json.dumps(said, sort_keys=True) + "\n").encode())
        storage.sync(new)
        storage.rename(new, path)
        storage.sync_folder(folder)
    except OSError as error:
        raise BootError(
            f"{path}: cannot be written ({error.strerror}); free some room or check the partition"
        ) from error


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1_000_000:
        raise ValueError(f"{value!r} is no count")
    return value
