"""What a replay found: counts, blocked indicators with their sources, names; as values and as JSON."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from vigie.contract.codes import REASON_COUNT, Category, Reason, Verdict
from vigie.filter.base.model import Base
from vigie.filter.base.names import suffix_hashes

HITS_MAX: Final = 20_000
NAMES_MAX: Final = 20_000
EXAMPLES_MAX: Final = 5
ROWS_MAX: Final = 200_000
_MINUTE_NS: Final = 60_000_000_000


@dataclass(slots=True)
class Hit:
    """One indicator that blocked (or would have). Times: Unix seconds. `seen`: names or addresses as they were asked.

    `minutes` counts distinct (device, minute): what the journal keeps one row of.
    """

    indicator: str
    reason: Reason
    verdict: Verdict
    category: Category
    sources: tuple[str, ...]
    first: float
    last: float
    packets: int = 0
    minutes: int = 0
    devices: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "indicator": self.indicator,
            "reason": self.reason.name.lower(),
            "verdict": self.verdict.name.lower(),
            "category": self.category.name.lower(),
            "sources": list(self.sources),
            "first": self.first,
            "last": self.last,
            "packets": self.packets,
            "minutes": self.minutes,
            "devices": sorted(self.devices),
            "seen": self.seen,
            "ports": sorted(self.ports),
        }


@dataclass(slots=True)
class Summary:
    """One file. `frames` were given to the data path; `unread` counts records that could not be, by why.

    `first_ns`, `last_ns`: capture times, Unix nanoseconds, 0 without frames. `problem`: how the file ended, "" for
    well. `by_verdict` and `by_reason` count frames, `by_anomaly` frames with something odd, by number; `held` those
    that waited for their server's name (counted by what became of them). `events`: what the data path reported.
    """

    file: str
    basis: str = "none"
    onlink: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    packets: int = 0
    frames: int = 0
    first_ns: int = 0
    last_ns: int = 0
    problem: str = ""
    unread: Counter[str] = field(default_factory=Counter)
    adapted: Counter[str] = field(default_factory=Counter)
    held: int = 0
    by_verdict: list[int] = field(default_factory=lambda: [0] * 8)
    by_reason: list[int] = field(default_factory=lambda: [0] * REASON_COUNT)
    by_anomaly: list[int] = field(default_factory=lambda: [0] * REASON_COUNT)
    events: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    hits: dict[tuple[Reason, str], Hit] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    _minute: int = -1
    _minutes: set[int] = field(default_factory=set)
    _rows: set[tuple[int, str, Reason, str]] = field(default_factory=set)

    @property
    def duration_s(self) -> float:
        """From the first to the last frame by capture time; clocks of captures may jump, so never negative."""
        return max(0, self.last_ns - self.first_ns) / 1e9

    @property
    def active_minutes(self) -> int:
        """Minutes in which there was at least one frame: captures put together have gaps of years."""
        return len(self._minutes)

    def saw_time(self, ns: int) -> None:
        """Takes the capture time of a frame, Unix nanoseconds."""
        if not self.first_ns:
            self.first_ns = self.last_ns = ns
        elif ns > self.last_ns:
            self.last_ns = ns
        minute = ns // _MINUTE_NS
        if minute != self._minute:
            self._minute = minute
            if len(self._minutes) < ROWS_MAX:
                self._minutes.add(minute)

    def saw_name(self, name: str) -> None:
        """Counts a name asked for, by DNS or by TLS or QUIC."""
        if name in self.names or len(self.names) < NAMES_MAX:
            self.names[name] += 1

    def hit(self, hit: Hit, device: str, what: str, port: int) -> None:
        """Counts one blocked or observed frame."""
        key = (hit.reason, hit.indicator)
        known = self.hits.get(key)
        if known is None:
            if len(self.hits) >= HITS_MAX:
                return
            known = self.hits[key] = hit
        known.packets += 1
        known.first, known.last = min(known.first, hit.last), max(known.last, hit.last)
        known.devices.add(device)
        if len(known.ports) < EXAMPLES_MAX:
            known.ports.add(port)
        if what not in known.seen and len(known.seen) < EXAMPLES_MAX:
            known.seen.append(what)
        row = (int(hit.last // 60), device, *key)
        if row not in self._rows and len(self._rows) < ROWS_MAX:
            self._rows.add(row)
            known.minutes += 1

    def to_json(self, names: int = 50) -> dict[str, Any]:
        """Plain values; at most `names` names, the most frequent."""
        hits = sorted(self.hits.values(), key=lambda hit: (-hit.packets, hit.indicator))
        return {
            "file": self.file,
            "packets": self.packets,
            "frames": self.frames,
            "first": self.first_ns / 1e9,
            "duration_s": self.duration_s,
            "active_minutes": self.active_minutes,
            "problem": self.problem,
            "lan": {"basis": self.basis, "onlink": list(self.onlink), "gateways": list(self.gateways)},
            "unread": dict(self.unread),
            "adapted": dict(self.adapted),
            "held": self.held,
            "verdicts": _counts(self.by_verdict, Verdict),
            "reasons": _counts(self.by_reason, Reason),
            "anomalies": _counts(self.by_anomaly, Reason),
            "events": dict(self.events),
            "blocked": [hit.to_json() for hit in hits if hit.verdict is not Verdict.OBSERVE],
            "observed": [hit.to_json() for hit in hits if hit.verdict is Verdict.OBSERVE],
            "names_seen": len(self.names),
            "names": dict(self.names.most_common(names)),
            "devices": self.devices,
        }


def _counts(counts: list[int], names: type[Verdict] | type[Reason]) -> dict[str, int]:
    """The numbers that are not zero, by name, the largest first."""
    found = {names(number).name.lower(): count for number, count in enumerate(counts) if count}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def address_sources(base: Base, address: str) -> tuple[str, ...]:
    """Feeds of a base that list an address."""
    host = ipaddress.ip_address(address)
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped:
        host = host.ipv4_mapped
    if isinstance(host, ipaddress.IPv4Address):
        at = int(np.searchsorted(base.v4.start, np.uint32(int(host)), side="right")) - 1
        if at < 0 or int(base.v4.last[at]) < int(host) or not len(base.v4.source):
            return ()
        return base.source_names(int(base.v4.source[at]))
    hi, lo = int(host) >> 64, int(host) & 0xFFFF_FFFF_FFFF_FFFF
    first = int(np.searchsorted(base.v6.start_hi, np.uint64(hi), side="left"))
    after = int(np.searchsorted(base.v6.start_hi, np.uint64(hi), side="right"))
    at = first + int(np.searchsorted(base.v6.start_lo[first:after], np.uint64(lo), side="right")) - 1
    if at < 0 or not len(base.v6.source) or (int(base.v6.last_hi[at]), int(base.v6.last_lo[at])) < (hi, lo):
        return ()
    return base.source_names(int(base.v6.source[at]))


def name_sources(base: Base, name: str) -> tuple[str, tuple[str, ...]]:
    """(longest listed suffix of a name, feeds that list it); ("", ()) when the base lists none."""
    found: tuple[str, tuple[str, ...]] = ("", ())
    for suffix, number in suffix_hashes(name, base.name_key, base.name_seed):
        at = int(np.searchsorted(base.names.hash, np.uint64(number)))
        if at < len(base.names) and int(base.names.hash[at]) == number:
            found = (suffix, base.source_names(int(base.names.source[at])) if len(base.names.source) else ())
    return found
