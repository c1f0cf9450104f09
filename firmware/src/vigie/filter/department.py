"""What the department ordered, as the box keeps it: acceptance, and what of it is in force at a given moment. Pure.

The link has verified the signature; the limits are checked here again, for whoever owns the link's process must not
be able to do more than whoever holds the online key. Of two clocks, the *trusted time* (Unix seconds) ends what the
document says ends, and the *seconds in service*, which nobody can set, measure what is limited: how long an order
cuts the commune off, and the day in which a local lift bars new ones.

Isolation of level 2 or 3, and the quarantine of each device, have a *meter* each: so many hours in any day by the
online key alone. And only so many devices at once: else whoever may not isolate any more would put all in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from vigie.contract.downward import Desired
from vigie.contract.errors import MessageError
from vigie.contract.limits import (
    ISOLATION_BUDGET_S,
    LIFT_BAR_S,
    TEMPORARY_LEVEL,
    TEMPORARY_MAX_S,
    OrderRefused,
    Part,
    check_desired,
)
from vigie.contract.words import Code, DesiredStatus
from vigie.errors import UsageError
from vigie.filter.department_budget import Budget

QUARANTINES_ONLINE_MAX: Final = 5
RESERVE_S: Final = 60.0  # charged ahead: a power cut gains nothing
LIFTS_MAX: Final = 512
COMMUNE: Final = ""  # the meter of isolation; those of devices go by MAC


class OrderError(UsageError):
    """A whole document is refused; what was in force stays. The message begins with the contract's code."""

    def __init__(self, code: Code, reason: str) -> None:
        self.code = code
        super().__init__(f"[{code.value}] {reason}")


@dataclass(frozen=True, slots=True)
class Time:
    """An instant: trusted Unix seconds, whether they may say "not yet", and seconds in service."""

    unix: float
    trusted: bool
    service: float


@dataclass(frozen=True, slots=True)
class Meter:
    """Hours used. reserved: paid until then, in seconds in service, while it runs, else 0. ended: the document in force
    has had its hours; it does not come back by the second as the day slides on."""

    budget: Budget = field(default_factory=Budget)
    reserved: float = 0.0
    ended: bool = False

    def left(self, service: float) -> float:
        """Seconds left, those of the minute already paid included."""
        return self.budget.ended(service).left(service)

    def run(self, service: float) -> Meter:
        """Pays for the next minute when the last one is over."""
        if service < self.reserved:
            return self
        first = self.reserved or service
        ahead = service + min(RESERVE_S, self.budget.charged(first, service).left(service))
        return replace(self, budget=self.budget.charged(first, ahead), reserved=ahead)

    def stop(self, service: float, *, ended: bool) -> Meter:
        """Gives back what was paid and not used."""
        if not self.reserved and ended == self.ended:
            return self
        return Meter(self.budget.ended(service) if self.reserved else self.budget, 0.0, ended)


@dataclass(frozen=True, slots=True)
class Orders:
    """The document in force, its refused parts, and what the box remembers about it.

    second: offline keys signed it too. isolation_end, quarantine_ends (by pseudonym): seconds in service by which
    they end at the latest. macs: devices found. lifted: when isolation was lifted by the commune, lifted_version the
    document of then; lifted_macs: the same per device. meters: hours used, of COMMUNE and of devices by MAC.
    """

    desired: Desired | None = None
    refused: tuple[Part, ...] = ()
    second: bool = False
    isolation_end: float = 0.0
    quarantine_ends: Mapping[str, float] = field(default_factory=dict)
    macs: Mapping[str, str] = field(default_factory=dict)
    lifted: float = 0.0
    lifted_version: int = 0
    lifted_macs: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    meters: Mapping[str, Meter] = field(default_factory=dict)

    @property
    def reserved(self) -> float:
        """The latest instant (seconds in service) that was paid for in advance."""
        return max((meter.reserved for meter in self.meters.values()), default=0.0)

    def left(self, who: str, service: float) -> float:
        """Seconds that an online order may still cut off the commune, or a device."""
        meter = self.meters.get(who)
        return meter.left(service) if meter is not None else Budget().left(service)

    @property
    def latest(self) -> float:
        """The latest instant (seconds in service) on record that is not an end yet to come."""
        spans = (span for meter in self.meters.values() for span in meter.budget.spans)
        lifts = (at for at, _version in self.lifted_macs.values())
        return max((self.reserved, self.lifted, *lifts, *(last for _first, last in spans)))

    @property
    def version(self) -> int:
        """Version in force, 0 for none."""
        return self.desired.version if self.desired is not None else 0


