"""The outbox: numbers without gaps, what goes when it is full, what survives."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.envelope import Upward
from vigie.contract.upward import Ack, Alert, Body, Metric
from vigie.contract.words import Clock, Kind, Order, Result, Rule
from vigie.errors import JournalError
from vigie.filter.config import JournalConfig
from vigie.filter.journal import Journal
from vigie.filter.journal_schema import MIGRATIONS, SCHEMA_VERSION
from vigie.filter.outbox import LIMIT_MAX, Outbox, OutboxFull, Row
from vigie.filter.outbox import Stats as OutboxStats

T0 = 1_700_000_000


def alert(number: int, severity: int = 3, count: int = 1) -> Row:
    body = Alert(
        *(number, Rule.TOXIC_NAME, 36, severity, Category.C2, Direction.OUT, "toxic.example", None),
        *(DeviceClass.NONE, count, 0, 0, False),
    )
    return Row(body, T0 + number, Clock.NTP)


def metric(hour: int = 0) -> Row:
    return Row(Metric(hour, {"35": 3}, {}, None, 1, 2, 0), T0 + hour, Clock.NTP)


def ack(version: int = 1) -> Row:
    return Row(Ack(Order.DESIRED, version, Result.IN_FORCE, None, ()), T0, Clock.SIGNED)


class Box:
    """A journal with an outbox, as the daemon and the link use it."""

    def __init__(self, path: Path, **limits: int) -> None:
        self.path = path
        clock = iter(range(0, 10**9, 100))
        self.journal = Journal(JournalConfig(path=path, **limits), lambda: float(T0), lambda: float(next(clock)))

    def append(self, *rows: Row) -> None:
        self.journal.add_rows(rows)
        assert self.journal.flush(), self.journal.health()

    def take(self, limit: int = LIMIT_MAX, above: int = 0) -> list[dict[str, Any]]:
        return self.journal.with_outbox(lambda outbox, db: outbox.take(db, limit, above))

    def received(self, boot: str, upto: int) -> int:
        return self.journal.with_outbox(lambda outbox, db: outbox.received(db, boot, upto))

    def add(self, row: Row) -> tuple[str, int]:
        return self.journal.with_outbox(lambda outbox, db: outbox.add(db, row))

    @property
    def stats(self) -> OutboxStats:
        return self.journal.outbox.stats

    def counted(self) -> tuple[int, int, int]:
        """What the file really holds: rows, bytes, numbered ones."""
        with closing(sqlite3.connect(self.path)) as db:
            row = db.execute("SELECT count(*), coalesce(sum(length(body)), 0), coalesce(sum(seq > 0), 0) FROM outbox")
            return row.fetchone()  # type: ignore[no-any-return]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Box]]:
    made: list[Box] = []

    def build(**limits: int) -> Box:
        made.append(Box(tmp_path / "journal.db", **limits))
        return made[-1]

    yield build
    for box in made:
        box.journal.close()


def test_rows_are_numbered_when_first_handed_out_and_stay_until_received(make: Callable[..., Box]) -> None:
    box = make()
    box.append(alert(1), metric(), alert(2))
    assert box.stats.numbered == 0
    rows = box.take(2)
    assert [(r["seq"], r["prev"], r["kind"]) for r in rows] == [(1, 0, "alert"), (2, 1, "metric")]
    assert box.take(2) == rows
    everything = box.take()
    assert [r["seq"] for r in everything] == [1, 2, 3] and everything[:2] == rows
    assert box.received(rows[0]["boot"], 2) == 2
    # What was confirmed is not in the outbox any more: nothing is before the oldest.
    assert [(r["seq"], r["prev"]) for r in box.take()] == [(3, 0)]
    assert box.received("0" * 32, 99) == 0 and box.stats.rows == 1


def test_a_row_is_what_the_contract_says(make: Callable[..., Box]) -> None:
    box = make()
    box.append(alert(1), metric())
    box.add(ack())
    for row in box.take():
        frame = {k: row[k] for k in ("boot", "seq", "prev", "ts", "clock")} | row["body"] | {"v": 1}
        assert Upward.from_dict(Kind(row["kind"]), frame).seq == row["seq"]


def test_rows_above_an_id_go_first_and_leave_no_gap(make: Callable[..., Box]) -> None:
    box = make()
    box.append(*(metric(i) for i in range(5)))
    old = box.take(2)
    box.append(alert(7))
    (new,) = box.take(10, above=old[-1]["id"] + 3)
    assert (new["kind"], new["seq"], new["prev"], new["id"]) == ("alert", 3, 2, box.stats.last_id)
    # Sent out of turn, it can only be confirmed after those numbered before it: all go again in the order of numbers.
    assert [(r["seq"], r["kind"]) for r in box.take(3)] == [(1, "metric"), (2, "metric"), (3, "alert")]
    assert [(r["seq"], r["prev"]) for r in box.take()] == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5)]


def test_a_later_row_of_an_alert_replaces_one_that_was_not_handed_out(make: Callable[..., Box]) -> None:
    box = make()
    box.append(alert(1, count=1))
    box.append(alert(1, count=5), alert(2))
    assert [(r["body"]["id"], r["body"]["count"]) for r in box.take()] == [(1, 5), (2, 1)]
    box.append(alert(1, count=9))
    assert [r["body"]["count"] for r in box.take()] == [5, 1, 9]


def test_added_rows_are_numbered_at_once(make: Callable[..., Box]) -> None:
    box = make()
    box.append(alert(1))
    boot, seq = box.add(ack())
    assert (boot, seq) == (box.stats.boot, 1)
    assert box.add(ack(2))[1] == 2
    assert [(r["kind"], r["seq"]) for r in box.take()] == [("ack", 1), ("ack", 2), ("alert", 3)]


def test_a_full_outbox_drops_the_least_severe_then_the_oldest_and_counts(make: Callable[..., Box]) -> None:
    box = make(outbox_rows=100)
    box.append(*(metric(i) for i in range(60)))
    handed = box.take(10)
    box.append(*(alert(i, 3 if i % 2 else 2) for i in range(1, 101)))
    stats = box.stats
    assert stats.rows <= 100 and stats.lost == 160 - stats.rows
    left = box.take()
    assert [r["seq"] for r in left[:10]] == [r["seq"] for r in handed], "what was handed out stays"
    severities = [r["body"].get("severity", 0) for r in left[10:]]
    assert 0 not in severities, "metrics went before alerts"
    twos = [r["body"]["id"] for r in left[10:] if r["body"]["severity"] == 2]
    assert twos == list(range(100 - 2 * (len(twos) - 1), 101, 2)), "the oldest of them went first"
    assert [r["body"]["id"] for r in left[10:] if r["body"]["severity"] == 3] == list(range(1, 101, 2))
    with closing(sqlite3.connect(box.path)) as db:
        assert db.execute("SELECT why, entries FROM losses").fetchall() == [("outbox", stats.lost)]
    assert (stats.rows, stats.bytes) == box.counted()[:2]


def test_bytes_are_bounded_too(make: Callable[..., Box]) -> None:
    box = make(outbox_bytes=20_000)
    box.append(*(alert(i) for i in range(1, 501)))
    assert 15_000 < box.stats.bytes <= 20_000 and box.stats.lost > 0


def test_nothing_is_taken_when_all_that_is_there_was_handed_out(make: Callable[..., Box]) -> None:
    box = make(outbox_rows=100)
    box.append(*(alert(i) for i in range(1, 101)))
    box.take()
    with pytest.raises(OutboxFull):
        box.add(ack())
    assert box.stats.rows == 100 and box.counted() == (100, box.stats.bytes, 100)
    box.append(metric())
    assert box.stats.rows == 100 and box.stats.lost == 1
    box.received(box.stats.boot, 50)
    assert box.add(ack())[1] == 101


def test_a_restart_keeps_numbers_and_begins_another_boot(tmp_path: Path) -> None:
    first = Box(tmp_path / "journal.db")
    first.append(alert(1), alert(2), alert(3))
    handed = first.take(2)
    lost = first.stats.lost
    first.journal.close()
    second = Box(tmp_path / "journal.db")
    rows = second.take()
    assert rows[:2] == handed
    assert rows[2]["boot"] == second.stats.boot != first.stats.boot
    assert (rows[2]["seq"], rows[2]["prev"]) == (1, 0)
    assert second.take() == rows, "boots in the order of their age"
    assert second.stats.lost == lost
    second.journal.close()


def test_a_file_begun_anew_is_another_boot(make: Callable[..., Box]) -> None:
    """The department waits for the numbers of a file that is gone; those of the next one must not be taken for them."""
    box = make()
    box.append(alert(1), alert(2))
    before = box.take()[0]["boot"]
    box.journal.close()
    box.path.write_bytes(b"not a database at all" * 100)
    box.append(alert(3))
    (row,) = box.take()
    assert (row["seq"], row["prev"]) == (1, 0) and row["boot"] != before


def test_a_failing_disk_is_an_error_and_rows_wait_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.write_text("in the way")
    box = Box(folder / "journal.db")
    box.journal.add_rows([alert(1)])
    assert not box.journal.flush()
    with pytest.raises(JournalError):
        box.take()
    folder.unlink()
    assert box.journal.flush()
    assert [r["body"]["id"] for r in box.take()] == [1]
    box.journal.close()


@pytest.mark.parametrize("version", [1])
def test_released_journals_are_brought_up(tmp_path: Path, version: int) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        for number in range(version):
            db.executescript(MIGRATIONS[number])
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("INSERT INTO attempts VALUES (28333300, '', 'x', 36, 2, 1, 1, 3, '', 17, 53, 7, 80, 60, 61)")
        db.commit()
    box = Box(path)
    box.append(alert(1))
    assert len(box.take()) == 1
    box.journal.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT packets FROM attempts").fetchall() == [(7,)]
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


_CHILD = """
import sys, time
from pathlib import Path
from vigie.contract.upward import Metric
from vigie.contract.words import Clock
from vigie.filter.config import JournalConfig
from vigie.filter.journal import Journal
from vigie.filter.outbox import Row
journal = Journal(JournalConfig(path=Path(sys.argv[1])))
hour = 0
while True:
    journal.add_rows([Row(Metric(hour, {}, {}, None, 0, 0, 0), hour, Clock.NTP)])
    journal.flush()
    rows = journal.with_outbox(lambda outbox, db: outbox.take(db, 500))
    for row in rows[-1:]:
        print(row["boot"], row["seq"], row["ts"], flush=True)
    hour += 1
