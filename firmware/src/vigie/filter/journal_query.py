"""Questions to the journal: what was blocked most, what was just blocked, alerts, losses.

Each question opens its own read-only connection, so it may run in any thread. What the writer could not put on the disk
(full, failing) is given as `pending` and merged in.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vigie.filter.journal import Attempt
from vigie.filter.journal_schema import connect_reader

LIMIT_MAX = 1000
By = Literal["destination", "device", "reason"]


@dataclass(slots=True)
class TopRow:
    """One line of `top`: `packets` refused frames in `attempts` minutes, from `devices` devices."""

    key: str
    packets: int
    bytes: int
    minutes: int
    devices: int
    reason: int
    category: int
    last: float


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert as kept."""

    first: float
    last: float
    kind: str
    severity: int
    port: int
    mac: str
    address: str
    count: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Rows that had to go, or never got in: `why` is rows, bytes or memory."""

    day: int
    why: str
    entries: int
    packets: int


_TOP = (
    "SELECT {by}, sum(packets), sum(bytes), count(*), count(DISTINCT device), max(reason), max(category), max(last) "
    "FROM attempts WHERE minute >= ? GROUP BY {by} ORDER BY 2 DESC LIMIT ?"
)
_TOP_BY: dict[By, str] = {by: _TOP.format(by=by) for by in ("destination", "device", "reason")}


def top(path: Path, by: By, since: float, limit: int = 20, pending: Iterable[Attempt] = ()) -> list[TopRow]:
    """The `limit` most frequent values of `by` since a Unix time, inbound noise included, the most packets first."""
    found = _read(path, _TOP_BY[by], (int(since // 60), _bounded(limit)))
    rows = {str(r[0]): TopRow(str(r[0]), *r[1:]) for r in found}
    for a in pending:
        if a.last < since:
            continue
        key = str(getattr(a, by))
        row = rows.setdefault(key, TopRow(key, 0, 0, 0, 1, a.reason, a.category, 0.0))
        row.packets += a.packets
        row.bytes += a.bytes
        row.minutes += 1
        row.last = max(row.last, a.last)
    return sorted(rows.values(), key=lambda r: (-r.packets, r.key))[: _bounded(limit)]


def recent(
    path: Path, limit: int = 50, device: str = "", destination: str = "", pending: Iterable[Attempt] = ()
) -> list[Attempt]:
    """The last rows, the most recent first; optionally of one device, of one destination (name or address)."""
    sql = (
        "SELECT first, device, destination, reason, verdict, category, direction, address, proto, port, packets, "
        "bytes, last FROM attempts WHERE (?1 = '' OR device = ?1) AND (?2 = '' OR destination = ?2 OR address = ?2) "
        "ORDER BY minute DESC, last DESC LIMIT ?3"
    )
    kept = [a for a in pending if device in ("", a.device) and destination in ("", a.destination, a.address)]
    rows = [Attempt(*r) for r in _read(path, sql, (device, destination, _bounded(limit)))]
    return sorted([*kept, *rows], key=lambda a: -a.last)[: _bounded(limit)]


def alerts(path: Path, limit: int = 50) -> list[AlertRow]:
    """The last alerts, the most recent first."""
    sql = "SELECT first, last, kind, severity, port, mac, address, count FROM alerts ORDER BY last DESC LIMIT ?"
    return [AlertRow(*r) for r in _read(path, sql, (_bounded(limit),))]


def losses(path: Path, limit: int = 100) -> list[Loss]:
    """What the journal lost, by day."""
    sql = "SELECT day, why, entries, packets FROM losses ORDER BY day DESC, why LIMIT ?"
    return [Loss(*r) for r in _read(path, sql, (_bounded(limit),))]


def _bounded(limit: int) -> int:
    return max(1, min(limit, LIMIT_MAX))


def _read(path: Path, sql: str, values: Sequence[str | int | float]) -> list[tuple]:  # type: ignore[type-arg]
    """Rows; none when there is no journal yet or its disk fails (`Journal.health` tells that)."""
    try:
        with contextlib.closing(connect_reader(path)) as db:
            return db.execute(sql, values).fetchall()
    except sqlite3.OperationalError:
        return []
