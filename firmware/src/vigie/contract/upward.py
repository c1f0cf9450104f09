"""What a box says: one frozen class per kind, the frame around them is `envelope.Upward`.

`from_fields` names the bad field; `fields()` gives back the same JSON object. The same bounds are in `schemas/*.json`,
which say in `description` what each field is for: that is the table of docs/privacy.md. A test compares the two.

Never upward: URLs, unlisted names or addresses, MAC addresses, host names, content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.fields import Fields
from vigie.contract.firmware import FirmwareState
from vigie.contract.identity import PSEUDONYM
from vigie.contract.words import Code, DesiredStatus, FilterHealth, Inbound, Kind, Order, Result, Rule

HOUR_S: Final = 3600
UNIX_MAX: Final = 2**40
COUNT_MAX: Final = 2**53 - 1
VERSION_MAX: Final = 2**53 - 1
ENTRIES_MAX: Final = 10_000_000
OBSERVED_MAX: Final = 400
DETAIL_MAX: Final = 64
WORDS_MAX: Final = 500
DAYS_MAX: Final = 366
ITEMS_MAX: Final = 32
ITEM_MAX: Final = 8 * 1024
SEVERITIES: Final = range(4)
ISOLATION_LEVELS: Final = range(4)

INDICATOR: Final = re.compile(r"[0-9a-z_.:/-]{1,255}")
"""A listed indicator: an address or prefix, or a name in lower-case A-label form, as it stands in the base."""
SOFTWARE: Final = re.compile(r"[0-9A-Za-z.+~-]{1,40}")
COMMAND_ID: Final = re.compile(r"[0-9a-f]{32}")
COMMAND_ID_OR_NONE: Final = re.compile(r"([0-9a-f]{32})?")
DETAIL: Final = re.compile(r"([a-z_]{1,24}(\[[0-9]{1,4}\])?:)?[a-z][a-z0-9-]{0,31}")
_REASON: Final = re.compile(r"[0-9]{1,3}")
_ITEM: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class BaseInForce:
    """The base that the filter has: its version and how many entries it holds."""

    version: int
    entries: int


@dataclass(frozen=True, slots=True)
class DesiredInForce:
    """The desired state as the box has it. `version` 0 = none yet; `refused` = why the latest one was refused."""

    version: int
    status: DesiredStatus
    refused: Code | None


@dataclass(frozen=True, slots=True)
class State:
    """How the box is; retained. The latest (session, seq) wins, it is never confirmed nor resent."""

    KIND: ClassVar[Kind] = Kind.STATE

    session: int  # 1, 2, ... : one per connection to the broker, kept across reboots
    version: str  # of the firmware
    base: BaseInForce | None
    candidate: int | None  # version of the candidate base under observation
    desired: DesiredInForce
    isolation: int  # 0..3
    quarantined: int  # devices
    exceptions: int  # in force, local and ordered
    inbound: Inbound
    filter: FilterHealth
    uptime_s: int
    disk_free_mb: int
    mem_free_mb: int
    load: float  # 1 minute average
    roles_known: bool  # which port is the LAN
    losses: int  # outbox rows dropped since the box was made
    firmware: FirmwareState | None = None  # left out until the first order: an older department refuses the field

    @classmethod
    def from_fields(cls, f: Fields) -> State | Offline:
        """Reads and checks; `Offline` when `online` is false."""
        if not f.boolean("online"):
            return Offline(f.integer("session", 1))
        base = None
        if not f.null("base"):
            b = f.object("base")
            base = BaseInForce(b.integer("version", 1, VERSION_MAX), b.integer("entries", 0, ENTRIES_MAX))
            b.done()
        d = f.object("desired")
        desired = DesiredInForce(
            d.integer("version", 0, VERSION_MAX),
            d.word("status", DesiredStatus),
            None if d.null("refused") else d.word("refused", Code),
        )
        d.done()
        link = f.object("link")
        roles_known = link.boolean("roles_known")
        link.done()
        firmware = FirmwareState.from_fields(f.object("firmware")) if f.has("firmware") else None
        return cls(
            session=f.integer("session", 1),
            version=f.text("version", 40, SOFTWARE),
            base=base,
            candidate=None if f.null("candidate") else f.integer("candidate", 1, VERSION_MAX),
            desired=desired,
            isolation=f.one_of("isolation", ISOLATION_LEVELS),
            quarantined=f.integer("quarantined", 0, 100_000),
            exceptions=f.integer("exceptions", 0, 100_000),
            inbound=f.word("inbound", Inbound),
            filter=f.word("filter", FilterHealth),
            uptime_s=f.integer("uptime_s"),
            disk_free_mb=f.integer("disk_free_mb"),
            mem_free_mb=f.integer("mem_free_mb"),
            load=f.number("load", 0, 100_000),
            roles_known=roles_known,
            losses=f.integer("losses"),
            firmware=firmware,
        )

    def fields(self) -> dict[str, Any]:
        """The kind's own JSON fields."""
        firmware = {} if self.firmware is None else {"firmware": self.firmware.fields()}
        base = None if self.base is None else {"version": self.base.version, "entries": self.base.entries}
        refused = None if self.desired.refused is None else self.desired.refused.value
        return {
            "online": True,
            "session": self.session,
            "version": self.version,
            "base": base,
            "candidate": self.candidate,
            "desired": {
                "version": self.desired.version,
                "status": self.desired.status.value,
                "refused": refused,
            },
            "isolation": self.isolation,
            "quarantined": self.quarantined,
            "exceptions": self.exceptions,
            "inbound": self.inbound.value,
            "filter": self.filter.value,
            "uptime_s": self.uptime_s,
            "disk_free_mb": self.disk_free_mb,
            "mem_free_mb": self.mem_free_mb,
            "load": self.load,
            "link": {"roles_known": self.roles_known},
            "losses": self.losses,
            **firmware,
        }


