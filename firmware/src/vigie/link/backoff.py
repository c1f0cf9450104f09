"""When to try again, and on which port. Pure: chance and time come in.

Full jitter, U(0, min(most, first * 2^n)): when a broker comes back, a thousand boxes spread evenly over the interval
instead of arriving in waves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self

LIVED_S: Final = 30.0
"""A session that lasted this long was a good one: the next failure counts from one again."""
_DOUBLINGS_MAX: Final = 32
PORT_KEPT_S: Final = 86_400.0
"""How long a port that worked is tried first: the usual one gets its chance again every day."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row. Seconds."""

    first_s: float
    most_s: float
    failures: int = 0

    def failed(self, lived_s: float = 0.0) -> Self:
        """After a failure, or after a session that lasted `lived_s`."""
        return replace(self, failures=1 if lived_s >= LIVED_S else self.failures + 1)

    def ceiling_s(self) -> float:
        """Longest wait now."""
        return min(self.most_s, self.first_s * 2.0 ** min(self.failures, _DOUBLINGS_MAX))

    def wait_s(self, uniform: Callable[[float, float], float]) -> float:
        """Seconds to wait; `uniform(a, b)` draws."""
        return uniform(0.0, self.ceiling_s())


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of the broker in the order to try; the one that worked last goes first for a day."""

    ports: tuple[int, ...]
    good: int | None = None
    since: float = 0.0

    def order(self, now: float) -> tuple[int, ...]:
        """Ports to try now. `now`: monotonic seconds."""
        if self.good not in self.ports or now - self.since >= PORT_KEPT_S:
            return self.ports
        return (self.good, *(p for p in self.ports if p != self.good))

    def worked(self, port: int, now: float) -> Self:
        """After a session was opened on `port`. The day counts from the first time the fallback was needed."""
        if port == self.good and now - self.since < PORT_KEPT_S:
            return self
        return replace(self, good=port, since=now)
