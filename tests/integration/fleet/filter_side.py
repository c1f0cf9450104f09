"""The box's filter, whole but for its two cables: engine, operations, journal, outbox and base on a real data path."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support import messages
from tests.unit.base_delta.bases import simple, written
from vigie.contract.envelope import Upward
from vigie.contract.words import Clock, Kind
from vigie.filter import base_store, client
from vigie.filter.api import Api, Hub
from vigie.filter.config import Config
from vigie.filter.datapath import DataPath
from vigie.filter.engine import Engine
from vigie.filter.journal import Journal
from vigie.filter.operations import Operations
from vigie.filter.outbox import Row
from vigie.host.boxconfig import Paths
from vigie.host.clock import SystemClock
from vigie.host.net import Net

BUILTIN = ["45.1.1.1", "45.1.2.0/24", "2a00:1::/48"]
"""what the base of the image lists, as version 1"""
DELIVERED = 1
PENDING = 1000
"""rows that the journal surely takes between two writes to its disk"""


def batched(rows: list[Row], size: int) -> list[list[Row]]:
    """In pieces of that size."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


class FilterSide:
    """Behind `paths.filter_socket`, in a thread with a loop of its own. `folder`: its state; it outlives `stop`."""

    def __init__(self, folder: Path, paths: Paths, object_file: Path) -> None:
        folder.mkdir(parents=True)
        self.socket = paths.filter_socket
        self._object = object_file
        config = Config(
            state_dir=folder, base=folder / "base.vgb", image=folder / "base.img", trust=paths.trust,
            builtin_base=written(folder / "builtin.vgb", simple(DELIVERED, BUILTIN)),
            box_state=paths.state, run_dir=paths.run, socket=paths.filter_socket,
        )  # fmt: skip
        self.config = replace(config, journal=replace(config.journal, path=folder / "journal.db"))
        self._made = 0

    def start(self) -> None:
        self._datapath = DataPath.open(self._object)
        self.journal = Journal(self.config.journal)
        self.engine = Engine(self.config, self._datapath, Net(), self.journal, SystemClock(), ("none0", "none1"))
        self.engine.start()
        base = self.config.base if self.config.base.exists() else self.config.builtin_base
        prepared = base_store.prepare(base, self.engine.department.lists_path)
        self.engine.install_base(prepared)
        prepared.close()
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="filter")
        self._thread.start()
        assert ready.wait(60), f"the filter does not listen on {self.socket}"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(60)
        assert not self._thread.is_alive(), "the filter does not end"
        self.engine.close_parts()
        self.journal.close()
        self._datapath.close()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(ready))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._ending = asyncio.Event()
        operations = Operations(self.engine, Hub(), lambda: True, lambda _detach: None)
        api = Api(operations.once(), operations.streams(), "")
        await api.start(self.socket)
        ready.set()
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._ending.wait()
            self.engine.tick()
            await asyncio.to_thread(self.journal.flush)
        await api.stop()

    # -- what the test asks ---------------------------------------------------------------------------------------

    def call(self, op: str, **params: Any) -> dict[str, Any]:
        """An operation, as another process would ask for it."""
        return client.call(self.socket, op, **params)

    def add_alerts(self, count: int) -> None:
        """Rows on their way into the outbox, as the filter's own reports put them there; ids go on from 1."""
        rows = []
        for number in range(self._made + 1, self._made + count + 1):
            fields: dict[str, Any] = {"v": 1, "boot": "0" * 32, "seq": 2, "prev": 1, "ts": 0, "clock": "ntp"}
            fields |= messages.alert(number)
            body = Upward.from_dict(Kind.ALERT, fields).body
            rows.append(Row(body, int(fields["last"]), Clock.NTP))
        self._made += count
        for some in batched(rows, PENDING):
            self.journal.add_rows(some)
            self.journal.flush()

    @property
    def waiting(self) -> int:
        """Rows that the department has not confirmed."""
        return self.journal.outbox.stats.rows

    @property
    def lost(self) -> int:
        """Rows dropped because the outbox was full."""
        return self.journal.outbox.stats.lost

    @property
    def version(self) -> int:
        """Of the base in force."""
        return int(self.call("base-show")["version"])

    def verdict(self, address: str) -> str:
        """What the base in force says of an address: BLOCK, OBSERVE; NONE when it does not list it."""
        look = self.engine.base.lookup()
        assert look is not None
        return str(look.classes[look.address(address)].action.name)
