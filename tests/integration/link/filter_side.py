"""The filter's socket without a data path: real outbox, journal, orders and operations around an engine of figures."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support import messages
from vigie.contract.envelope import Upward
from vigie.contract.words import Clock, Kind
from vigie.filter.api import Api, Params
from vigie.filter.config import Config, JournalConfig
from vigie.filter.department import Orders
from vigie.filter.department_layer import Department, Surroundings
from vigie.filter.department_ops import DepartmentOps
from vigie.filter.journal import Journal
from vigie.filter.outbox import Row
from vigie.filter.outbox_ops import OutboxOps
from vigie.filter.pseudonym import Pseudonyms
from vigie.filter.service_clock import ServiceClock
from vigie.host.trusted_clock import ClockReader

CAMERA = "02:00:00:00:00:11"


class FilterSide:
    """A filter to talk to at `socket`; `stop` and `start` again to restart it, its files stay in `folder`."""

    def __init__(self, folder: Path, socket: Path, clock: ClockReader, trust: Path, box_state: Path) -> None:
        self.folder, self.socket = folder, socket
        self.clock, self.trust, self.box_state = clock, trust, box_state
        self.base = {"version": 7, "entries": 1000}
        self.self_tests = 0
        self.passes = True
        self.protected: dict[str, str] = {}
        self.ahead = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        self.journal = Journal(JournalConfig(path=self.folder / "journal.db"))
        service = ServiceClock(self.folder / "service.json", time.monotonic(), "boot")
        self.pseudonyms = Pseudonyms(self.folder / "salts.json", service.at(time.monotonic()))
        around = Surroundings(
            mono=lambda: time.monotonic() + self.ahead,
            time=lambda: (self.clock.now(), True),
            lookup=lambda: None,
            protected=lambda: self.protected,
            devices=lambda: [CAMERA],
            spared=lambda: [],
        )
        self.department = Department(self.folder, around, service, self.pseudonyms, _orders(self.folder))
        self.engine: Any = SimpleNamespace(
            journal=self.journal,
            department=self.department,
            config=Config(trust=self.trust, box_state=self.box_state),
            trusted_time=self.clock.time,
            apply_policy=lambda: None,
            apply_roles=lambda: None,
            problems={},
        )
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="filter")
        self._thread.start()
        assert self._ready.wait(60), "the filter's socket did not open"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(60)
        self.journal.close()

    def add_alerts(self, count: int, **changes: Any) -> None:
        """Rows as the filter's reports make them, without a number yet."""
        rows = []
        for i in range(count):
            fields = {"v": 1, "boot": "0" * 32, "seq": 2, "prev": 1, "ts": 0, "clock": "ntp"}
            alert = messages.alert(i + 1 + self._made, **changes)
            body = Upward.from_dict(Kind.ALERT, fields | alert).body
            rows.append(Row(body, alert["last"], Clock.NTP))
        self._made += count
        self.journal.with_outbox(lambda outbox, db: outbox.append(db, rows))

    _made = 0

    def spoil(self) -> None:
        """Writes a name that is not allowed into the oldest row, as a bug of the filter would."""

        def work(_outbox: Any, db: Any) -> None:
            oldest = "id = (SELECT min(id) FROM outbox)"
            db.execute(f"UPDATE outbox SET body = json_set(body, '$.host', 'pc-accueil') WHERE {oldest}")  # noqa: S608

        self.journal.with_outbox(work)

    def forward(self, seconds: float) -> None:
        """Lets time pass, seen by the filter once a minute as it would be."""

        async def pass_() -> None:
            for _minute in range(int(seconds) // 60):
                self.ahead += 60.0
                self.department.tick()

        asyncio.run_coroutine_threadsafe(pass_(), self._loop).result(30)

    @property
    def waiting(self) -> int:
        return self.journal.outbox.stats.rows

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ending = asyncio.Event()

        async def rebuild(_lists: Path) -> None:
            return None

        operations = {
            **OutboxOps(self.engine).once(),
            **DepartmentOps(self.engine, rebuild).once(),
            "status": self._status,
            "self-test": self._self_test,
        }
        api = Api(operations, {})
        await api.start(self.socket)
        self._ready.set()
        await self._ending.wait()
        await api.stop()

    async def _status(self, _params: Params) -> dict[str, Any]:
        self.department.tick()
        shown = self.department.to_json()
        return {
            "base": self.base,
            "ports": [{"role": "lan"}, {"role": "wan"}],
            "inbound": {"mode": 1},
            "isolation": {"level": shown["isolation"]["level"]},
            "quarantine": shown["quarantine"],
            "rules": [],
            "outbox": {"lost": 0},
            "candidate": None,
            "problems": [],
        }

    async def _self_test(self, _params: Params) -> dict[str, Any]:
        self.self_tests += 1
        return {"passed": self.passes}


def _orders(folder: Path) -> Orders:
    from vigie.filter import department_file

    return department_file.load(folder / "department.json")
