"""How long to wait before the next attempt. Pure: the random source is given."""

from __future__ import annotations

import random
from typing import Final

from vigie.host.boxconfig import EnrolIntervals

RETRY_AFTER_MAX_S: Final = 86_400.0
"""A server that asks for more is not obeyed: an attempt a day costs it nothing."""
_DOUBLINGS_MAX: Final = 20


def after_failure(times: EnrolIntervals, rnd: random.Random, tries: int, failing_s: float) -> float:
    """Full jitter: U(0, min(most, first * 2^tries)) seconds; about hourly once it has failed for `patience`. No end."""
    if failing_s >= times.patience_s:
        return times.hourly_s * rnd.uniform(0.5, 1.5)
    return rnd.uniform(0.0, min(times.most_s, times.first_s * 2.0 ** min(tries, _DOUBLINGS_MAX)))


def as_asked(times: EnrolIntervals, rnd: random.Random, retry_after_s: float) -> float:
    """At least what the server asked for, spread by a tenth so that a fleet does not come back as one."""
    asked = min(retry_after_s, RETRY_AFTER_MAX_S)
    return asked * rnd.uniform(1.0, 1.1) + rnd.uniform(0.0, times.first_s)


def after_refusal(times: EnrolIntervals, rnd: random.Random) -> float:
    """6 h +- 50 %: only a person can change a refusal."""
    return times.refused_s * rnd.uniform(0.5, 1.5)
