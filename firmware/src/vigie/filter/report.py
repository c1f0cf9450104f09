"""From what was blocked, observed or seen to rows for the department: few, and holding only what may leave the commune.

One alert per (device, listed indicator, rule) and day: its first row goes at once, then at most one an hour with
the growing count. New alerts are limited per device and for the box; beyond that they count together, without an
indicator. Noise of the internet, and the commune's own decisions, are only counted by the hour. What was merely
observed is never an alert: it is permitted traffic, and counts per indicator only while a candidate base is tried.

What is said is the listed indicator and the device's pseudonym; for sensitive categories neither. Times are whole
hours, except for machines that seem to be in somebody's hands, and for faults of the network itself, where minutes
matter.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from vigie.contract.codes import Category, DeviceClass, Direction, Reason, Verdict
from vigie.contract.upward import COUNT_MAX, HOUR_S, INDICATOR, OBSERVED_MAX, UNIX_MAX, Alert, Body, Metric
from vigie.contract.words import Rule
from vigie.filter.journal import Attempt, severity
from vigie.filter.zones import Alert as ZoneAlert
from vigie.filter.zones import AlertKind

UPDATE_S: Final = 3600.0
PERIOD_S: Final = 86_400.0
NEW_PER_DEVICE: Final = 20  # per hour
NEW_PER_BOX: Final = 200
SEEN_MAX: Final = 20_000
ROWS_MAX: Final = 2_000
METRIC_S: Final = 600.0  # a clock that jumps from hour to hour makes no more rows than this

SENSITIVE: Final = frozenset({Category.STALKERWARE})
"""Of these only that there was one: who carries a spy on the telephone is nobody's business outside the commune."""
INCIDENT: Final = frozenset({Category.MALWARE, Category.C2, Category.BOTNET, Category.RANSOMWARE})
"""A machine in somebody's hands. A click on a bad link is a person's, and keeps to whole hours."""
NOISE: Final = frozenset({Category.DOH, Category.TEST})
_RULES: Final[Mapping[int, Rule]] = {
    Reason.TOXIC_ADDRESS: Rule.TOXIC_ADDRESS,
    Reason.TOXIC_DNS: Rule.TOXIC_NAME,
    Reason.TOXIC_SNI: Rule.TOXIC_NAME,
    Reason.DEVICE_CLASS: Rule.DEVICE_CLASS,
    Reason.DYNAMIC: Rule.DYNAMIC,
    Reason.EXCEPTION_BLOCK: Rule.DEPARTMENT_BLOCK,
}
# The kernel counts blocked and observed packets of a reason together; of these only events tell which it was.
BY_EVENT: Final = frozenset({Reason.TOXIC_ADDRESS, Reason.TOXIC_DNS, Reason.TOXIC_SNI, Reason.DEVICE_CLASS})
_ZONE_RULES: Final[Mapping[AlertKind, Rule]] = {kind: Rule(kind.value) for kind in AlertKind}


@dataclass(frozen=True, slots=True)
class Sight:
    """What the rest of the filter knows. listed(attempt): the indicator of the base; pseudonym(mac); device_class(mac);
    ordered(attempt): whether a block is the department's order, not the commune's; number(): a fresh alert id."""

    listed: Callable[[Attempt], str | None]
    pseudonym: Callable[[str], str | None]
    device_class: Callable[[str], DeviceClass]
    ordered: Callable[[Attempt], bool]
    number: Callable[[], int] = lambda: secrets.randbits(52) + 1


@dataclass(frozen=True, slots=True)
class Made:
    """A body, and the Unix time that its frame may tell."""

    body: Body
    ts: int


@dataclass(slots=True)
class _Open:
    """An alert that goes on counting. first, last: Unix time; opened, sent: monotonic seconds; told: count sent."""

    id: int
    rule: Rule
    reason: int
    severity: int
    category: Category
    direction: Direction
    indicator: str | None
    device: str | None
    device_class: DeviceClass
    incident: bool
    first: float
    last: float
    opened: float
    count: int = 0
    told: int = 0
    sent: float = 0.0

    def body(self) -> Alert:
        """The row as of now."""
        first, last = (_time(t, exact=self.incident) for t in (self.first, max(self.first, self.last)))
        return Alert(
            id=self.id,
            rule=self.rule,
            reason=self.reason,
            severity=self.severity,
            category=self.category,
            direction=self.direction,
            indicator=self.indicator,
            device=self.device,
            device_class=self.device_class,
            count=min(max(self.count, 1), COUNT_MAX),
            first=first,
            last=last,
            incident=self.incident,
        )