@dataclass(frozen=True, slots=True)
class InForce:
    """The temporary parts at one instant. Ends are seconds in service. parts: what is held back now, and why."""

    isolation: int = 0
    isolation_end: float = 0.0
    quarantine: Mapping[str, float] = field(default_factory=dict)  # MAC -> end
    parts: tuple[Part, ...] = ()
    spent: frozenset[str] = frozenset()  # meters that are empty
    expired: bool = False

    @property
    def cut(self) -> frozenset[str]:
        """Meters that run."""
        return frozenset(self.quarantine) | ({COMMUNE} if self.isolation >= TEMPORARY_LEVEL else set())


def read(data: bytes) -> Desired:
    """The desired state of a payload. OrderError."""
    try:
        return Desired.from_bytes(data)
    except MessageError as e:
        raise OrderError(Code.MALFORMED, str(e)) from e


def accept(orders: Orders, desired: Desired, box: str, now: Time, *, second: bool) -> Orders:
    """The orders with a new document in place of the old one. OrderError: nothing changes.

    box: this box's id, "" while it has none (then documents name a box that nobody can check here). The version in
    force, offered again, changes nothing: times given once are not given twice.
    """
    if desired.version == orders.version and orders.desired is not None:
        return orders
    try:
        checked = check_desired(
            desired,
            box=box or desired.box,
            now=now.unix,
            trusted=now.trusted,
            second_signed=second,
            newer_than=orders.version,
        )
    except OrderRefused as e:
        raise OrderError(e.code, str(e)) from e
    kept = _untouched(checked.desired, desired, checked.refused)
    macs = {q: mac for q, mac in orders.macs.items() if q in _pseudonyms(kept)}
    return replace(
        orders,
        desired=kept,
        refused=checked.refused,
        second=second,
        isolation_end=_end(kept.isolation.until if kept.isolation else 0, kept.issued, now),
        quarantine_ends={q.device: _end(q.until, kept.issued, now) for q in kept.quarantine},
        macs=macs,
        meters=_again(orders.meters, now.service),
    )


def _untouched(kept: Desired, desired: Desired, refused: tuple[Part, ...]) -> Desired:
    """With the ends that the document gives: cut to a clock that may be behind, they would be over once it is right."""
    out = {part.what for part in refused}
    return replace(
        kept,
        isolation=desired.isolation if kept.isolation is not None else None,
        quarantine=tuple(q for i, q in enumerate(desired.quarantine) if f"quarantine[{i}]" not in out),
    )


def _again(meters: Mapping[str, Meter], service: float) -> dict[str, Meter]:
    """Meters for another document; those on which nothing stands any more are forgotten."""
    kept = {who: replace(meter, ended=False) for who, meter in meters.items()}
    return {who: meter for who, meter in kept.items() if meter.left(service) < ISOLATION_BUDGET_S}


def _end(until: int, issued: int, now: Time) -> float:
    """Seconds in service at which something ends at the latest: a clock that is behind `issued` does not stretch it."""
    return now.service + min(max(until - max(now.unix, issued), 0.0), TEMPORARY_MAX_S)


def _pseudonyms(desired: Desired) -> set[str]:
    found = {e.device for e in desired.exceptions} | {q.device for q in desired.quarantine}
    return {p for p in found if p is not None}


def unresolved(orders: Orders) -> set[str]:
    """Pseudonyms whose device has not been found yet."""
    return set() if orders.desired is None else _pseudonyms(orders.desired) - orders.macs.keys()


def in_force(orders: Orders, now: Time, protected: Mapping[str, str]) -> InForce:
    """What cuts, at this instant. protected: MACs that must not be put in quarantine."""
    desired = orders.desired
    if desired is None:
        return InForce()
    if now.unix >= desired.expires:
        return InForce(expired=True)
    parts: list[Part] = []
    level, end = _isolation(orders, desired, now, parts)
    quarantine = _quarantine(orders, desired, now, protected, parts)
    spent = frozenset(
        (orders.macs.get(desired.quarantine[_index(p)].device, "") if p.what != "isolation" else COMMUNE)
        for p in parts
        if p.code is Code.ISOLATION_BUDGET
    )
    return InForce(level, end, quarantine, tuple(parts), spent)


def _index(part: Part) -> int:
    return int(part.what.partition("[")[2].rstrip("]"))


def _spent(orders: Orders, who: str, now: Time) -> bool:
    """Whether the hours of the commune, or of a device, are used up."""
    meter = orders.meters.get(who)
    return not orders.second and meter is not None and (meter.ended or meter.left(now.service) <= 0)


def _bounded(orders: Orders, who: str, end: float, now: Time) -> float:
    """An end that the kernel keeps to even when nobody is left to count."""
    return end if orders.second else min(end, now.service + orders.left(who, now.service))