@dataclass(frozen=True, slots=True)
class Offline:
    """The last will, and what a box publishes when it leaves on purpose. It ends `session` only, never a later one."""

    KIND: ClassVar[Kind] = Kind.STATE

    session: int

    def fields(self) -> dict[str, Any]:
        """The kind's own JSON fields."""
        return {"online": False, "session": self.session}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something was blocked, observed or seen. Later rows with the same `id` replace earlier ones (a growing count)."""

    KIND: ClassVar[Kind] = Kind.ALERT

    id: int
    rule: Rule
    reason: int  # codes.Reason, 0 when no packet was judged; unknown numbers of newer boxes are let through
    severity: int  # 0 information .. 3 critical
    category: Category
    direction: Direction
    indicator: str | None  # the listed indicator, never the name that was asked for
    device: str | None  # pseudonym
    device_class: DeviceClass
    count: int
    first: int  # Unix time; rounded down to the hour unless `incident`
    last: int
    incident: bool

    @classmethod
    def from_fields(cls, f: Fields) -> Self:
        """Reads and checks."""
        incident = f.boolean("incident")
        first, last = f.integer("first", 0, UNIX_MAX), f.integer("last", 0, UNIX_MAX)
        for name, value in (("first", first), ("last", last)):
            if not incident and value % HOUR_S:
                f.fail(name, "outside an incident, times are rounded down to the hour")
        if last < first:
            f.fail("last", "before `first`")
        return cls(
            id=f.integer("id", 1),
            rule=f.word("rule", Rule),
            reason=f.integer("reason", 0, 127),
            severity=f.one_of("severity", SEVERITIES),
            category=Category(f.one_of("category", tuple(Category))),
            direction=Direction(f.one_of("direction", tuple(Direction))),
            indicator=None if f.null("indicator") else f.text("indicator", 255, INDICATOR),
            device=None if f.null("device") else f.text("device", 18, PSEUDONYM),
            device_class=DeviceClass(f.one_of("device_class", tuple(DeviceClass))),
            count=f.integer("count", 1, COUNT_MAX),
            first=first,
            last=last,
            incident=incident,
        )

    def fields(self) -> dict[str, Any]:
        """The kind's own JSON fields."""
        return {
            "id": self.id,
            "rule": self.rule.value,
            "reason": self.reason,
            "severity": self.severity,
            "category": int(self.category),
            "direction": int(self.direction),
            "indicator": self.indicator,
            "device": self.device,
            "device_class": int(self.device_class),
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "incident": self.incident,
        }


