"""Bringing a register of purchased boxes into the store: everything in it, or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vigie_provisioning.authority import records
from vigie_provisioning.errors import RegisterError
from vigie_provisioning.register import Entry, Operator, Register, read_register


@dataclass(slots=True, frozen=True)
class Imported:
    """What an import did. torn: bytes at the end that are part of a line (ignored; the station mends them)."""

    register: str
    added: int
    known: int
    torn: int


def import_register(
    db: sqlite3.Connection,
    text: bytes,
    operators: Mapping[str, Operator],
    department: str,
    where: Path | str,
    now: int,
    *,
    new: bool = False,
) -> Imported:
    """Adds the boxes that are new. RegisterError names the line; nothing is changed then.

    The text is a whole register. What was imported of it before must be in it unchanged (else it forks); a register
    never seen before is only taken when `new` says so, so that a second one is never started by mistake.
    """
    register = read_register(text, operators, where)
    if register.department != department:
        raise RegisterError(where, 1, f"is the register of {register.department}, this authority is for {department}")
    row = db.execute("SELECT line FROM registers WHERE id = ?", (register.id,)).fetchone()
    if row is None and not new and db.execute("SELECT 1 FROM registers LIMIT 1").fetchone() is not None:
        reason = "is another register than those imported before"
        raise RegisterError(where, 1, f"{reason}; if a new station started it, import it with --new")
    if row is not None:
        _check_known(db, register, row["line"], where)
    before = 0 if row is None else row["line"]
    for entry in register.entries[before:]:
        _add(db, entry, where, now)
    db.execute(
        "INSERT INTO registers VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET line = excluded.line, "
        "hash = excluded.hash, at = excluded.at",
        (register.id, len(register.entries), register.hashes[-1], now),
    )
    lines = [(register.id, n, digest) for n, digest in enumerate(register.hashes) if row is None or n > before]
    db.executemany("INSERT INTO register_lines VALUES (?, ?, ?)", lines)
    return Imported(register.id, len(register.entries) - before, before, len(register.torn))


def _check_known(db: sqlite3.Connection, register: Register, known: int, where: Path | str) -> None:
    if known > len(register.entries):
        reason = f"has {len(register.entries)} boxes, {known} were imported before: its end was cut off"
        raise RegisterError(where, len(register.entries) + 2, f"{reason}; import the station's own copy")
    stored = db.execute("SELECT line, hash FROM register_lines WHERE register = ? ORDER BY line", (register.id,))
    for row in stored:
        if row["hash"] != register.hashes[row["line"]]:
            reason = "is not the line that was imported before: the register forks here"
            remedy = "find out which copy is right, and who wrote the other"
            raise RegisterError(where, row["line"] + 1, f"{reason}; {remedy}")


def _add(db: sqlite3.Connection, entry: Entry, where: Path | str, now: int) -> None:
    line = entry.n + 1
    for column, value in (("serial", entry.serial), ("claim_id", entry.claim_id), ("public", entry.public)):
        clash = db.execute(f"SELECT serial FROM boxes WHERE {column} = ?", (value,)).fetchone()  # noqa: S608 - constants
        if clash is not None:
            reason = f"{column.replace('_', ' ')} of {entry.serial} belongs to {clash['serial']} of another register"
            raise RegisterError(where, line, f"{reason}; a box is registered once")
    db.execute(
        "INSERT INTO boxes (serial, box, public, claim_id, model, lot, image, registered) VALUES (?,?,?,?,?,?,?,?)",
        (entry.serial, entry.box, entry.public, entry.claim_id, entry.model, entry.lot, entry.image, now),
    )
    detail = {"claim_id": entry.claim_id, "model": entry.model, "lot": entry.lot, "public": entry.public.hex()}
    records.event(db, now, "registered", entry.serial, entry.box, detail | {"operator": entry.operator})
