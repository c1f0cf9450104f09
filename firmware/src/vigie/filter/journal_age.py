"""How old rows of the journal are, when the clock may lie.

A network clock that says 2040 once must not cost the town hall its 30 days. So the day that counts for expiring is a
record of its own: it follows a signed time at once, and otherwise moves no faster than the box's monotonic clock, plus
a day for each start of the daemon (the box may have been off, nobody knows for how long). A box that is never told a
signed time keeps rows a little longer; the bounds in rows and bytes hold all the same.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

RESTART_S: Final = 86_400.0
"""Granted at the first look of a run."""
_KEY: Final = "expired-at"


def advance(db: sqlite3.Connection, wall: float, since: float, signed: float | None) -> int:
    """The day that counts, in Unix seconds; kept in `meta`. Call it inside a transaction.

    since: seconds of the monotonic clock since the call before, RESTART_S for the first of a run.
    """
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    last = None
    if row is not None:
        with contextlib.suppress(ValueError):
            last = int(row[0])
    if signed is not None:
        now = signed
    elif last is None:
        now = wall
    else:
        now = min(wall, last + since)
    day = int(now)
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_KEY, str(day)))
    return day
