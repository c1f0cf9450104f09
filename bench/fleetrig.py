"""A department on the loopback for the bench of the fleet: its real broker, web server, ingest and database."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.netns import Process

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """User and system time of a process and its ended children, in seconds; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(value) for value in fields[11:15]) / TICK


def family(pid: int) -> list[int]:
    """The process and its children (nginx's workers)."""
    found = [pid]
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def memory_kb(pid: int) -> float:
    """Memory that only this process holds (private pages, resident), kB."""
    text = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(text[1]) - int(text[2])) * PAGE / 1024


@dataclass
class Cpu:
    """CPU seconds of server processes, also of those that were ended meanwhile."""

    ended: float = 0.0
    running: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)

    def follow(self, process: Process) -> None:
        pids = family(process.pid)
        self.running[process.label] = (pids, [cpu_s(pid) for pid in pids])

    def leave(self, process: Process) -> None:
        """Just before it is ended."""
        pids, before = self.running.pop(process.label)
        self.ended += sum(cpu_s(pid) - start for pid, start in zip(pids, before, strict=True))

    def spent(self) -> dict[str, float]:
        return {
            label: sum(cpu_s(pid) - start for pid, start in zip(pids, before, strict=True))
            for label, (pids, before) in self.running.items()
        }

    def total(self) -> float:
        return self.ended + sum(self.spent().values())


class Rows:
    """Follows the table of alerts from a thread: when each row could first be read, which is when it was committed."""

    POLL_S = 0.02

    def __init__(self, database: Path) -> None:
        self.seen: dict[tuple[str, int], float] = {}
        self.doubles = 0
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Rows:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _follow(self) -> None:
        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=20)
        last = 0
        while not self._stop.is_set():
            rows = connection.execute(
                "SELECT id, box_id, alert_id FROM console_alert WHERE id > ? ORDER BY id", (last,)
            ).fetchall()
            now = time.time()
            for number, box, alert in rows:
                last = number
                if (box, alert) in self.seen:
                    self.doubles += 1
                self.seen.setdefault((box, alert), now)
            self._stop.wait(self.POLL_S)
        connection.close()


@contextmanager
def timed() -> Iterator[list[float]]:
    """[seconds] after the block."""
    start = time.monotonic()
    taken: list[float] = []
    yield taken
    taken.append(time.monotonic() - start)
