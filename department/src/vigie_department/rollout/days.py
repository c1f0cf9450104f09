"""On which days a mairie is open, and how many of them went by without a word. Pure.

Many boxes are switched off with the lights: silence is counted in days on which somebody would have switched them on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta, tzinfo
from typing import Final

from vigie.contract.downward import Opening

WEEKDAYS: Final = frozenset(range(5))
"""of a commune that nothing is known about"""
LEARNED_WEEKS: Final = 4
USUAL_TIMES: Final = 2
"""in so many of the last weeks a box was at work on a weekday that counts as usual"""
_DAY_S: Final = 86400
_LOOKED_BACK: Final = 400


def usual(openings: Iterable[Opening], active: Iterable[date] = ()) -> frozenset[int]:
    """Weekdays (0 Monday .. 6 Sunday): those of the hours that were set, else those on which the box was at work.

    active: dates within `LEARNED_WEEKS` on which it counted frames.
    """
    told = frozenset(one.day for one in openings)
    if told:
        return told
    times = Counter(day.weekday() for day in set(active))
    learned = frozenset(day for day, count in times.items() if count >= USUAL_TIMES)
    return learned or WEEKDAYS


def gone_by(since: float, now: float, days: frozenset[int], zone: tzinfo) -> int:
    """Whole opening days strictly between two moments (Unix seconds): neither the first day nor today counts."""
    if now - since < _DAY_S:
        return 0
    first = datetime.fromtimestamp(since, zone).date()
    today = datetime.fromtimestamp(now, zone).date()
    between = min(max(0, (today - first).days - 1), _LOOKED_BACK)
    return sum((first + timedelta(days=n + 1)).weekday() in days for n in range(between))