@dataclass(frozen=True, slots=True)
class Metric:
    """Counters of one hour. `observed` names indicators of the candidate base only, and only with `candidate`."""

    KIND: ClassVar[Kind] = Kind.METRIC

    hour: int  # Unix time / 3600
    blocked: dict[str, int]  # codes.Reason as decimal text -> packets refused
    observed: dict[str, int]  # candidate indicator -> packets it would have refused
    candidate: int | None
    frames_in: int  # in thousands, rounded down
    frames_out: int
    drops: int  # events that could not be reported in the box (ring buffers full, rates)

    @classmethod
    def from_fields(cls, f: Fields) -> Self:
        """Reads and checks."""
        candidate = None if f.null("candidate") else f.integer("candidate", 1, VERSION_MAX)
        observed = f.counts("observed", INDICATOR, OBSERVED_MAX)
        if observed and candidate is None:
            f.fail("observed", "named without a candidate base")
        frames = f.object("frames")
        frames_in, frames_out = frames.integer("in"), frames.integer("out")
        frames.done()
        return cls(
            hour=f.integer("hour", 0, UNIX_MAX // HOUR_S),
            blocked=f.counts("blocked", _REASON, 128),
            observed=observed,
            candidate=candidate,
            frames_in=frames_in,
            frames_out=frames_out,
            drops=f.integer("drops"),
        )

    def fields(self) -> dict[str, Any]:
        """The kind's own JSON fields."""
        return {
            "hour": self.hour,
            "blocked": dict(self.blocked),
            "observed": dict(self.observed),
            "candidate": self.candidate,
            "frames": {"in": self.frames_in, "out": self.frames_out},
            "drops": self.drops,
        }


@dataclass(frozen=True, slots=True)
class Ack:
    """How an order ended. `id`: a command's, as text; a desired state's is its `version`, as a number.

    0 and "" stand for an order that could not be read or was not for this box: nothing in it is repeated.
    """

    KIND: ClassVar[Kind] = Kind.ACK

    order: Order  # DESIRED or COMMAND
    id: str | int
    result: Result
    code: Code | None
    detail: tuple[str, ...]  # codes with a place: `exceptions[3]:never-block`

    @classmethod
    def from_fields(cls, f: Fields) -> Self:
        """Reads and checks."""
        order = f.word("order", Order)
        ident: str | int
        if order is Order.DESIRED:
            ident = f.integer("version", 0, VERSION_MAX)
        elif order is Order.COMMAND:
            ident = f.text("id", 32, COMMAND_ID_OR_NONE)
        else:
            f.fail("order", "desired or command is expected")
        return cls(
            order=order,
            id=ident,
            result=f.word("result", Result),
            code=None if f.null("code") else f.word("code", Code),
            detail=f.texts("detail", DETAIL_MAX, 64, DETAIL),
        )

    def fields(self) -> dict[str, Any]:
        """The kind's own JSON fields."""
        return {
            "order": self.order.value,
            "version" if self.order is Order.DESIRED else "id": self.id,
            "result": self.result.value,
            "code": None if self.code is None else self.code.value,
            "detail": list(self.detail),
        }


@dataclass(frozen=True, slots=True)
class Consent:
    """When the person agreed on the page. `by` is always "mairie": the box knows no names."""

    at: int

    @classmethod
    def from_fields(cls, f: Fields) -> Self:
        """Reads and checks."""
        if f.text("by", 6) != "mairie":
            f.fail("by", "`mairie` is expected")
        out = cls(f.integer("at", 0, UNIX_MAX))
        f.done()
        return out

    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {"at": self.at, "by": "mairie"}


@dataclass(frozen=True, slots=True)
class Request:
    """The mairie asks for an exception, in words it chose to send."""

    KIND: ClassVar[Kind] = Kind.REQUEST

    indicator: str
    device: str | None
    days: int
    words: str
    consent: Consent

    @classmethod
    def from_fields(cls, f: Fields) -> Self:
        """Reads and checks."""
        return cls(
            indicator=f.text("indicator", 255, INDICATOR),
            device=None if f.null("device") else f.text("device", 18, PSEUDONYM),
            days=f.integer("days", 1, DAYS_MAX),
            words=f.text("words", WORDS_MAX),
            consent=Consent.from_fields(f.object("consent")),
        )

    def fields(self) -> dict[str, Any]:
        """The kind's own JSON fields."""
        return {
            "indicator": self.indicator,
            "device": self.device,
            "days": self.days,
            "words": self.words,
            "consent": self.consent.fields(),
        }


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Technical texts, redacted, that the mairie agreed to send in answer to one command."""

    KIND: ClassVar[Kind] = Kind.DIAGNOSTIC

    command: str
    consent: Consent
    items: dict[str, str]

    @classmethod
    def from_fields(cls, f: Fields) -> Self:
        """Reads and checks."""
        inner = f.object("items")
        names = inner.rest()
        if len(names) > ITEMS_MAX or any(_ITEM.fullmatch(n) is None for n in names):
            f.fail("items", f"at most {ITEMS_MAX} names matching {_ITEM.pattern} are expected")
        return cls(
            command=f.text("command", 32, COMMAND_ID),
            consent=Consent.from_fields(f.object("consent")),
            items={n: inner.text(n, ITEM_MAX) for n in names},
        )

    def fields(self) -> dict[str, Any]:
        """The kind's own JSON fields."""
        return {"command": self.command, "consent": self.consent.fields(), "items": dict(self.items)}


Body = State | Offline | Alert | Metric | Ack | Request | Diagnostic


def body_from_fields(kind: Kind, f: Fields) -> Body:
    """The body of a message of this kind."""
    match kind:
        case Kind.STATE:
            return State.from_fields(f)
        case Kind.ALERT:
            return Alert.from_fields(f)
        case Kind.METRIC:
            return Metric.from_fields(f)
        case Kind.ACK:
            return Ack.from_fields(f)
        case Kind.REQUEST:
            return Request.from_fields(f)
        case Kind.DIAGNOSTIC:
            return Diagnostic.from_fields(f)