def _isolation(orders: Orders, desired: Desired, now: Time, parts: list[Part]) -> tuple[int, float]:
    wanted = desired.isolation
    if wanted is None or not wanted.level:
        return 0, 0.0
    if wanted.level < TEMPORARY_LEVEL:
        return (wanted.level, now.service + max(0.0, wanted.until - now.unix)) if now.unix < wanted.until else (0, 0.0)
    code: Code | None = None
    if now.service >= orders.isolation_end or now.unix >= wanted.until:
        code = Code.PART_EXPIRED
    elif _barred(orders.lifted, orders.lifted_version, orders, now):
        code = Code.LIFTED_LOCALLY
    elif _spent(orders, COMMUNE, now):
        code = Code.ISOLATION_BUDGET
    if code is None:
        return wanted.level, _bounded(orders, COMMUNE, orders.isolation_end, now)
    if code is not Code.PART_EXPIRED:
        parts.append(Part("isolation", code))
    return 0, 0.0


def _quarantine(
    orders: Orders, desired: Desired, now: Time, protected: Mapping[str, str], parts: list[Part]
) -> dict[str, float]:
    found: dict[str, float] = {}
    for i, one in enumerate(desired.quarantine):
        end = orders.quarantine_ends.get(one.device, 0.0)
        if now.service >= end or now.unix >= one.until:
            continue
        mac = orders.macs.get(one.device)
        code: Code | None = None
        if mac is None:
            code = Code.UNKNOWN_DEVICE
        elif mac in protected:
            code = Code.PROTECTED_DEVICE
        elif mac in orders.lifted_macs and _barred(*orders.lifted_macs[mac], orders, now):
            code = Code.LIFTED_LOCALLY
        elif _spent(orders, mac, now):
            code = Code.ISOLATION_BUDGET
        elif len(found) >= QUARANTINES_ONLINE_MAX and mac not in found and not orders.second:
            code = Code.MASS_UNSIGNED
        if code is not None:
            parts.append(Part(f"quarantine[{i}]", code))
        elif mac is not None:
            found[mac] = max(found.get(mac, 0.0), _bounded(orders, mac, end, now))
    return found


def _barred(lifted: float, version: int, orders: Orders, now: Time) -> bool:
    """Whether a local lift still holds: against the document of then for good, against new ones for a day, unless
    offline keys signed them."""
    if not version:
        return False
    return orders.version <= version or (not orders.second and now.service < lifted + LIFT_BAR_S)


# ---- what the commune lifts ------------------------------------------------------------------------------------


def lift(orders: Orders, now: Time) -> Orders:
    """The commune ends isolation, whoever ordered it and however it was signed."""
    return replace(orders, lifted=now.service, lifted_version=orders.version)


def lift_device(orders: Orders, mac: str, now: Time) -> Orders:
    """The commune lets one device back."""
    lifts = {m: v for m, v in orders.lifted_macs.items() if v[1] >= orders.version or now.service < v[0] + LIFT_BAR_S}
    lifts.pop(mac, None)
    while len(lifts) >= LIFTS_MAX:
        lifts.pop(next(iter(lifts)))
    return replace(orders, lifted_macs={**lifts, mac: (now.service, orders.version)})


# ---- the meters ------------------------------------------------------------------------------------------------


def charge(orders: Orders, force: InForce, now: Time) -> Orders:
    """Pays for what is cut off, a minute ahead; gives back what was paid and not used. The same object when nothing
    changed: then nothing has to be kept."""
    running = frozenset() if orders.second else force.cut
    meters = dict(orders.meters)
    for who in running:
        meters[who] = meters.get(who, Meter()).run(now.service)
    for who in meters.keys() - running:
        meters[who] = meters[who].stop(now.service, ended=meters[who].ended or who in force.spent)
    return replace(orders, meters=meters) if meters != orders.meters else orders


def status(orders: Orders, force: InForce, refused: int) -> DesiredStatus:
    """One word for `state`. refused: parts refused, for good or for now."""
    if orders.desired is None:
        return DesiredStatus.NONE
    if force.expired:
        return DesiredStatus.EXPIRED
    return DesiredStatus.PARTIAL if refused else DesiredStatus.IN_FORCE


Resolve = Callable[[set[str]], Mapping[str, str]]


def resolved(orders: Orders, resolve: Resolve) -> Orders:
    """With the devices that can be found now; the same object when there is no news."""
    wanted = unresolved(orders)
    found = resolve(wanted) if wanted else {}
    return replace(orders, macs={**orders.macs, **found}) if found else orders
