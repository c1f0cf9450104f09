"""The authority's database: SQLite, write-ahead log, flushed at each commit.

Times are Unix seconds. Certificates are kept until 400 days after their end, events for 400 days: who had which
certificate when is asked long after. Addresses of strangers (`attempts`) go after 30 days. Ids of `events` are never
used again: they are what the console follows.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from vigie_provisioning.errors import StoreError

VERSION = 1
_TABLES = """
CREATE TABLE registers (
    id TEXT PRIMARY KEY, line INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE TABLE register_lines (
    register TEXT NOT NULL REFERENCES registers(id), line INTEGER NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (register, line)
) STRICT, WITHOUT ROWID;
CREATE TABLE boxes (
    serial TEXT PRIMARY KEY, box TEXT NOT NULL UNIQUE, public BLOB NOT NULL UNIQUE, claim_id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL, lot TEXT NOT NULL, image TEXT NOT NULL, registered INTEGER NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0, shown INTEGER NOT NULL DEFAULT 0, key BLOB NOT NULL DEFAULT x'',
    block TEXT NOT NULL DEFAULT '', block_note TEXT NOT NULL DEFAULT '', released INTEGER NOT NULL DEFAULT 0,
    conflict INTEGER NOT NULL DEFAULT 0, software TEXT NOT NULL DEFAULT '', seen INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE certificates (
    fingerprint BLOB PRIMARY KEY, number TEXT NOT NULL, serial TEXT, box TEXT NOT NULL, issuer TEXT NOT NULL,
    key BLOB NOT NULL, state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'revoked')),
    not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, issued INTEGER NOT NULL,
    revoked INTEGER, reason TEXT, pem TEXT NOT NULL, join_state BLOB NOT NULL
) STRICT;
CREATE INDEX certificates_of ON certificates(serial, state);
CREATE INDEX certificates_by_key ON certificates(key);
CREATE INDEX certificates_revoked ON certificates(state, not_after);
CREATE TABLE used (
    sid BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, key BLOB NOT NULL, expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, serial TEXT NOT NULL,
    box TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE TABLE attempts (
    serial TEXT NOT NULL, why TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
    source TEXT NOT NULL, PRIMARY KEY (serial, why)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_last ON attempts(last);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


def open_store(path: Path) -> sqlite3.Connection:
    """The writing connection; makes the file (0600) and its tables when there are none. StoreError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA busy_timeout = 5000")
        [version] = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise StoreError(f"{path}: made by another version ({version}, this one is {VERSION}); use that version")
    except (sqlite3.Error, OSError) as e:
        raise StoreError(f"{path}: cannot be opened ({e}); check rights and space, or restore a backup") from e
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, and sees what is committed. StoreError."""
    try:
        db = sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA busy_timeout = 5000")
        [version] = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as e:
        raise StoreError(f"{path}: cannot be opened ({e}); is the authority set up?") from e
    if version != VERSION:
        raise StoreError(f"{path}: made by another version ({version}, this one is {VERSION}); use that version")
    return db


def backup(path: Path, to: Path) -> None:
    """A consistent copy of the database, taken while the authority runs (SQLite's online backup). StoreError."""
    try:
        to.touch(mode=0o600)
        source = open_reader(path)
        target = sqlite3.connect(to)
        try:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
            [problem] = target.execute("PRAGMA integrity_check").fetchone()
        finally:
            target.close()
            source.close()
    except (sqlite3.Error, OSError) as e:
        raise StoreError(f"{to}: no backup was made ({e}); check space and rights") from e
    if problem != "ok":
        raise StoreError(f"{to}: the copy is damaged ({problem}); check the disk of {path}")
