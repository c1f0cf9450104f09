"""Rate limits with a bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict


class Buckets:
    """A token bucket for each name; of more than `most` names the ones unseen for longest are forgotten.

    rate: tokens per second. burst: tokens of a name not seen before. A forgotten name starts with a full bucket again;
    an attacker with that many addresses is not held back by limits per address anyway.
    """

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self.rate = rate
        self.burst = burst
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, name: str, now: float) -> float:
        """Takes a token. 0.0 when there was one, else seconds until there is one (nothing is taken then)."""
        level, then = self._levels.pop(name, (self.burst, now))
        level = min(self.burst, level + max(0.0, now - then) * self.rate)
        enough = level >= 1.0
        self._levels[name] = (level - 1.0 if enough else level, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return 0.0 if enough else (1.0 - level) / self.rate


def source_of(address: str) -> str:
    """Name of a source for limits: the address in IPv4, the /64 in IPv6 (one customer has that many), else as it is."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
