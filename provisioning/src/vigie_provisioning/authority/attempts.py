"""Refused attempts, gathered in a bounded memory and written now and then: a flood costs no disk and no reply time."""

from __future__ import annotations

import sqlite3

from vigie_provisioning.authority import records
from vigie_provisioning.authority.limits import Buckets

GATHERED_MAX = 256
EVENTS_PER_HOUR = 60


class Attempts:
    """Serials that were refused before anything was proven. why: "unknown" or "signature"."""

    def __init__(self) -> None:
        self._gathered: dict[tuple[str, str], tuple[int, str]] = {}
        self._events = Buckets(EVENTS_PER_HOUR / 3600, EVENTS_PER_HOUR, 1)
        self.total = 0
        self.dropped = 0

    def note(self, serial: str, why: str, source: str) -> None:
        """Counts one."""
        self.total += 1
        key = (serial, why)
        if key not in self._gathered and len(self._gathered) >= GATHERED_MAX:
            self.dropped += 1
            return
        self._gathered[key] = (self._gathered.get(key, (0, ""))[0] + 1, source[:64])

    def __len__(self) -> int:
        return len(self._gathered)

    def flush(self, db: sqlite3.Connection, now: int) -> None:
        """Writes what was gathered; a serial never seen before is an event, at most EVENTS_PER_HOUR."""
        gathered, self._gathered = self._gathered, {}
        for (serial, why), (count, source) in gathered.items():
            fresh = records.attempt(db, serial, why, count, source, now)
            if fresh and why == "unknown" and not self._events.wait("", now):
                records.event(db, now, "unknown", serial, "", {})
