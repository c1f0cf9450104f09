"""The journal: aggregation, bounds, a killed process, a full disk, a corrupt file."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.contract.codes import Category, Reason, Verdict
from vigie.filter import journal as journal_module
from vigie.filter import journal_query as query
from vigie.filter.config import JournalConfig
from vigie.filter.journal import HEADROOM_BYTES, Attempt, Journal, severity
from vigie.filter.journal_schema import SCHEMA_VERSION, connect
from vigie.filter.zones import Alert, AlertKind

T0 = 1_700_000_040.0  # a round minute
MAC = "02:00:00:00:00:01"


def attempt(
    when: float = T0, destination: str = "toxic.example", reason: int = Reason.TOXIC_DNS, **more: object
) -> Attempt:
    base = Attempt(when, MAC, destination, reason, Verdict.NXDOMAIN, Category.PHISHING, 1, "192.0.2.53", 17, 53, 1, 80)
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Journal]:
    made: list[Journal] = []

    def build(
        wall: Callable[[], float] = lambda: T0,
        mono: Callable[[], float] | None = None,
        signed: Callable[[], float | None] = lambda: None,
        **limits: int,
    ) -> Journal:
        clock = iter(range(0, 10**9, 100))  # each look is 100 s later: no retry delay in tests
        config = JournalConfig(path=tmp_path / "j" / "journal.db", **limits)  # type: ignore[arg-type]
        made.append(Journal(config, wall, mono or (lambda: float(next(clock))), signed))
        return made[-1]

    yield build
    for journal in made:
        journal.close()


def test_aggregates_per_device_destination_reason_minute(make: Callable[..., Journal]) -> None:
    journal = make()
    for i in range(500):
        journal.add(attempt(T0 + i % 60))
    assert journal.flush()
    journal.add(attempt(T0 + 59, packets=7))
    journal.add(attempt(T0 + 60))
    journal.add(attempt(T0, reason=Reason.TOXIC_SNI))
    assert journal.flush()
    rows = query.recent(journal.path)
    assert sorted((r.when, r.reason, r.packets) for r in rows) == [
        (T0, Reason.TOXIC_DNS, 507),
        (T0, Reason.TOXIC_SNI, 1),
        (T0 + 60, Reason.TOXIC_DNS, 1),
    ]
    first = next(r for r in rows if r.packets == 507)
    assert (first.last, first.bytes, first.address) == (T0 + 59, 501 * 80, "192.0.2.53")


_events = st.tuples(st.integers(0, 200), st.sampled_from("abc"), st.integers(32, 35), st.booleans())


@given(st.lists(_events, max_size=60))
@settings(max_examples=30, deadline=None)
def test_nothing_is_lost_nor_counted_twice(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, str, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("j") / "journal.db"
    journal = Journal(JournalConfig(path=path), lambda: T0)
    for offset, destination, reason, flush in events:
        journal.add(attempt(T0 + offset, destination, reason))
        if flush:
            assert journal.flush()
    journal.close()
    expected: dict[tuple[int, str, int], int] = {}
    for offset, destination, reason, _ in events:
        key = (int((T0 + offset) // 60), destination, reason)
        expected[key] = expected.get(key, 0) + 1
    rows = query.recent(path, limit=1000)
    assert {(int(r.when // 60), r.destination, r.reason): r.packets for r in rows} == expected


def test_top(make: Callable[..., Journal]) -> None:
    journal = make()
    journal.add(attempt(packets=5))
    journal.add(attempt(destination="b.example", packets=9))
    journal.add(attempt(destination="b.example", packets=2, device="02:00:00:00:00:02"))
    journal.flush()
    journal.add(attempt(destination="c.example", packets=6))
    top = query.top(journal.path, "destination", T0 - 60, 10, journal.pending())
    assert [(r.key, r.packets, r.devices) for r in top] == [
        ("b.example", 11, 2),
        ("c.example", 6, 1),
        ("toxic.example", 5, 1),
    ]
    assert query.top(journal.path, "destination", T0 + 3600) == []
    assert [r.key for r in query.top(journal.path, "reason", 0)] == [str(int(Reason.TOXIC_DNS))]


def test_rows_are_bounded_least_severe_and_oldest_first(make: Callable[..., Journal]) -> None:
    journal = make(max_rows=1000)
    for i in range(900):
        journal.add(attempt(T0 + 60 * i, f"n{i}", Reason.TOXIC_DNS))
    for i in range(400):
        journal.add(attempt(T0 + 60 * i, f"scan{i}", Reason.INBOUND, direction=2))
    assert journal.flush()
    with closing(sqlite3.connect(journal.path)) as db:
        left = dict(db.execute("SELECT reason, count(*) FROM attempts GROUP BY reason").fetchall())
    assert left == {Reason.TOXIC_DNS: 900, Reason.INBOUND: 50}
    assert [(x.why, x.entries, x.packets) for x in query.losses(journal.path)] == [("rows", 350, 350)]
    kept = query.recent(journal.path, limit=1000)
    assert min(int(r.destination[4:]) for r in kept if r.destination.startswith("scan")) == 350


def test_bytes_are_bounded(make: Callable[..., Journal]) -> None:
    journal = make(max_bytes=1024 * 1024)
    for step in range(4):
        for i in range(3000):
            journal.add(attempt(T0 + 60 * i, f"{step}-{i}-" + "x" * 200))
        assert journal.flush(), journal.health()
    journal.close()
    assert journal.path.stat().st_size <= 1024 * 1024 + HEADROOM_BYTES
    assert sum(x.entries for x in query.losses(journal.path) if x.why == "bytes") > 1000


def test_old_details_go_after_keep_days(make: Callable[..., Journal]) -> None:
    now = [T0]
    journal = make(wall=lambda: now[0], mono=lambda: now[0] - T0)
    journal.add(attempt())
    journal.add_alert(Alert(AlertKind.LOOP, 1))
    journal.flush()
    now[0] += 29 * 86_400
    journal.flush()
    assert len(query.recent(journal.path)) == 1
    now[0] += 2 * 86_400
    journal.flush()
    assert query.recent(journal.path) == [] and query.alerts(journal.path) == []
    assert query.losses(journal.path) == []  # age is no loss


def test_a_clock_that_leaps_costs_no_row(make: Callable[..., Journal]) -> None:
    now, mono = [T0], [0.0]
    journal = make(wall=lambda: now[0], mono=lambda: mono[0])
    journal.add(attempt())
    journal.flush()
    now[0] += 15 * 366 * 86_400.0  # a network clock says 2040
    for _ in range(6):
        mono[0] += 700
        journal.flush()
    journal.close()
    again = make(wall=lambda: now[0], mono=lambda: mono[0])  # and still does after a restart
    again.flush()
    assert len(query.recent(again.path)) == 1
    now[0] = T0 + 40 * 86_400  # right again, 40 days on: those days really passed
    mono[0] += 40 * 86_400
    again.flush()
    assert query.recent(again.path) == []


def test_a_signed_time_counts_at_once(make: Callable[..., Journal]) -> None:
    mono, told = [0.0], [T0]
    journal = make(mono=lambda: mono[0], signed=lambda: told[0])
    journal.add(attempt())
    journal.flush()
    told[0] += 31 * 86_400  # the box was off for a month
    mono[0] += 700
    journal.flush()
    assert query.recent(journal.path) == []


def test_alerts_repeat_as_a_count(make: Callable[..., Journal]) -> None:
    journal = make()
    rogue = Alert(AlertKind.ROGUE_RA, 0, b"\x02\0\0\0\0\x09", "fe80::9")
    for minute in range(3):
        journal.add_alert(rogue, T0 + 60 * minute)
    journal.add_alert(rogue, T0 + 8000)
    journal.flush()
    got = [(a.count, a.first, a.last) for a in query.alerts(journal.path)]
    assert got == [(1, T0 + 8000, T0 + 8000), (3, T0, T0 + 120)]
    assert query.alerts(journal.path)[0].severity == 3


def test_full_disk_keeps_counting_and_says_so(make: Callable[..., Journal]) -> None:
    journal = make()
    journal.add(attempt())
    assert journal.flush()
    db = journal._db
    assert db is not None
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    for i in range(2000):
        journal.add(attempt(destination=f"n{i}"))
    assert not journal.flush()
    health = journal.health()
    assert "full" in health.problem and health.pending == 2000 and health.lost_in_memory == 0
    journal.add(attempt(destination="n0"))
    assert len(query.top(journal.path, "destination", 0, 1000, journal.pending())) == 1000
    assert journal.flush()  # the disk is back (a new connection, the usual ceiling)
    health = journal.health()
    assert (health.problem, health.pending, health.rows) == ("", 0, 2001)
    assert next(r for r in query.recent(journal.path, destination="n0")).packets == 2


def test_memory_is_bounded_while_the_disk_fails(make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PENDING_MAX", 10)
    journal = make()
    for i in range(25):
        journal.add(attempt(destination=f"n{i}"))
    assert journal.health().pending == 10 and journal.health().lost_in_memory == 15
    journal.flush()
    assert [(x.why, x.entries) for x in query.losses(journal.path)] == [("memory", 15)]


def test_an_unwritable_place_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    journal = Journal(JournalConfig(path=tmp_path / "file" / "journal.db"), lambda: T0)
    journal.add(attempt())
    assert not journal.flush()
    assert "journal.db" in journal.health().problem and journal.health().pending == 1
    assert query.recent(journal.path, pending=journal.pending())[0].destination == "toxic.example"


_CHILD = """
import resource, sys, time
from vigie.filter.config import JournalConfig
from vigie.filter.journal import Attempt, Journal
from pathlib import Path
mode, path = sys.argv[1], Path(sys.argv[2])
journal = Journal(JournalConfig(path=path))
NOW = time.time()
def fill(step):
    for i in range(200):
        journal.add(Attempt(NOW + 60 * i, "m", f"{step}-{i}", 36, 2))
