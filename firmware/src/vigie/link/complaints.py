"""Which refusals are told: each refused message once, and no more than some in an hour.

The broker is not trusted. One that sends nonsense without end, or the same old order at each connection, must neither
fill the outbox with answers nor keep anything else from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

REMEMBERED_MAX: Final = 256
PER_HOUR: Final = 30
_HOUR_S: Final = 3600.0


@dataclass(slots=True)
class Complaints:
    """Digests of what was refused, in order; times (monotonic seconds) of what was told in the last hour."""

    _digests: dict[bytes, None] = field(default_factory=dict)
    _times: list[float] = field(default_factory=list)

    def worth_telling(self, message: bytes, now: float) -> bool:
        """Whether the refusal of `message` is to be told; it counts as told then."""
        digest = hashlib.sha256(message).digest()
        self._times = [t for t in self._times if now - t < _HOUR_S]
        if digest in self._digests or len(self._times) >= PER_HOUR:
            return False
        while len(self._digests) >= REMEMBERED_MAX:
            del self._digests[next(iter(self._digests))]
        self._digests[digest] = None
        self._times.append(now)
        return True