"""


def test_a_killed_daemon_gives_no_number_twice(tmp_path: Path) -> None:
    """What was told to the link before kill -9 is in the file under the same number afterwards."""
    path = tmp_path / "journal.db"
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = [child.stdout.readline().split() for _ in range(40)]
    os.kill(child.pid, signal.SIGKILL)
    told += [line.split() for line in child.communicate()[0].splitlines() if line.count(" ") == 2]
    box = Box(path)
    kept = {(r["boot"], r["seq"]): r["ts"] for r in box.take()}
    assert {(boot, int(seq)): int(ts) for boot, seq, ts in told}.items() <= kept.items()
    box.journal.close()


class Life(RuleBasedStateMachine):
    """Any order of what daemon, link and department do: numbers have no gaps, nothing handed out is lost or doubled."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.db"
        self.box = Box(self.path, outbox_rows=100)
        self.number = 0
        self.handed: dict[tuple[str, int], str] = {}
        self.confirmed: dict[str, int] = {}

    def _rows(self, count: int, severity: int) -> list[Row]:
        self.number += count
        return [alert(n, severity) for n in range(self.number - count + 1, self.number + 1)]

    @rule(count=st.integers(1, 70), severity=st.integers(0, 3))
    def daemon_reports(self, count: int, severity: int) -> None:
        self.box.append(*self._rows(count, severity))

    @rule()
    def link_adds(self) -> None:
        self.number += 1
        try:
            boot, seq = self.box.add(ack(self.number))
        except OutboxFull:
            return
        self.handed[boot, seq] = json.dumps(ack(self.number).body.fields(), sort_keys=True)

    @rule(limit=st.integers(1, 120), above=st.integers(0, 80))
    def link_takes(self, limit: int, above: int) -> None:
        for row in self.box.take(limit, above):
            body = json.dumps(row["body"], sort_keys=True)
            assert self.handed.setdefault((row["boot"], row["seq"]), body) == body, row
            assert row["seq"] > self.confirmed.get(row["boot"], 0)
            assert row["prev"] in (0, row["seq"] - 1)

    @rule(data=st.data())
    def department_confirms(self, data: st.DataObject) -> None:
        boots = list(dict.fromkeys(boot for boot, _seq in self.handed))  # names are random, their order is not
        if boots:
            boot = data.draw(st.sampled_from(boots))
            upto = data.draw(st.integers(1, max(seq for b, seq in self.handed if b == boot)))
            self.box.received(boot, upto)
            self.confirmed[boot] = max(self.confirmed.get(boot, 0), upto)

    @rule()
    def daemon_restarts(self) -> None:
        self.box.journal.close()
        self.box = Box(self.path, outbox_rows=100)

    @invariant()
    def numbers_have_no_gaps(self) -> None:
        if not hasattr(self, "box"):
            return
        top: dict[str, int] = {}
        for boot, seq in self.handed:
            top[boot] = max(top.get(boot, 0), seq)
        assert sum(top.values()) == len(self.handed)

    @invariant()
    def unconfirmed_rows_are_there(self) -> None:
        if not hasattr(self, "box") or not self.handed:
            return
        rows, size, numbered = self.box.counted()
        waiting = [key for key in self.handed if key[1] > self.confirmed.get(key[0], 0)]
        assert numbered == len(waiting)
        if self.box.stats.rows:
            assert (self.box.stats.rows, self.box.stats.bytes, self.box.stats.numbered) == (rows, size, numbered)
        assert rows <= 100

    def teardown(self) -> None:
        if hasattr(self, "box"):
            self.box.journal.close()
            self.folder.cleanup()


TestLife = pytest.mark.slow(Life.TestCase)
TestLife.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
@settings(max_examples=20, deadline=None)
def test_figures_are_those_of_the_file(tmp_path_factory: pytest.TempPathFactory, severities: list[int]) -> None:
    box = Box(tmp_path_factory.mktemp("o") / "journal.db", outbox_rows=100)
    for number, severity in enumerate(severities, 1):
        box.append(alert(number, severity), metric(number))
    assert (box.stats.rows, box.stats.bytes, box.stats.numbered) == box.counted()
    box.journal.close()


def test_only_bodies_of_the_outbox_have_a_severity() -> None:
    assert [row.severity for row in (alert(1, 2), metric(), ack())] == [2, 0, 2]
    body: Body = ack().body
    assert Row(body, 0, Clock.UNSET).ref == 0 and alert(9).ref == 9
    assert Outbox(1, 1).stats.rows == 0