_Key = tuple[str | None, str | None, Rule, Category]


def _time(unix_s: float, *, exact: bool) -> int:
    whole = min(max(int(unix_s), 0), UNIX_MAX)
    return whole if exact else whole // HOUR_S * HOUR_S


def weight(attempt: Attempt) -> int:
    """Severity of an attempt for the department, 0..3. Below 2 it is only counted."""
    if attempt.category in NOISE:
        return 1
    if attempt.reason == Reason.EXCEPTION_BLOCK:
        return 2
    return severity(attempt.reason, attempt.category, attempt.direction)


@dataclass(slots=True)
class _Hour:
    """What one metric row says."""

    number: int = -1
    blocked: Counter[int] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)
    began: float = 0.0


class Reporter:
    """Aggregates. Times: `mono` never jumps, `wall` is the best guess at Unix time. No I/O."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self.candidate: int | None = None
        self.skew = 0.0  # trusted time minus the clock that attempts are dated by
        self._seen: dict[tuple[str, str, int, int], _Open | None] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._open: dict[_Key, _Open] = {}
        self._new: Counter[str | None] = Counter()
        self._new_since = 0.0
        self._hour = _Hour()
        self._rows: list[Made] = []
        self.lost = 0

    # ---- what happens ------------------------------------------------------------------------------------------

    def attempt(self, a: Attempt, mono: float) -> None:
        """A blocked or observed frame, as the data path tells it."""
        if a.verdict == Verdict.OBSERVE:
            self._observe(a)
            return
        if a.reason in BY_EVENT:
            self._hour.blocked[a.reason] += a.packets
        key = (a.device, a.destination, a.reason, a.category)
        found = self._seen.get(key)
        if found is None and key not in self._seen:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            found = self._seen[key] = self._begin(a, mono)
        if found is not None:
            self._count(found, a.packets, a.when + self.skew, mono)

    def zone_alert(self, alert: ZoneAlert, wall: float, mono: float) -> None:
        """A fault of the network: loop, rogue router, gateway on the wrong side. Notices are not reported."""
        if alert.severity < 2:
            return
        device = self._sight.pseudonym(alert.mac.hex(":")) if alert.mac else None
        rule = _ZONE_RULES[alert.kind]
        key: _Key = (device, None, rule, Category.NONE)
        if key not in self._open:
            key = self._within_limits(key)  # whoever forges routers may forge their addresses too
        found = self._open.get(key)
        if found is None:
            device = key[0]
            cls = self._sight.device_class(alert.mac.hex(":")) if device else DeviceClass.NONE
            found = self._open[key] = _Open(
                *(self._sight.number(), rule, 0, alert.severity, Category.NONE, Direction.BOTH, None, device, cls),
                *(True, wall, wall, mono),
            )
        self._count(found, 1, wall, mono)

    def notice(self, rule: Rule, level: int, count: int, wall: float) -> None:
        """Something the box says of itself; once, with no device and no indicator."""
        said = _Open(
            *(self._sight.number(), rule, 0, level, Category.NONE, Direction.BOTH, None, None, DeviceClass.NONE),
            *(False, wall, wall, 0.0),
        )
        said.count = count
        self._say(said.body(), wall)

    # ---- time --------------------------------------------------------------------------------------------------

    def tick(self, mono: float) -> None:
        """Hourly rows of alerts that grew; alerts older than a day end."""
        for key, alert in list(self._open.items()):
            over = mono - alert.opened >= PERIOD_S
            if alert.count > alert.told and (over or mono - alert.sent >= UPDATE_S):
                self._tell(alert, mono)
            if over:
                del self._open[key]
                self._seen.clear()
        if mono - self._new_since >= UPDATE_S:
            self._new.clear()
            self._new_since = mono

    def look_again(self) -> None:
        """What was only counted may be an alert now, and the other way round; open alerts go on."""
        self._seen.clear()

    def forget(self, mono: float) -> None:
        """Another base, or other pseudonyms: everything is looked up again, and what was counted is said."""
        for alert in self._open.values():
            if alert.count > alert.told:
                self._tell(alert, mono)
        self._open.clear()
        self._seen.clear()
        self._named.clear()

    def hour_is_over(self, wall: float, mono: float) -> bool:
        """Whether a metric row is due. The first call begins the first hour."""
        number = max(int(wall), 0) // HOUR_S
        if self._hour.number < 0:
            self._hour = _Hour(number, began=mono)
        return number != self._hour.number and mono - self._hour.began >= METRIC_S

    def metric(
        self, counted: Mapping[int, int], frames_in: int, frames_out: int, drops: int, wall: float, mono: float
    ) -> None:
        """The row of the hour that ends. counted: packets refused per reason by the kernel since the last one."""
        hour, number = self._hour, max(int(wall), 0) // HOUR_S
        self._hour = _Hour(number, began=mono)
        blocked = {r: n for r, n in counted.items() if 32 <= r < 64 and r not in BY_EVENT and n > 0}
        blocked |= {r: n for r, n in hour.blocked.items() if n > 0}
        body = Metric(
            hour=max(hour.number, 0),
            blocked={str(r): min(n, COUNT_MAX) for r, n in sorted(blocked.items())},
            observed=dict(hour.observed.most_common(OBSERVED_MAX)) if self.candidate is not None else {},
            candidate=self.candidate,
            frames_in=max(frames_in, 0) // 1000,
            frames_out=max(frames_out, 0) // 1000,
            drops=max(drops, 0),
        )
        self._say(body, hour.number * HOUR_S)

    def take(self) -> list[Made]:
        """Rows since the last call."""
        rows, self._rows = self._rows, []
        return rows

    # ---- inside ------------------------------------------------------------------------------------------------

    def _observe(self, a: Attempt) -> None:
        if self.candidate is None or a.category in SENSITIVE or a.category in NOISE:
            return
        key = (a.destination, a.address)
        name = self._named.get(key)
        if name is None:
            if len(self._named) >= SEEN_MAX:
                self._named.clear()
            name = self._named[key] = _sayable(self._sight.listed(a)) or ""
        if name and (name in self._hour.observed or len(self._hour.observed) < SEEN_MAX):
            self._hour.observed[name] += a.packets

    def _begin(self, a: Attempt, mono: float) -> _Open | None:
        """The alert that an attempt belongs to; None when it is only counted."""
        level, rule = weight(a), _RULES.get(a.reason)
        if level < 2 or rule is None or (rule is Rule.DEPARTMENT_BLOCK and not self._sight.ordered(a)):
            return None
        category, sensitive = Category(a.category), a.category in SENSITIVE
        if sensitive:
            category = Category.NONE
        device = None if sensitive or not a.device else self._sight.pseudonym(a.device)
        indicator = None if sensitive else _sayable(self._sight.listed(a))
        key: _Key = (device, indicator, rule, category)
        if key not in self._open:
            key = self._within_limits(key)
        found = self._open.get(key)
        if found is None:
            device, indicator, rule, category = key
            cls = self._sight.device_class(a.device) if device is not None else DeviceClass.NONE
            incident = not sensitive and category in INCIDENT and level == 3
            found = self._open[key] = _Open(
                *(self._sight.number(), rule, a.reason, level, category, Direction(a.direction), indicator, device),
                *(cls, incident, a.when + self.skew, a.when + self.skew, mono),
            )
        return found

    def _within_limits(self, key: _Key) -> _Key:
        """The key itself, or a wider one when its device, or the box, has begun too many alerts this hour."""
        device, _indicator, rule, _category = key
        if sum(self._new.values()) >= NEW_PER_BOX:
            return None, None, rule, Category.NONE
        if self._new[device] >= NEW_PER_DEVICE:
            return device, None, rule, Category.NONE
        self._new[device] += 1
        return key

    def _count(self, alert: _Open, packets: int, when: float, mono: float) -> None:
        alert.count += packets
        alert.last = max(alert.last, when)
        if not alert.told:
            self._tell(alert, mono)

    def _tell(self, alert: _Open, mono: float) -> None:
        alert.told, alert.sent = alert.count, mono
        self._say(alert.body(), _time(alert.last, exact=alert.incident))

    def _say(self, body: Body, ts: float) -> None:
        if len(self._rows) < ROWS_MAX:
            self._rows.append(Made(body, _time(ts, exact=True)))
        else:
            self.lost += 1


def _sayable(indicator: str | None) -> str | None:
    """The indicator when the contract has a form for it."""
    return indicator if indicator is not None and INDICATOR.fullmatch(indicator) else None
