"""The clock that boxes believe.

What a challenge says becomes the floor of a box's clock, for ever: a server that was told by a lying time server that
it is 2040 would spoil the fleet. So the last time that was right is remembered, and a clock that is behind it or far
ahead of it signs nothing until a person says that it is right (`serve --accept-clock`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vigie_provisioning.errors import ProvisioningError

BEHIND_S = 300
AHEAD_S = 60 * 86_400


class ClockError(ProvisioningError):
    """This machine's clock cannot be right."""

    code = "clock"


class Clock:
    """`time.time` under watch. last: Unix seconds that were right before, 0 when nothing is known."""

    def __init__(self, last: int, wall: Callable[[], float] = time.time) -> None:
        self.last = last
        self._wall = wall

    def __call__(self) -> float:
        """Now. ClockError when that cannot be."""
        now = self._wall()
        if self.last and not self.last - BEHIND_S <= now <= self.last + AHEAD_S:
            then, says = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(moment)) for moment in (self.last, now))
            problem = f"the clock says {says}, and it was {then} before"
            raise ClockError(f"{problem}; set it, or if it is right restart once with `serve --accept-clock`")
        self.last = max(self.last, int(now))
        return now
