"""What the department ordered, as the box keeps it: acceptance, and what of it is in force at a given moment. Pure.

The link has verified the signature; the limits are checked here again, for whoever owns the link's process must not
be able to do more than whoever holds the online key. Of two clocks, the *trusted time* (Unix seconds) ends what the
document says ends, and the *seconds in service*, which nobody can set, measure what is limited: how long an order
cuts the commune off, and the day in which a local lift bars new ones.

*Cutting off* is isolation of level 2 or 3, or more than FREE_QUARANTINES devices in quarantine at once: else whoever
may not isolate any more would put every device in quarantine instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from vigie.contract.downward import Desired
from vigie.contract.errors import MessageError
from vigie.contract.limits import (
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

FREE_QUARANTINES: Final = 3
RESERVE_S: Final = 60.0  # charged ahead: a power cut gains nothing
LIFTS_MAX: Final = 512


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
class Orders:
    """The document in force, its refused parts, and what the box remembers about it.

    second: offline keys signed it too. isolation_end, quarantine_ends (by pseudonym): seconds in service by which
    they end at the latest. ended: the isolation used up its hours, and does not come back. macs: devices found.
    lifted: when isolation was lifted by the commune, lifted_version the document of then; lifted_macs: the same per
    device. reserved: until when the budget is charged while the commune is cut off, else 0.
    """

    desired: Desired | None = None
    refused: tuple[Part, ...] = ()
    second: bool = False
    isolation_end: float = 0.0
    quarantine_ends: Mapping[str, float] = field(default_factory=dict)
    ended: bool = False
    macs: Mapping[str, str] = field(default_factory=dict)
    lifted: float = 0.0
    lifted_version: int = 0
    lifted_macs: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    reserved: float = 0.0

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
    cuts: bool = False
    expired: bool = False


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
        ended=False,
        macs=macs,
    )


def _untouched(kept: Desired, desired: Desired, refused: tuple[Part, ...]) -> Desired:
    """With the ends that the document gives: cut to a clock that may be behind, they would be over once it is right."""
    out = {part.what for part in refused}
    return replace(
        kept,
        isolation=desired.isolation if kept.isolation is not None else None,
        quarantine=tuple(q for i, q in enumerate(desired.quarantine) if f"quarantine[{i}]" not in out),
    )


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
    if len(quarantine) > FREE_QUARANTINES and _exhausted(orders, now):
        parts += _too_many(desired, orders, quarantine)
        quarantine = dict(list(quarantine.items())[:FREE_QUARANTINES])
    cuts = level >= TEMPORARY_LEVEL or len(quarantine) > FREE_QUARANTINES
    if level >= TEMPORARY_LEVEL and not orders.second:
        # The kernel keeps to it even when nobody is left to count.
        end = min(end, now.service + _left(orders, now))
    return InForce(level, end, quarantine, tuple(parts), cuts)


def _left(orders: Orders, now: Time) -> float:
    return orders.budget.ended(now.service).left(now.service)


def _exhausted(orders: Orders, now: Time) -> bool:
    """Whether the document has had its hours. Once it has, it does not come back by the second as the day slides on."""
    return not orders.second and (orders.ended or _left(orders, now) <= 0)


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
    elif _exhausted(orders, now):
        code = Code.ISOLATION_BUDGET
    if code is None:
        return wanted.level, orders.isolation_end
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
        elif _lifted(orders, mac, len(found), now):
            code = Code.LIFTED_LOCALLY
        if code is not None:
            parts.append(Part(f"quarantine[{i}]", code))
        elif mac is not None:
            found[mac] = end
    return found


def _lifted(orders: Orders, mac: str, others: int, now: Time) -> bool:
    """Whether the commune's word keeps a device out of quarantine; `others` are in it already."""
    if mac in orders.lifted_macs and _barred(*orders.lifted_macs[mac], orders, now):
        return True
    return others >= FREE_QUARANTINES and _barred(orders.lifted, orders.lifted_version, orders, now)


def _barred(lifted: float, version: int, orders: Orders, now: Time) -> bool:
    """Whether a local lift still holds: against the document of then for good, against new ones for a day, unless
    offline keys signed them."""
    if not version:
        return False
    return orders.version <= version or (not orders.second and now.service < lifted + LIFT_BAR_S)


def _too_many(desired: Desired, orders: Orders, quarantine: Mapping[str, float]) -> list[Part]:
    kept = set(list(quarantine)[:FREE_QUARANTINES])
    return [
        Part(f"quarantine[{i}]", Code.ISOLATION_BUDGET)
        for i, one in enumerate(desired.quarantine)
        if (mac := orders.macs.get(one.device)) in quarantine and mac not in kept
    ]


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


# ---- the budget ------------------------------------------------------------------------------------------------


def charge(orders: Orders, force: InForce, now: Time) -> Orders:
    """Pays for being cut off, a minute ahead; gives back what was reserved and not used. The same object when nothing
    changed: then nothing has to be kept."""
    if any(part.code is Code.ISOLATION_BUDGET for part in force.parts) and not orders.ended:
        orders = replace(orders, ended=True)
    if force.cuts and not orders.second:
        if now.service < orders.reserved:
            return orders
        first = orders.reserved if orders.reserved else now.service
        left = orders.budget.charged(first, now.service).left(now.service)
        ahead = now.service + min(RESERVE_S, left)
        return replace(orders, budget=orders.budget.charged(first, ahead), reserved=ahead)
    if orders.reserved:
        return replace(orders, budget=orders.budget.ended(now.service), reserved=0.0)
    return orders


def status(orders: Orders, force: InForce, refused: int) -> DesiredStatus:
    """One word for `state`. refused: parts refused, for good or for now."""
    if orders.desired is None:
        return DesiredStatus.NONE
    if force.expired:
        return DesiredStatus.EXPIRED
    return DesiredStatus.PARTIAL if refused else DesiredStatus.IN_FORCE


Resolve = Callable[[str], str | None]


def resolved(orders: Orders, resolve: Resolve) -> Orders:
    """With the devices that can be found now; the same object when there is no news."""
    found = {p: mac for p in unresolved(orders) if (mac := resolve(p)) is not None}
    return replace(orders, macs={**orders.macs, **found}) if found else orders
