"""The journal's file: schema, migrations, opening, setting a corrupt file aside."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from vigie.errors import JournalError

BUSY_MS = 2000
SET_ASIDE_KEPT = 2

# Migration n brings a file from version n to n + 1; released ones are never edited.
MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE attempts (
        minute INTEGER NOT NULL,        -- Unix time / 60
        device TEXT NOT NULL,           -- MAC of the LAN end, '' when unknown
        destination TEXT NOT NULL,      -- the name when a name decided, else the remote address
        reason INTEGER NOT NULL,        -- vigie.contract.codes.Reason
        verdict INTEGER NOT NULL,
        category INTEGER NOT NULL,
        direction INTEGER NOT NULL,     -- 1 to the internet, 2 from it, 0 unknown or local
        severity INTEGER NOT NULL,      -- 0..3
        address TEXT NOT NULL,          -- remote address last seen
        proto INTEGER NOT NULL,
        port INTEGER NOT NULL,
        packets INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        first REAL NOT NULL,            -- Unix time
        last REAL NOT NULL,
        PRIMARY KEY (minute, device, destination, reason)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX attempts_prune ON attempts (severity, minute);
    CREATE TABLE alerts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        first REAL NOT NULL,
        last REAL NOT NULL,
        kind TEXT NOT NULL,
        severity INTEGER NOT NULL,
        port INTEGER NOT NULL,
        mac TEXT NOT NULL,
        address TEXT NOT NULL,
        count INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE losses (
        day INTEGER NOT NULL,           -- Unix time / 86400
        why TEXT NOT NULL,              -- rows, bytes, memory
        entries INTEGER NOT NULL,
        packets INTEGER NOT NULL,
        PRIMARY KEY (day, why)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- age
        boot TEXT NOT NULL,                     -- '' and 0 until the row is numbered
        seq INTEGER NOT NULL,
        kind TEXT NOT NULL,                     -- vigie.contract.words.Kind
        ts INTEGER NOT NULL,                    -- Unix time
        clock TEXT NOT NULL,                    -- vigie.contract.words.Clock
        severity INTEGER NOT NULL,              -- 0..3
        ref INTEGER NOT NULL,                   -- id of an alert, whose later rows replace earlier ones; 0 for none
        body TEXT NOT NULL                      -- JSON, ASCII
    ) STRICT;
    CREATE UNIQUE INDEX outbox_number ON outbox (boot, seq) WHERE seq > 0;
    CREATE INDEX outbox_prune ON outbox (severity, id) WHERE seq = 0;
    CREATE INDEX outbox_ref ON outbox (ref) WHERE seq = 0 AND ref > 0;
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)


class Unusable(JournalError):
    """The file exists but is corrupt, or was written by a newer version: it has to be set aside."""


def connect(path: Path) -> sqlite3.Connection:
    """A checked, migrated connection for writing, usable from any one thread at a time.

    Raises Unusable (set the file aside), or sqlite3.Error / OSError when the place itself fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    db = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        if fresh:
            # Must come before the first table: freed pages are then given back to the file system.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        # In WAL mode only checkpoints reach the platter: a power cut costs the last ones, never the file.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA cache_size = -1024")
        _check(db, path)
        _migrate(db, path)
    except sqlite3.DatabaseError as e:
        db.close()
        if _is_corrupt(e):
            raise Unusable(f"{path}: the journal is corrupt ({e})") from e
        raise
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read: a slow query never delays the writer."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_MS / 1000)


def set_aside(path: Path, now: float) -> Path:
    """Renames an unusable journal (its WAL goes along); the two most recent ones are kept."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    path.rename(target)
    kept = sorted(p for p in path.parent.glob(f"{path.name}.corrupt-*") if not p.name.endswith(("-wal", "-shm")))
    for old in kept[:-SET_ASIDE_KEPT]:
        for victim in (old, old.with_name(old.name + "-wal"), old.with_name(old.name + "-shm")):
            victim.unlink(missing_ok=True)
    return target


def _check(db: sqlite3.Connection, path: Path) -> None:
    row = db.execute("PRAGMA quick_check(1)").fetchone()
    if row is None or row[0] != "ok":
        raise Unusable(f"{path}: the journal is corrupt ({row[0] if row else 'no answer'})")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise Unusable(f"{path}: the journal has format {version}, this version knows {SCHEMA_VERSION}")
    for number in range(version, SCHEMA_VERSION):
        db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    return (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
