"""The outbox of a simulated box: what the product's sender (`vigie.link.sender`, `pump`) does, for a tenth of its cost.

The same windows, pace, patience and order; a test drives both with the same story and compares what they send. Left
out: rows that do not validate, and boots of an earlier start, which no simulated box has. Pure: time comes in.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import NamedTuple

from vigie.link.sender import BURST_S, CONFIRM_DOUBLINGS, WINDOW


@dataclass(slots=True)
class Row:
    """In the window."""

    alert: int
    live: bool
    backlog: bool
    sent_at: float | None = None


class Sending(NamedTuple):
    """What to publish."""

    seq: int
    prev: int
    alert: int


class Outbox:
    """rate_per_s: of what is not live; confirm_s, stagger: as the sender's."""

    def __init__(self, rate_per_s: float, confirm_s: float, stagger: float) -> None:
        self._rate = rate_per_s
        self._base_s = confirm_s * (1.0 + stagger)
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._beyond: deque[tuple[int, int]] = deque()
        """(seq, alert) that the windows have no room for"""
        self._seq = self._highest = 0
        self._backlog = 0
        self._unsent = 0
        self._next_s = self._progress_s = 0.0
        self._patience = 0
        self.resent = 0

    def __len__(self) -> int:
        return len(self._rows) + len(self._beyond)

    def opened(self, now: float, delay_s: float) -> None:
        """A session has begun."""
        for row in self._rows.values():
            row.sent_at, row.live = None, False
        self._unsent = len(self._rows)
        self._next_s = now + delay_s
        self._progress_s, self._patience = now, 0

    def add(self, alert: int, now: float, *, online: bool) -> Sending | None:
        """A new row; what to publish when it is live and has room."""
        self._seq += 1
        if not online or self._beyond or len(self._rows) - self._backlog >= WINDOW:
            self._beyond.append((self._seq, alert))
            return None
        self._rows[self._seq] = row = Row(alert, live=True, backlog=False)
        self._unsent += 1
        self._check(now)
        return self._send(self._seq, row, now)

    def due(self, now: float) -> list[Sending]:
        """What the clock says."""
        while self._beyond and self._backlog < WINDOW:
            seq, alert = self._beyond.popleft()
            self._rows[seq] = Row(alert, live=False, backlog=True)
            self._backlog += 1
            self._unsent += 1
        self._check(now)
        out: list[Sending] = []
        if not self._unsent or now < self._next_s:
            return out
        for seq, row in self._rows.items():
            if now < self._next_s:
                break
            if row.sent_at is None:
                self._next_s = max(self._next_s, now - BURST_S) + 1.0 / self._rate
                out.append(self._send(seq, row, now))
        return out

    def received(self, upto: int, now: float) -> int:
        """Confirmed: how many rows that ends."""
        upto = min(upto, self._highest)
        gone = 0
        while self._rows and next(iter(self._rows)) <= upto:
            _seq, row = self._rows.popitem(last=False)
            self._backlog -= row.backlog
            self._unsent -= row.sent_at is None
            gone += 1
        if gone:
            self._progress_s, self._patience = now, 0
        return gone

    def _check(self, now: float) -> None:
        """Nobody confirms."""
        if len(self._rows) == self._unsent:
            self._progress_s = now
            return
        if now < self._progress_s + self._base_s * 2.0 ** min(self._patience, CONFIRM_DOUBLINGS):
            return
        old = [r for r in self._rows.values() if r.sent_at is not None and now >= r.sent_at + self._base_s]
        if not old:
            return
        self._patience += 1
        self._progress_s = now
        for row in old:
            row.sent_at, row.live = None, False
        self._unsent += len(old)

    def _send(self, seq: int, row: Row, now: float) -> Sending:
        row.sent_at = now
        self._unsent -= 1
        self.resent += seq <= self._highest
        self._highest = max(self._highest, seq)
        return Sending(seq, 0 if seq == next(iter(self._rows)) else seq - 1, row.alert)
