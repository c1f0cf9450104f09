"""What waits for the department: rows in the journal's file, until the department says that it has them.

A row is *numbered* (boot, seq) when it is first handed to the link, or when the link itself adds it; that is on the
disk before the answer leaves. A numbered row goes only by `received`; a row without a number may be dropped when
the outbox is full (the least severe, then the oldest first; what went is counted), or replaced by a later row of
the same alert. So the numbers of a boot have no gaps, ever: a missing one is missing on the way, not here. `boot`
is drawn at each start of the daemon, and again when the file had to be begun anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from vigie.contract.envelope import new_boot
from vigie.contract.upward import Alert, Body
from vigie.contract.words import Clock, Kind
from vigie.errors import JournalError

LIMIT_MAX: Final = 500
ANSWER_BYTES: Final = 1024 * 1024  # of bodies handed out at once
ROW_BYTES: Final = 160  # what a row takes in the file besides its body, indexes included
PRUNE_SHARE: Final = 20
LOST_KEY: Final = "outbox-lost"
BOOT_KEY: Final = "outbox-boot"
ADDED_SEVERITY: Final = {Kind.REQUEST: 3, Kind.DIAGNOSTIC: 3, Kind.ACK: 2}


class OutboxFull(JournalError):
    """The outbox holds as much as it may, and all of it has been handed out."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message to be: everything but its number. `ts` is Unix time."""

    body: Body
    ts: int
    clock: Clock

    @property
    def severity(self) -> int:
        """What is dropped first."""
        if isinstance(self.body, Alert):
            return self.body.severity
        return ADDED_SEVERITY.get(self.body.KIND, 0)

    @property
    def ref(self) -> int:
        """The alert whose rows replace each other."""
        return self.body.id if isinstance(self.body, Alert) else 0


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures. lost: rows dropped since the box was made; oldest: Unix time of the oldest row, 0 for none; last_id: of
    the newest row."""

    boot: str
    rows: int
    bytes: int
    numbered: int
    seq: int
    oldest: int
    last_id: int
    lost: int


class Outbox:
    """Bounds and numbers; every method works on the journal's connection, inside the journal's lock and transaction.

    After a commit `settled` is called, after a rollback `look`.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.boot = new_boot()
        self.known = False  # the file has been looked at
        self._seq = 0
        self._rows = self._bytes = self._numbered = self._oldest = self._last_id = self._lost = 0

    @property
    def stats(self) -> Stats:
        """As of the last change."""
        counts = (self._rows, self._bytes, self._numbered, self._seq, self._oldest, self._last_id, self._lost)
        return Stats(self.boot, *counts)

    @property
    def file_bytes(self) -> int:
        """About what the rows take in the file."""
        return self._bytes + self._rows * ROW_BYTES

    @property
    def file_bytes_max(self) -> int:
        """The most that the rows may take in the file."""
        return self._max_bytes + self._max_rows * ROW_BYTES

    def opened(self, db: sqlite3.Connection) -> None:
        """After the file was opened: a file that never heard of this boot's numbers is not continued with them."""
        if self._seq and _meta(db, BOOT_KEY) != self.boot:
            self.boot, self._seq = new_boot(), 0
        self.look(db)
        self.known = True

    def append(self, db: sqlite3.Connection, rows: Iterable[Row]) -> int:
        """Adds rows without a number, then drops what is too much; how many were dropped."""
        for row in rows:
            if row.ref:
                self._delete(db, "seq = 0 AND ref = ?", row.ref)
            self._insert(db, "", 0, row)
        return self._bound(db)

    def add(self, db: sqlite3.Connection, row: Row) -> tuple[str, int]:
        """Adds a numbered row; its (boot, seq). OutboxFull when nothing can be dropped for it."""
        self._insert(db, self.boot, self._seq + 1, row)
        self._bound(db)
        if self._rows > self._max_rows or self._bytes > self._max_bytes:
            raise OutboxFull("the outbox is full of rows that the department has not confirmed; try again later")
        _set_meta(db, BOOT_KEY, self.boot)
        return self.boot, self._seq + 1

    def take(self, db: sqlite3.Connection, limit: int, above: int = 0) -> list[dict[str, Any]]:
        """Rows to send, numbered if they were not; they stay until `received`.

        Those with an id above `above` when it is given, the oldest first. Else everything in the order in which the
        department can confirm it: what has been handed out before, by number, then the rest by age.
        """
        out: list[dict[str, Any]] = []
        seq, size = self._seq, 0
        oldest: dict[str, int] = dict(db.execute("SELECT boot, min(seq) FROM outbox WHERE seq > 0 GROUP BY boot"))
        limit = min(limit, LIMIT_MAX)
        found = _above(db, above, limit) if above else _in_order(db, limit)
        for row_id, boot, number, kind, ts, clock, body in found:
            size += len(body)
            if out and size > ANSWER_BYTES:
                break
            if not number:
                seq += 1
                boot, number = self.boot, seq
                db.execute("UPDATE outbox SET boot = ?, seq = ? WHERE id = ?", (boot, number, row_id))
                self._numbered += 1
            # The row before it *in the outbox*: none below the oldest, for what was confirmed is gone.
            prev = 0 if number == oldest.setdefault(boot, number) else number - 1
            named = {"id": row_id, "boot": boot, "seq": number, "prev": prev, "kind": kind, "ts": ts, "clock": clock}
            out.append(named | {"body": json.loads(body)})
        if seq != self._seq:
            _set_meta(db, BOOT_KEY, self.boot)
        return out

    def received(self, db: sqlite3.Connection, boot: str, upto: int) -> int:
        """The department has the rows of `boot` up to `upto`: they go. How many."""
        return self._delete(db, "boot = ? AND seq BETWEEN 1 AND ?", boot, upto)

    def settled(self, db: sqlite3.Connection) -> None:
        """After a commit: the next number and the age follow the file."""
        top = db.execute("SELECT max(seq) FROM outbox WHERE boot = ?", (self.boot,)).fetchone()[0]
        self._seq = max(self._seq, int(top or 0))
        oldest = db.execute("SELECT ts FROM outbox ORDER BY id LIMIT 1").fetchone()
        self._oldest = int(oldest[0]) if oldest else 0
        newest = db.execute("SELECT max(id) FROM outbox").fetchone()[0]
        self._last_id = int(newest or self._last_id)

    def look(self, db: sqlite3.Connection) -> None:
        """Counts everything again."""
        row = db.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0), coalesce(sum(seq > 0), 0) FROM outbox"
        ).fetchone()
        self._rows, self._bytes, self._numbered = (int(value) for value in row)
        self._lost = int(_meta(db, LOST_KEY) or 0)
        self.settled(db)

    def _insert(self, db: sqlite3.Connection, boot: str, seq: int, row: Row) -> None:
        body = json.dumps(row.body.fields(), separators=(",", ":"), ensure_ascii=True)
        db.execute(
            "INSERT INTO outbox (boot, seq, kind, ts, clock, severity, ref, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (boot, seq, row.body.KIND.value, row.ts, row.clock.value, row.severity, row.ref, body),
        )
        self._rows += 1
        self._bytes += len(body)
        self._numbered += seq > 0

    def _delete(self, db: sqlite3.Connection, where: str, *values: str | int) -> int:
        # `where` is one of this module's own texts.
        sql = f"DELETE FROM outbox WHERE {where} RETURNING length(body), seq"  # noqa: S608
        gone = db.execute(sql, values).fetchall()
        self._rows -= len(gone)
        self._bytes -= sum(size for size, _seq in gone)
        self._numbered -= sum(seq > 0 for _size, seq in gone)
        return len(gone)

    def _bound(self, db: sqlite3.Connection) -> int:
        dropped = 0
        while self._rows > self._max_rows or self._bytes > self._max_bytes:
            count = max(self._rows - self._max_rows, 0) + self._rows // PRUNE_SHARE + 1
            first = "id IN (SELECT id FROM outbox WHERE seq = 0 ORDER BY severity, id LIMIT ?)"
            gone = self._delete(db, first, count)
            if not gone:
                break
            dropped += gone
        if dropped:
            self._lost += dropped
            _set_meta(db, LOST_KEY, str(self._lost))
        return dropped


_COLUMNS: Final = "SELECT id, boot, seq, kind, ts, clock, body FROM outbox "


def _above(db: sqlite3.Connection, above: int, limit: int) -> list[Any]:
    return db.execute(_COLUMNS + "WHERE id > ? ORDER BY id LIMIT ?", (above, limit)).fetchall()


def _in_order(db: sqlite3.Connection, limit: int) -> list[Any]:
    """Numbered rows, boot by boot, then the others: a row sent out of turn is confirmed only after those below it."""
    found: list[Any] = []
    for boot, _first in db.execute(
        "SELECT boot, min(id) FROM outbox WHERE seq > 0 GROUP BY boot ORDER BY 2"
    ).fetchall():
        sql = _COLUMNS + "WHERE boot = ? AND seq > 0 ORDER BY seq LIMIT ?"
        found += db.execute(sql, (boot, limit - len(found))).fetchall()
        if len(found) >= limit:
            return found
    return found + db.execute(_COLUMNS + "WHERE seq = 0 ORDER BY id LIMIT ?", (limit - len(found),)).fetchall()


def _meta(db: sqlite3.Connection, key: str) -> str:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def _set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
    )
