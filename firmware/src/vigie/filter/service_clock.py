"""Seconds in service: a clock that nobody can set, kept over restarts.

It counts CLOCK_MONOTONIC, goes on over a restart of the daemon, and stands still while the box is off. What must
not be opened nor closed by a clock that jumps (hours of isolation ordered online, the day after a local lift, the
month of a salt) is counted on it. A power cut sets it back by what was not saved: bounds then last a little longer,
never shorter.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from vigie.errors import HostError
from vigie.host.files import read_json, write_json

SAVE_S: Final = 300.0
LONGEST_S: Final = 100 * 366 * 86_400.0


class ServiceClock:
    """`mono` is CLOCK_MONOTONIC in seconds, `boot` the kernel's name for this boot ("" where there is none)."""

    def __init__(self, path: Path, mono: float, boot: str) -> None:
        self._path = path
        self._boot = boot
        saved = _read(path)
        seconds, at = _number(saved, "seconds"), _number(saved, "mono")
        if boot and saved.get("boot") == boot and mono >= at:
            seconds += mono - at  # the box was on, only the daemon was not
        self._offset = seconds - mono
        self._saved = mono - 2 * SAVE_S

    def at(self, mono: float) -> float:
        """Seconds in service at an instant of CLOCK_MONOTONIC."""
        return mono + self._offset

    def not_before(self, mono: float, seconds: float) -> None:
        """Moves it forward: something on record is later than what was saved."""
        self._offset = max(self._offset, min(seconds, LONGEST_S) - mono)

    def save(self, mono: float, *, now: bool = False) -> None:
        """Keeps it, every five minutes, or `now`. Raises HostError."""
        if now or mono - self._saved >= SAVE_S:
            self._saved = mono
            write_json(self._path, {"seconds": self.at(mono), "mono": mono, "boot": self._boot})


def _read(path: Path) -> dict[str, object]:
    with contextlib.suppress(HostError):
        return read_json(path) or {}
    return {}


def _number(saved: dict[str, object], key: str) -> float:
    value = saved.get(key, 0)
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LONGEST_S
    return float(value) if sound else 0.0  # type: ignore[arg-type]
