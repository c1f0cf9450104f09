"""How much one box may have stored: one with a valid certificate and bad intentions must not fill the disk.

A box sends at most 200 alerts an hour, a metric an hour, and after an outage what its outbox held. What goes beyond is
neither stored nor confirmed: an honest box sends it again later, and loses nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from vigie.contract.upward import Diagnostic, Metric, Request
from vigie_department.ingest.decode import Poison, Report

log = logging.getLogger("vigie.ingest")

BURST: Final = 50_000.0
"""rows at once: more than a full outbox"""
PER_S: Final = 1.0
NEW_BOOT: Final = 20.0
"""a boot not heard before has a receipt of its own; an honest box starts a few times a day"""
_CHARACTERS: Final = 500
"""of free text that count as one more row"""
_INDICATORS: Final = 5
"""of a candidate's counts, each a row in its table"""


def cost(item: Report | Poison, *, new_boot: bool) -> float:
    """Of storing it, in rows."""
    found = 1.0 + (NEW_BOOT if new_boot else 0.0)
    if isinstance(item, Poison):
        return found
    body = item.message.body
    if isinstance(body, Diagnostic):
        found += sum(len(name) + len(text) for name, text in body.items.items()) / _CHARACTERS
    elif isinstance(body, Request):
        found += len(body.words) / _CHARACTERS
    elif isinstance(body, Metric):
        found += len(body.observed) / _INDICATORS
    return found


@dataclass(slots=True)
class _Level:
    left: float
    at: float
    told: float = float("-inf")


class Quota:
    """Levels by box. Times are Unix seconds; a clock that goes back fills nothing."""

    def __init__(self, burst: float = BURST, per_s: float = PER_S) -> None:
        self._burst = burst
        self._per_s = per_s
        self._levels: dict[str, _Level] = {}

    def left(self, box: str, now: float) -> float:
        """Rows that it may have stored now."""
        level = self._levels.get(box)
        if level is None:
            return self._burst
        return min(self._burst, level.left + max(0.0, now - level.at) * self._per_s)

    def spend(self, box: str, rows: float, now: float) -> None:
        """They are stored."""
        left = self.left(box, now) - rows
        level = self._levels.setdefault(box, _Level(left, now))
        level.left, level.at = left, now

    def tell(self, box: str, now: float) -> None:
        """Say that a box is over its share, once an hour."""
        level = self._levels.setdefault(box, _Level(self._burst, now))
        if now - level.told >= 3600:
            level.told = now
            log.warning("%s sends more than a box has to say: what is beyond its share waits", box)
