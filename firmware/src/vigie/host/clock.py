"""Time, as a thing that is passed in: the machine's, or one that a test or a replayed capture moves by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Two clocks. `mono_ns` is CLOCK_MONOTONIC, the clock of the data path; `wall_s` counts since 1970, UTC."""

    def mono_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""

    def wall_s(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump."""


class SystemClock:
    """The machine's clocks."""

    def mono_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def wall_s(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()


@dataclass(slots=True)
class ManualClock:
    """A clock that only moves when told."""

    ns: int = 1_000_000_000_000
    wall: float = 1_700_000_000.0

    def mono_ns(self) -> int:
        """Nanoseconds of the monotonic clock."""
        return self.ns

    def wall_s(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return self.wall

    def advance(self, seconds: float) -> None:
        """Move both clocks on."""
        self.ns += int(seconds * 1e9)
        self.wall += seconds


def mono_s(clock: Clock) -> int:
    """Whole seconds of the monotonic clock: the unit of every `*_s` field of the data path."""
    return clock.mono_ns() // 1_000_000_000


def wall_of_mono(clock: Clock, ns: int) -> float:
    """Wall time of a monotonic instant, by the present difference of the two clocks."""
    return clock.wall_s() - (clock.mono_ns() - ns) / 1e9
