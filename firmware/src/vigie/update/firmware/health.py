"""What a good system does, and how long it may take to do it. `look` gathers, `Soak` judges; both without I/O.

A check may fail for a while: a start takes its time, a department has maintenance. Each has its patience; beyond it the
new system leaves. It is good when the soak is over and everything works at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from vigie.contract.firmware import Check

SOAK_S: Final = 600.0
SOAK_MAX_S: Final = 2700.0
"""A check that comes and goes has to hold at some moment before this."""
PATIENCE_S: Final[Mapping[Check, float]] = MappingProxyType(
    {
        Check.DATAPATH: 180.0,
        Check.FORWARD: 240.0,
        Check.MEMORY: 240.0,
        Check.DISK: 240.0,
        Check.SELFTEST: 420.0,
        Check.BASE: 420.0,
        Check.TIME: 1800.0,
        Check.LINK: 1800.0,
    }
)
"""In this order they are blamed: what is below does not work when what is above does not."""
HEARTBEAT_S: Final = 15.0
FRAMES_MIN: Final = 200
"""Frames that came in on one side, of which none left on the other: nobody is that quiet by chance."""
MEMORY_MIN: Final = 48 << 20
DISK_MIN: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Ports:
    """One direction of the bridge: frames received on one port and sent on the other since the first look."""

    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Figures of this moment. uptime: CLOCK_MONOTONIC. heartbeat: the filter's file. forwarding: ports of the bridge
    that are in its state `forwarding`; cables: ports with a carrier. ways: both directions, () when the box was told to
    isolate. linked: the link says that it is connected. selftest: of this start, None before it ran. disk: bytes free,
    -1 when a file cannot be written and read again. memory: bytes available. signed: the clock has a signed time.
    """

    uptime: float
    heartbeat: Mapping[str, Any]
    forwarding: tuple[str, ...]
    cables: tuple[str, ...]
    ways: tuple[Ports, ...]
    linked: bool
    selftest: bool | None
    disk: int
    memory: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Before:
    """What the old system had: the version of its base, its ports with a cable."""

    base: int = 0
    ports: tuple[str, ...] = ()


def look(seen: Seen, before: Before) -> dict[Check, str]:
    """Checks that fail now, each with its evidence (English)."""
    beat = seen.heartbeat
    found: dict[Check, str] = {}
    at = _number(beat.get("at"))
    if at is None or not -1.0 <= seen.uptime - at <= HEARTBEAT_S:
        found[Check.DATAPATH] = f"the filter's heartbeat is of {at}, now is {seen.uptime:.0f}"
    elif beat.get("attached") is not True:
        found[Check.DATAPATH] = "the programs are not attached to both ports"
    base = _number(beat.get("base")) or 0
    if base <= 0 or base < before.base:
        found[Check.BASE] = f"base {base:.0f} in force, {before.base} before the update"
    gone = [port for port in before.ports if port not in seen.cables]
    stuck = [port for port in before.ports if port not in seen.forwarding]
    dead = [way for way in seen.ways if way.received >= FRAMES_MIN and way.sent == 0]
    if gone or stuck or dead:
        found[Check.FORWARD] = (
            f"without carrier: {gone}, not forwarding: {stuck}, "
            f"received and not sent: {[(way.received, way.sent) for way in dead]}"
        )
    if not seen.linked:
        found[Check.LINK] = "the link with the department is not up"
    if seen.selftest is not True:
        found[Check.SELFTEST] = "not run yet" if seen.selftest is None else "the test indicator was not refused"
    if seen.disk < DISK_MIN:
        found[Check.DISK] = "cannot be written" if seen.disk < 0 else f"{seen.disk >> 20} MB free on /data"
    if seen.memory < MEMORY_MIN:
        found[Check.MEMORY] = f"{seen.memory >> 20} MB available"
    if not seen.signed:
        found[Check.TIME] = "no signed time since the start"
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """check None: good. Otherwise what failed, with evidence."""

    check: Check | None
    evidence: str = ""


@dataclass(slots=True)
class Soak:
    """One soak, in one start of the box. began: CLOCK_BOOTTIME."""

    began: float
    _failing: dict[Check, float] = field(default_factory=dict)

    def judge(self, failing: Mapping[Check, str], now: float) -> Verdict | None:
        """None: not yet. Call it every few seconds with the checks that fail at that moment."""
        self._failing = {check: self._failing.get(check, now) for check in failing}
        over = now - self.began >= SOAK_MAX_S
        for check, patience in PATIENCE_S.items():
            since = self._failing.get(check)
            if since is not None and (over or now - since >= patience):
                return Verdict(check, f"{check.value}: {failing[check]} (for {now - since:.0f} s)")
        return Verdict(None) if not failing and now - self.began >= SOAK_S else None


def first(failing: Mapping[Check, str]) -> Check | None:
    """The check to blame; None when none fails."""
    return next((check for check in PATIENCE_S if check in failing), None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
