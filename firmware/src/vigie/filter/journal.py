"""The journal: what was blocked or observed, aggregated per (device, destination, reason, minute).

`add` only counts in memory; `flush`, called each second from one thread, writes the batch. A process killed loses at
most what was not flushed. A full or failing disk costs nothing but memory: counting goes on, bounded, `health` says
so, and writing is tried again. The file is bounded in rows and bytes: the least severe, then oldest rows go first, and
what went is recorded in `losses`. Details are kept 30 days.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vigie.contract.codes import Category, Reason
from vigie.errors import JournalError
from vigie.filter import journal_age
from vigie.filter.config import JournalConfig
from vigie.filter.journal_schema import Unusable, connect, set_aside
from vigie.filter.outbox import Outbox, Row
from vigie.filter.zones import Alert

PENDING_MAX = 20_000
ALERTS_PENDING_MAX = 1_000
ALERTS_MAX = 10_000
ROWS_PENDING_MAX = 2_000
TEXT_MAX = 255
CHECKPOINT_S = 60.0
EXPIRE_S = 600.0
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
CHUNK = 500
HEADROOM_BYTES = 1024 * 1024  # more than CHUNK rows with the longest names
PRUNE_SHARE = 20  # a twentieth more than needed goes at once: pruning is then rare

Key = tuple[int, str, str, int]
T = TypeVar("T")


@dataclass(slots=True)
class Attempt:
    """One aggregated row, or the event that starts it. Times are Unix seconds; `direction` as in events."""

    when: float
    device: str
    destination: str
    reason: int
    verdict: int
    category: int = 0
    direction: int = 0
    address: str = ""
    proto: int = 0
    port: int = 0
    packets: int = 1
    bytes: int = 0
    last: float = 0.0

    @property
    def key(self) -> Key:
        """What rows are aggregated by."""
        return int(self.when // 60), self.device, self.destination, self.reason

    def absorb(self, other: Attempt) -> None:
        """Adds another attempt of the same key."""
        self.packets += other.packets
        self.bytes += other.bytes
        self.verdict, self.category = other.verdict, other.category
        self.address, self.proto, self.port = other.address, other.proto, other.port
        self.when = min(self.when, other.when)
        self.last = max(self.last, other.last)


@dataclass(frozen=True, slots=True)
class Health:
    """How the journal is: `problem` is empty when all is well."""

    problem: str
    set_aside: str
    pending: int
    lost_in_memory: int
    rows: int


def severity(reason: int, category: int, direction: int) -> int:
    """0 noise .. 3 a device of the commune asked for something toxic. Decides what is pruned first."""
    if reason in (Reason.TOXIC_DNS, Reason.TOXIC_SNI, Reason.TOXIC_ADDRESS):
        if category == Category.TEST:
            return 1
        return 1 if direction == 2 else 3  # what scanners of the internet do is weather
    if reason in (Reason.DEVICE_CLASS, Reason.DYNAMIC):
        return 2
    if reason in (Reason.INBOUND, Reason.NOT_FOR_BOX):
        return 0
    return 1


class Journal:
    """Aggregates, writes, bounds. `add` and `add_alert` from one thread, `flush` and `close` from any one other."""

    def __init__(
        self,
        config: JournalConfig,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        signed: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`signed` is the time where somebody who may say it has signed it, else None: see `journal_age`."""
        self._config = config
        self._wall = wall
        self._monotonic = monotonic
        self._signed = signed
        self._expired: float | None = None
        self._lock = threading.Lock()  # pending
        self._write_lock = threading.Lock()  # connection
        self._pending: dict[Key, Attempt] = {}
        self._alerts: list[tuple[float, Alert]] = []
        self._outgoing: list[Row] = []
        self.outbox = Outbox(config.outbox_rows, config.outbox_bytes)
        self._lost: dict[str, list[int]] = {}  # why -> [entries, packets], not yet in `losses`
        self._lost_in_memory = 0
        self._db: sqlite3.Connection | None = None
        self._problem = ""
        self._set_aside = ""
        self._rows = 0
        self._failures = 0
        self._retry_at = 0.0
        self._checkpoint_at = 0.0
        self._expire_at = 0.0

    @property
    def path(self) -> Path:
        """The file."""
        return self._config.path

    def add(self, attempt: Attempt) -> None:
        """Counts an attempt. Cheap, never fails, bounded."""
        attempt.destination = attempt.destination[:TEXT_MAX]
        attempt.last = max(attempt.last, attempt.when)
        with self._lock:
            self._merge(attempt)

    def add_alert(self, alert: Alert, when: float | None = None) -> None:
        """Records an alert of the zones or of the loop guard."""
        with self._lock:
            if len(self._alerts) < ALERTS_PENDING_MAX:
                self._alerts.append((self._wall() if when is None else when, alert))
            else:
                self._lose("memory", 1, 0)

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Rows for the outbox. What finds no place in memory while the disk fails is counted as lost."""
        with self._lock:
            for row in rows:
                if len(self._outgoing) < ROWS_PENDING_MAX:
                    self._outgoing.append(row)
                else:
                    self._lose("memory", 1, 0)

    def with_outbox(self, work: Callable[[Outbox, sqlite3.Connection], T]) -> T:
        """Runs `work` in one transaction that is on the disk when this returns. JournalError when the disk fails."""
        with self._write_lock:
            try:
                db = self._open()
                # A number that left the box must survive a power cut: else the row would leave again under another.
                db.execute("PRAGMA synchronous = FULL")
                try:
                    with _transaction(db):
                        done = work(self.outbox, db)
                except JournalError:
                    self.outbox.look(db)
                    raise
                finally:
                    db.execute("PRAGMA synchronous = NORMAL")
                self.outbox.settled(db)
                return done
            except (sqlite3.Error, OSError) as e:
                self._failed(e)
                raise JournalError(f"{self._config.path}: {e}") from e

    def flush(self) -> bool:
        """Writes what is pending; False when it could not (see `health`), then retried later with a growing delay."""
        with self._write_lock:
            if self._monotonic() < self._retry_at:
                return False
            with self._lock:
                batch, self._pending = self._pending, {}
                alerts, self._alerts = self._alerts, []
                lost, self._lost = self._lost, {}
                outgoing, self._outgoing = self._outgoing, []
            try:
                db = self._open()
                self._write_outbox(db, outgoing)
                outgoing = []
                self._write_alerts(db, alerts, lost)
                alerts, lost = [], {}
                while batch:
                    # In pieces, so that a batch of any size stays under the ceiling of the file.
                    self._write(db, list(itertools.islice(batch.values(), CHUNK)))
                    for key in list(itertools.islice(batch, CHUNK)):
                        del batch[key]
                    self._bound(db)
                self._maintain(db)
            except (sqlite3.Error, OSError, JournalError) as e:
                self._give_back(batch, alerts, lost, outgoing)
                self._failed(e)
                return False
            self._problem = ""
            self._failures = 0
            return True

    def health(self) -> Health:
        """Figures for `status`."""
        with self._lock:
            return Health(self._problem, self._set_aside, len(self._pending), self._lost_in_memory, self._rows)

    def pending(self) -> list[Attempt]:
        """Rows not on the disk: what queries add when the disk fails."""
        with self._lock:
            return list(self._pending.values())

    def close(self) -> None:
        """Last flush, and everything into the main file."""
        self._retry_at = 0.0
        self.flush()
        with self._write_lock:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._db.close()
                self._db = None

    # ---- memory ------------------------------------------------------------------------------------------

    def _merge(self, attempt: Attempt) -> None:
        row = self._pending.get(attempt.key)
        if row is not None:
            row.absorb(attempt)
        elif len(self._pending) < PENDING_MAX:
            self._pending[attempt.key] = attempt
        else:
            self._lose("memory", 1, attempt.packets)

    def _lose(self, why: str, entries: int, packets: int) -> None:
        lost = self._lost.setdefault(why, [0, 0])
        lost[0] += entries
        lost[1] += packets
        if why == "memory":
            self._lost_in_memory += entries

    def _give_back(
        self,
        batch: dict[Key, Attempt],
        alerts: list[tuple[float, Alert]],
        lost: dict[str, list[int]],
        outgoing: list[Row],
    ) -> None:
        with self._lock:
            self._outgoing = outgoing + self._outgoing[: ROWS_PENDING_MAX - len(outgoing)]
            newer, self._pending = self._pending, batch
            for attempt in newer.values():
                self._merge(attempt)
            room = ALERTS_PENDING_MAX - len(alerts)
            self._alerts = alerts + self._alerts[:room]
            for why, (entries, packets) in lost.items():
                mine = self._lost.setdefault(why, [0, 0])
                mine[0] += entries
                mine[1] += packets

    def _failed(self, error: Exception) -> None:
        self._problem = f"{self._config.path}: {error}"
        self._retry_at = self._monotonic() + RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        if self._db is not None:
            # Reopened at the next try: that also notices a corrupt file, a lost mount, a disk that came back.
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    # ---- disk --------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        try:
            db = connect(self._config.path)
        except Unusable as e:
            target = set_aside(self._config.path, self._wall())
            self._set_aside = f"{e}; set aside as {target.name}, a new journal was started"
            db = connect(self._config.path)
        try:
            page = int(db.execute("PRAGMA page_size").fetchone()[0])
            # A hard ceiling above the soft one: the file cannot run away between two prunings.
            ceiling = self._config.max_bytes + self.outbox.file_bytes_max + HEADROOM_BYTES
            db.execute(f"PRAGMA max_page_count = {ceiling // page}")
            self._rows = int(db.execute("SELECT count(*) FROM attempts").fetchone()[0])
            self.outbox.opened(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    def _write(self, db: sqlite3.Connection, batch: list[Attempt]) -> None:
        with _transaction(db):
            db.executemany(_UPSERT, [(*a.key, *_columns(a)) for a in batch])
        self._rows += len(batch)  # an upper bound: updated rows are counted again, see _bound

    def _write_outbox(self, db: sqlite3.Connection, outgoing: list[Row]) -> None:
        if not outgoing:
            return
        with _transaction(db):
            dropped = self.outbox.append(db, outgoing)
            if dropped:
                _record_loss(db, self._wall(), "outbox", dropped, 0)
        self.outbox.settled(db)

    def _write_alerts(
        self, db: sqlite3.Connection, alerts: list[tuple[float, Alert]], lost: dict[str, list[int]]
    ) -> None:
        if not alerts and not lost:
            return
        with _transaction(db):
            for when, alert in alerts:
                _write_alert(db, when, alert)
            db.execute("DELETE FROM alerts WHERE id <= (SELECT max(id) FROM alerts) - ?", (ALERTS_MAX,))
            for why, (entries, packets) in lost.items():
                _record_loss(db, self._wall(), why, entries, packets)

    def _bound(self, db: sqlite3.Connection) -> None:
        if self._rows > self._config.max_rows:
            self._rows = int(db.execute("SELECT count(*) FROM attempts").fetchone()[0])
            if self._rows > self._config.max_rows:
                self._prune(db, "rows", self._rows - self._config.max_rows + self._config.max_rows // PRUNE_SHARE)
        for _ in range(PRUNE_SHARE):
            if _used_bytes(db) <= self._config.max_bytes + self.outbox.file_bytes or self._rows == 0:
                return
            self._prune(db, "bytes", self._rows // PRUNE_SHARE + 1)

    def _prune(self, db: sqlite3.Connection, why: str, count: int) -> None:
        with _transaction(db):
            victims = db.execute(
                "SELECT minute, device, destination, reason, packets FROM attempts ORDER BY severity, minute LIMIT ?",
                (count,),
            ).fetchall()
            db.executemany(
                "DELETE FROM attempts WHERE minute = ? AND device = ? AND destination = ? AND reason = ?",
                [v[:4] for v in victims],
            )
            _record_loss(db, self._wall(), why, len(victims), sum(v[4] for v in victims))
        self._rows = max(0, self._rows - len(victims))
        db.execute("PRAGMA incremental_vacuum").fetchall()

    def _maintain(self, db: sqlite3.Connection) -> None:
        now = self._monotonic()
        if now >= self._expire_at:
            self._expire_at = now + EXPIRE_S
            since = journal_age.RESTART_S if self._expired is None else now - self._expired
            with _transaction(db):
                today = journal_age.advance(db, self._wall(), since, self._signed())
                oldest = today - self._config.keep_days * 86_400
                db.execute("DELETE FROM attempts WHERE minute < ?", (oldest // 60,))
                db.execute("DELETE FROM alerts WHERE last < ?", (oldest,))
                db.execute("DELETE FROM losses WHERE day < ?", (oldest // 86_400 - 335,))
            self._expired = now
            self._rows = int(db.execute("SELECT count(*) FROM attempts").fetchone()[0])
        if now >= self._checkpoint_at:
            self._checkpoint_at = now + CHECKPOINT_S
            # TRUNCATE also gives the WAL's space back: it cannot grow with the traffic.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


_UPSERT = """
    INSERT INTO attempts (minute, device, destination, reason, verdict, category, direction, severity, address,
        proto, port, packets, bytes, first, last)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET verdict = excluded.verdict, category = excluded.category, address = excluded.address,
        proto = excluded.proto, port = excluded.port, packets = packets + excluded.packets,
        bytes = bytes + excluded.bytes, severity = max(severity, excluded.severity),
        first = min(first, excluded.first), last = max(last, excluded.last)
