"""The pump between a real outbox and a session that only writes down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import messages
from vigie.contract.envelope import Upward
from vigie.contract.words import Clock, Kind
from vigie.filter.config import JournalConfig
from vigie.filter.journal import Journal
from vigie.filter.outbox import Row
from vigie.host.boxconfig import LinkIntervals
from vigie.link import pump
from vigie.link.pump import Pump

BOX = "vg-" + "a" * 16


class Box:
    """What the pump asks of the filter, and of the session."""

    over = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[dict[str, Any]] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(JournalConfig(path=self.path))

    def add(self, count: int) -> None:
        head = {"v": 1, "boot": "0" * 32, "seq": 2, "prev": 1, "ts": 0, "clock": "ntp"}
        bodies = [Upward.from_dict(Kind.ALERT, head | messages.alert(i + 1)).body for i in range(count)]
        rows = [Row(body, 0, Clock.NTP) for body in bodies]
        self.journal.with_outbox(lambda outbox, db: outbox.append(db, rows))

    async def outbox(self, limit: int, above: int | None = None) -> list[dict[str, Any]]:
        return self.journal.with_outbox(lambda outbox, db: outbox.take(db, limit, above or 0))

    async def outbox_stats(self) -> dict[str, Any]:
        self.journal.with_outbox(lambda _outbox, _db: None)
        return asdict(self.journal.outbox.stats)

    async def outbox_received(self, boot: str, upto: int) -> None:
        self.journal.with_outbox(lambda outbox, db: outbox.received(db, boot, upto))

    def publish(self, _topic: str, data: bytes, *, correlation: bytes | None = None) -> None:
        self.sent.append(json.loads(data))


async def _until(what: Callable[[], bool]) -> None:
    for _ in range(2000):
        if what():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came about")


def test_a_new_file_behind_an_old_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter found its file spoilt and began another: its ids are low again, and its rows leave all the same."""
    monkeypatch.setattr(pump, "LOOK_AGAIN_S", 0.2)

    async def story() -> None:
        box: Any = Box(tmp_path / "journal.db")
        made = Pump(box, replace(LinkIntervals(), poll_s=0.02, drain_per_s=1000.0), lambda: 0.0, lambda _k, _b: None)
        box.add(30)
        running = asyncio.create_task(made.run(box, BOX, 0.0))
        await _until(lambda: len(box.sent) == 30)
        await made.received(box.sent[0]["boot"], 30)
        box.journal.close()
        box.path.write_bytes(b"garbage" * 2000)
        box.open()
        box.add(20)
        await _until(lambda: len(box.sent) == 50)
        assert [m["prev"] for m in box.sent[30:]] == list(range(20))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        box.journal.close()

    asyncio.run(story())
