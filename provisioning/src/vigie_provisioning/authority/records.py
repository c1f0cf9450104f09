"""Rows of the authority's database, read and written. Functions take an open connection and belong to a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from vigie_provisioning.authority.decide import Block, Record
from vigie_provisioning.errors import NotFoundError

ATTEMPTS_MAX = 1000
KEEP_EXPIRED_S = 400 * 86_400
KEEP_ATTEMPTS_S = 30 * 86_400


@dataclass(slots=True, frozen=True)
class Box:
    """A purchased box. public: DER of its identity key."""

    serial: str
    box: str
    public: bytes
    record: Record
    conflict: int

    @classmethod
    def of(cls, row: sqlite3.Row) -> Box:
        """From a row of `boxes`."""
        record = Record(row["seq"], row["shown"], row["key"], Block(row["block"]), bool(row["released"]))
        return cls(row["serial"], row["box"], row["public"], record, row["conflict"])


@dataclass(slots=True, frozen=True)
class Held:
    """A certificate as the store holds it. serial is None for the department's own clients."""

    fingerprint: bytes
    number: str
    serial: str | None
    box: str
    key: bytes
    state: str
    not_before: int
    not_after: int
    reason: str | None
    pem: str
    join_state: bytes

    @classmethod
    def of(cls, row: sqlite3.Row) -> Held:
        """From a row of `certificates`."""
        return cls(*(row[name] for name in cls.__slots__))


def box_by_serial(db: sqlite3.Connection, serial: str) -> Box | None:
    """The box of a serial."""
    row = db.execute("SELECT * FROM boxes WHERE serial = ?", (serial,)).fetchone()
    return None if row is None else Box.of(row)


def box_named(db: sqlite3.Connection, name: str) -> Box:
    """The box of a serial or a box id. NotFoundError."""
    row = db.execute("SELECT * FROM boxes WHERE serial = ?1 OR box = ?1", (name,)).fetchone()
    if row is None:
        raise NotFoundError(f"{name}: no box of this serial or id; is its register imported?")
    return Box.of(row)


def keep(db: sqlite3.Connection, serial: str, record: Record) -> None:
    """Writes what the authority remembers of a serial."""
    db.execute(
        "UPDATE boxes SET seq = ?, shown = ?, key = ?, block = ?, released = ? WHERE serial = ?",
        (record.seq, record.shown, record.key, record.block.value, record.released, serial),
    )


def certificate(db: sqlite3.Connection, fingerprint: bytes) -> Held | None:
    """A certificate by its SHA-256."""
    row = db.execute("SELECT * FROM certificates WHERE fingerprint = ?", (fingerprint,)).fetchone()
    return None if row is None else Held.of(row)


def last_certificate(db: sqlite3.Connection, serial: str, key: bytes) -> Held | None:
    """The newest certificate of a serial for one key."""
    row = db.execute(
        "SELECT * FROM certificates WHERE serial = ? AND key = ? ORDER BY issued DESC, rowid DESC LIMIT 1",
        (serial, key),
    ).fetchone()
    return None if row is None else Held.of(row)


def key_of_another(db: sqlite3.Connection, serial: str | None, key: bytes) -> bool:
    """Whether a key was certified for somebody else before."""
    query = "SELECT 1 FROM certificates WHERE key = ? AND serial IS NOT ? LIMIT 1"
    return db.execute(query, (key, serial)).fetchone() is not None


def fingerprint_of(made: x509.Certificate) -> bytes:
    """SHA-256 of the DER."""
    return made.fingerprint(hashes.SHA256())


def add_certificate(
    db: sqlite3.Connection,
    made: x509.Certificate,
    *,
    serial: str | None,
    box: str,
    key: bytes,
    state: str,
    now: int,
    join_state: bytes = b"",
) -> Held:
    """Keeps a certificate that was just signed."""
    held = Held(
        fingerprint_of(made),
        f"{made.serial_number:x}",
        serial,
        box,
        key,
        state,
        int(made.not_valid_before_utc.timestamp()),
        int(made.not_valid_after_utc.timestamp()),
        None,
        made.public_bytes(serialization.Encoding.PEM).decode(),
        join_state,
    )
    db.execute(
        "INSERT INTO certificates (fingerprint, number, serial, box, issuer, key, state, not_before, not_after, "
        "issued, pem, join_state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            held.fingerprint,
            held.number,
            serial,
            box,
            made.issuer.rfc4514_string(),
            key,
            state,
            held.not_before,
            held.not_after,
            now,
            held.pem,
            join_state,
        ),
    )
    return held


def revoke(
    db: sqlite3.Connection,
    serial: str,
    now: int,
    reason: str,
    *,
    states: Iterable[str] = ("pending", "active"),
    but: bytes = b"",
) -> list[str]:
    """Revokes certificates of a serial in one of `states`, but one (fingerprint). Returns their numbers (hex)."""
    wanted = list(states)
    marks = ", ".join("?" * len(wanted))
    rows = db.execute(
        f"UPDATE certificates SET state = 'revoked', revoked = ?, reason = ? WHERE serial = ? AND fingerprint != ? "  # noqa: S608 - marks only
        f"AND state IN ({marks}) RETURNING number",
        (now, reason, serial, but, *wanted),
    ).fetchall()
    return [row["number"] for row in rows]


def event(db: sqlite3.Connection, now: int, kind: str, serial: str, box: str, detail: Mapping[str, Any]) -> None:
    """Appends to the log that the console follows."""
    text = json.dumps(dict(detail), ensure_ascii=False, sort_keys=True)
    db.execute(
        "INSERT INTO events (at, kind, serial, box, detail) VALUES (?, ?, ?, ?, ?)", (now, kind, serial, box, text)
    )


def attempt(db: sqlite3.Connection, serial: str, why: str, count: int, source: str, now: int) -> bool:
    """Counts refused attempts under a serial; the table keeps the ATTEMPTS_MAX seen last. Whether it is a new one."""
    done = db.execute(
        "UPDATE attempts SET last = ?, count = count + ?, source = ? WHERE serial = ? AND why = ?",
        (now, count, source, serial, why),
    )
    if done.rowcount:
        return False
    db.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)", (serial, why, now, now, count, source))
    db.execute(
        "DELETE FROM attempts WHERE (serial, why) IN "
        "(SELECT serial, why FROM attempts ORDER BY last DESC, serial LIMIT -1 OFFSET ?)",
        (ATTEMPTS_MAX,),
    )
    return True


def fact(db: sqlite3.Connection, name: str, default: str = "") -> str:
    """A remembered value."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return default if row is None else str(row["value"])


def remember(db: sqlite3.Connection, name: str, value: str) -> None:
    """Remembers a value."""
    db.execute("INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))


def prune(db: sqlite3.Connection, now: int) -> None:
    """Forgets used challenges, addresses of strangers, and what is long over."""
    db.execute("DELETE FROM used WHERE expires < ?", (now,))
    db.execute("DELETE FROM attempts WHERE last < ?", (now - KEEP_ATTEMPTS_S,))
    db.execute("DELETE FROM events WHERE at < ?", (now - KEEP_EXPIRED_S,))
    db.execute("DELETE FROM certificates WHERE not_after < ?", (now - KEEP_EXPIRED_S,))