if mode == "limit":
    fill(0)
    assert journal.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for step in range(1, 11):
        fill(step)
    assert not journal.flush()
    health = journal.health()
    assert health.problem and 0 < health.pending == 2200 - health.rows, health
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal._retry_at = 0.0
    assert journal.flush(), journal.health()
    assert journal.health().rows == 2200
    journal.close()
    print("fine")
else:
    step = 0
    while True:
        fill(step)
        assert journal.flush()
        step += 1
        print(step, flush=True)
"""


def _child(*args: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _CHILD, *args]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ.copy())


def test_kill_9_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with _child("kill", str(path)) as child:
        assert child.stdout is not None
        steps = 0
        while steps < 20:
            steps = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
    db = connect(path)  # checks the file
    assert db.execute("SELECT count(*) FROM attempts").fetchone()[0] >= 200 * steps
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


def test_a_disk_that_refuses_writes_then_comes_back(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse writes as a full disk does."""
    with _child("limit", str(tmp_path / "journal.db")) as child:
        out, _ = child.communicate()
    assert (child.returncode, out) == (0, "fine\n")


@pytest.mark.parametrize("damage", ["garbage", "middle", "newer"])
def test_an_unusable_file_is_set_aside(make: Callable[..., Journal], damage: str) -> None:
    journal = make()
    for i in range(3000):
        journal.add(attempt(T0 + 60 * i, f"n{i}"))
    assert journal.flush()
    journal.close()
    if damage == "newer":
        with closing(sqlite3.connect(journal.path)) as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    else:
        data = bytearray(journal.path.read_bytes())
        start = 0 if damage == "garbage" else 5 * 4096
        data[start : start + 8192] = b"\x5a" * 8192
        journal.path.write_bytes(data)
    again = make()
    again.add(attempt(destination="after"))
    assert again.flush(), again.health()
    assert "set aside as journal.db.corrupt-" in again.health().set_aside
    assert [r.destination for r in query.recent(again.path)] == ["after"]
    assert len(list(journal.path.parent.glob("journal.db.corrupt-*"))) >= 1


def test_set_aside_files_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for day in range(5):
        path.write_bytes(b"not a database at all" * 100)
        when = T0 + 86_400 * day
        journal = Journal(JournalConfig(path=path), lambda when=when: when)  # type: ignore[misc]
        assert journal.flush()
        journal.close()
    assert len(list(tmp_path.glob("journal.db.corrupt-*"))) == 2


@pytest.mark.parametrize(
    ("reason", "category", "direction", "expected"),
    [
        (Reason.TOXIC_SNI, Category.PHISHING, 1, 3),
        (Reason.TOXIC_ADDRESS, Category.SCANNER, 2, 1),
        (Reason.TOXIC_ADDRESS, Category.TEST, 1, 1),
        (Reason.INBOUND, 0, 2, 0),
        (Reason.DEVICE_CLASS, 0, 1, 2),
        (Reason.QUARANTINE, 0, 1, 1),
    ],
)
def test_severity(reason: int, category: int, direction: int, expected: int) -> None:
    assert severity(reason, category, direction) == expected
