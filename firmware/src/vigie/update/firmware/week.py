"""When the box may restart: the hours of a week in which it is on, outside the opening hours, with the least traffic.

Many boxes are switched off with the office, so "at night" does not do. Two figures are learned for each of the 168
hours of a week (local time; 0 = Monday 0 h): how regularly the box was on, and how many frames came through. Opening
hours, when the department knows them, narrow the choice. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from vigie.contract.errors import MessageError
from vigie.contract.fields import Fields
from vigie.contract.firmware import TIME_MAX

HOURS: Final = 168
SHARE: Final = 0.4
"""Weight of the last week: two weeks out of step are enough to learn a new habit."""
USUAL: Final = 0.3
"""An hour counts as usual when the box was on in it last week, or in most weeks before that."""
PER_DAY: Final = 3
AWAY_MAX: Final = 5 * HOURS
_QUIETEST_FIRST: Final = 3
"""Among equals, the hour nearest to this one of the day."""
_FRAMES_MAX: Final = 1e15

Opening = tuple[int, int, int]
"""day (0 Monday), from, to: minutes of local time"""


def hour_of_week(day: int, hour: int) -> int:
    """0..167."""
    return day * 24 + hour


@dataclass(frozen=True, slots=True)
class Week:
    """on: 0..1 for each hour; frames: usual number for each hour; last: absolute hour (Unix hours) last counted."""

    on: tuple[float, ...] = field(default=(0.0,) * HOURS)
    frames: tuple[float, ...] = field(default=(0.0,) * HOURS)
    last: int = 0

    def counted(self, hour: int, slot: int, frames: float) -> Week:
        """With one more hour. hour: Unix hours; slot: its hour of the week; frames: what came in it.

        Hours since the last one in which the box was not on count as off. A clock that goes back counts nothing."""
        if self.last and hour <= self.last:
            return self
        on, traffic = list(self.on), list(self.frames)
        away = min(hour - self.last - 1, AWAY_MAX) if self.last else 0
        for back in range(1, away + 1):
            i = (slot - back) % HOURS
            on[i] *= 1 - SHARE
        on[slot] = on[slot] * (1 - SHARE) + SHARE
        known = traffic[slot] > 0
        traffic[slot] = traffic[slot] * (1 - SHARE) + frames * SHARE if known else frames
        return replace(self, on=tuple(on), frames=tuple(traffic), last=hour)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "v": 1, "last": self.last, "on": [round(v, 4) for v in self.on], "frames": [round(v) for v in self.frames],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From its file; what is spoilt counts as nothing learned."""
        f = Fields("week", data)
        try:
            lists = []
            for name, most in (("on", 1.0), ("frames", _FRAMES_MAX)):
                values = f.items(name, HOURS)
                lists.append(tuple(Fields(name, {"n": v}).number("n", 0, most) for v in values))
            if any(len(one) != HOURS for one in lists):
                return cls()
            return cls(lists[0], lists[1], f.integer("last", 0, TIME_MAX))
        except MessageError:
            return cls()


def quiet_hours(week: Week, opening: Iterable[Opening]) -> frozenset[int]:
    """Hours of the week in which the box may restart: on each day the PER_DAY quietest among those in which it is
    usually on and the mairie is closed; where it is on only while the mairie is open, the quietest of those."""
    opened = _opened(opening)
    usual = {i for i in range(HOURS) if week.on[i] >= USUAL}
    if not usual:  # nothing learned yet
        usual = set(range(HOURS))
    chosen: set[int] = set()
    for day in range(7):
        on = [i for i in range(day * 24, day * 24 + 24) if i in usual]
        pool = [i for i in on if i not in opened] or on
        chosen.update(sorted(pool, key=lambda i: (week.frames[i], _distance(i % 24), i))[:PER_DAY])
    return frozenset(chosen)


def _opened(opening: Iterable[Opening]) -> set[int]:
    return {
        day * 24 + minute // 60
        for day, start, end in opening
        for minute in range(start - start % 60, min(end, 24 * 60), 60)
    }


def _distance(hour: int) -> int:
    away = abs(hour - _QUIETEST_FIRST)
    return min(away, 24 - away)