"""


def _columns(a: Attempt) -> tuple[int | str | float, ...]:
    return (
        *(a.verdict, a.category, a.direction, severity(a.reason, a.category, a.direction)),
        *(a.address, a.proto, a.port, a.packets, a.bytes, a.when, a.last),
    )


def _write_alert(db: sqlite3.Connection, when: float, alert: Alert) -> None:
    """A repeat within the hour counts up instead of adding a row."""
    mac = alert.mac.hex(":")
    cursor = db.execute(
        "UPDATE alerts SET last = ?1, count = count + 1 WHERE id = (SELECT id FROM alerts WHERE kind = ?2 "
        "AND port = ?3 AND mac = ?4 AND address = ?5 AND last > ?1 - 3600 ORDER BY id DESC LIMIT 1)",
        (when, alert.kind.value, alert.port, mac, alert.address),
    )
    if cursor.rowcount == 0:
        db.execute(
            "INSERT INTO alerts (first, last, kind, severity, port, mac, address, count) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
            (when, when, alert.kind.value, alert.severity, alert.port, mac, alert.address),
        )


def _record_loss(db: sqlite3.Connection, now: float, why: str, entries: int, packets: int) -> None:
    db.execute(
        "INSERT INTO losses (day, why, entries, packets) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "entries = entries + excluded.entries, packets = packets + excluded.packets",
        (int(now // 86_400), why, entries, packets),
    )


def _used_bytes(db: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a failed write may have rolled back by itself
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
