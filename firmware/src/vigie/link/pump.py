"""From the filter's outbox to the broker: fetches rows, hands them to the session, passes receipts on.

Rows that appear while the box is connected (`above` the last row of the moment of connecting) go at once; older ones
are the backlog, paced by `sender`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from vigie.contract import topics
from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.upward import HOUR_S, Alert
from vigie.contract.words import Kind, Rule
from vigie.errors import DaemonError
from vigie.host.boxconfig import LinkIntervals
from vigie.link.filterclient import FilterPort
from vigie.link.sender import Sender
from vigie.link.wire import Session

log = logging.getLogger("vigie.link")

LIVE_ROWS: Final = 50
ROWS_MAX: Final = 500
REFUSED_ALERT: Final = 2**52
"""Id of the alert "rows were refused": the filter's own ids count from 1."""
REFUSED_EVERY_S: Final = 3600.0
LOOK_AGAIN_S: Final = 60.0
"""A session may last for weeks: what the outbox holds is looked at again, whatever was found before. A filter whose
file was spoilt begins a new one, with ids that this session has seen already."""


class Pump:
    """Lives as long as the link; `run` as long as a session. `add` puts a row into the outbox."""

    def __init__(
        self,
        filter_port: FilterPort,
        times: LinkIntervals,
        wall: Callable[[], float],
        add: Callable[[Kind, dict[str, Any]], None],
    ) -> None:
        self._filter = filter_port
        self._times = times
        self._wall = wall
        self._add = add
        self._sender = Sender(times.drain_per_s, times.confirm_s, stagger=random.random())
        self._kicked = asyncio.Event()
        self._above = 0
        self._drained = False
        self._look_at = 0.0
        self._told_refused = 0
        self._told_at = -REFUSED_EVERY_S
        self._problem = ""

    def kick(self) -> None:
        """Something changed: look now."""
        self._kicked.set()

    def figures(self) -> dict[str, Any]:
        """For people."""
        return {"waiting": self._sender.waiting, **asdict(self._sender.counts)}

    async def received(self, boot: str, upto: int) -> None:
        """`down/received`."""
        upto = self._sender.received(boot, upto, time.monotonic())
        if upto:
            await self._filter.outbox_received(boot, upto)
            self._drained = False
            self.kick()

    async def run(self, session: Session, box: str, delay_s: float) -> None:
        """Until the session ends. The backlog begins after `delay_s`."""
        self._sender.opened(time.monotonic(), delay_s)
        self._drained, self._above = False, -1
        while not session.over:
            self._kicked.clear()
            await self._fetch()
            for out in self._sender.due(time.monotonic()):
                session.publish(topics.up(box, out.kind), out.data, correlation=out.correlation)
            wait = self._sender.next_due_s(time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._times.poll_s if wait is None else min(wait, self._times.poll_s)):
                    await self._kicked.wait()

    async def _fetch(self) -> None:
        try:
            if self._above < 0 or time.monotonic() >= self._look_at:
                newest = int((await self._filter.outbox_stats()).get("last_id", 0))
                self._above = newest if self._above < 0 else min(self._above, newest)
                self._drained, self._look_at = False, time.monotonic() + LOOK_AGAIN_S
            room = min(LIVE_ROWS, self._sender.live_wants)
            if room:
                rows = await self._filter.outbox(room, self._above)
                self._sender.offer(rows, live=True)
                self._above = max([self._above, *(int(row.get("id", 0)) for row in rows)])
            if self._sender.wants and not self._drained:
                # The oldest rows include those of the window; no more are asked for than it takes, for each row that is
                # handed over gets its number then, and is never dropped again.
                limit = min(ROWS_MAX, self._sender.waiting + self._sender.wants)
                self._drained = self._sender.offer(await self._filter.outbox(limit), live=False) == 0
            await self._refused()
            self._problem = ""
        except DaemonError as e:
            if str(e) != self._problem:
                log.warning("outbox: %s", e)
            self._problem = str(e)

    async def _refused(self) -> None:
        """Rows that may not leave: deleted where nothing waits before them, told to the department as a number."""
        for boot, seq in self._sender.dropped():
            await self._filter.outbox_received(boot, seq)
        new = self._sender.counts.refused - self._told_refused
        if new and time.monotonic() - self._told_at >= REFUSED_EVERY_S:
            self._told_refused, self._told_at = self._sender.counts.refused, time.monotonic()
            log.error("%d rows do not follow the contract and stay: %s", new, self._sender.counts.last_refusal)
            hour = max(0, int(self._wall()) // HOUR_S * HOUR_S)
            alert = Alert(
                REFUSED_ALERT + int(self._wall()) // HOUR_S, Rule.SCHEMA_REFUSED, 0, 2, Category.NONE, Direction.BOTH,
                None, None, DeviceClass.NONE, new, hour, hour, False,
            )  # fmt: skip
            self._add(Kind.ALERT, alert.fields())
