"""Token buckets: so much at once, then so much per hour. Pure: time comes in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """burst: tokens of a full bucket; per_hour: how fast it fills."""

    burst: int
    per_hour: int


@dataclass(slots=True)
class Bucket:
    """tokens left at the time `at` (Unix seconds)."""

    tokens: float
    at: float

    def level(self, rate: Rate, now: float) -> float:
        """Tokens at `now`. A clock that went back fills nothing."""
        return min(float(rate.burst), self.tokens + max(0.0, now - self.at) * rate.per_hour / 3600)

    def wait(self, rate: Rate, now: float) -> float:
        """Seconds until one may be taken; 0.0 = now."""
        missing = 1.0 - self.level(rate, now)
        return 0.0 if missing <= 1e-9 else missing * 3600 / rate.per_hour

    def take(self, rate: Rate, now: float) -> None:
        """One token less. Below zero when a record of the past is replayed under a smaller rate."""
        self.tokens = self.level(rate, now) - 1.0
        self.at = max(self.at, now)
