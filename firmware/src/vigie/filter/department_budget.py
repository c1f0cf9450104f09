"""How long the department may cut a commune off by its online key alone: four hours in any twenty-four.

Times are seconds in service (`service_clock`). What was reserved and not yet used lies ahead of the clock, and counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vigie.contract.limits import ISOLATION_BUDGET_S, ISOLATION_WINDOW_S

SPANS_MAX: Final = 2_000  # of a minute and more each: a day has 1,440


@dataclass(frozen=True, slots=True)
class Budget:
    """Spans (first, last) in which online orders cut the commune off, sorted, disjoint."""

    spans: tuple[tuple[float, float], ...] = ()

    def left(self, at: float) -> float:
        """Seconds that may still be spent at `at`."""
        begin = at - ISOLATION_WINDOW_S
        used = sum(last - max(first, begin) for first, last in self.spans if last > begin)
        return max(0.0, ISOLATION_BUDGET_S - used)

    def charged(self, first: float, last: float) -> Budget:
        """With a span spent; what is older than the window goes."""
        if last <= first:
            return self
        begin = first - ISOLATION_WINDOW_S
        spans = sorted([*(s for s in self.spans if s[1] > begin), (first, last)])
        joined: list[tuple[float, float]] = []
        for span in spans:
            if joined and span[0] <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], span[1]))
            else:
                joined.append(span)
        while len(joined) > SPANS_MAX:  # never more generous: neighbours become one span with the gap in it
            joined[0:2] = [(joined[0][0], joined[1][1])]
        return Budget(tuple(joined))

    def ended(self, at: float) -> Budget:
        """Without what was reserved beyond `at` and not used."""
        return Budget(tuple((first, min(last, at)) for first, last in self.spans if first < at))
