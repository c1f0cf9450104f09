"""What a box should be: one pure function from what the department has decided to the document that is signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vigie.contract.downward import (
    ESSENTIAL_MAX,
    EXCEPTIONS_MAX,
    NEVER_BLOCK_MAX,
    QUARANTINE_MAX,
    Desired,
    Essential,
    Exemption,
    Isolation,
    Quarantine,
    Settings,
)
from vigie.contract.firmware import FirmwareOrder
from vigie_department.errors import StateError
from vigie_department.texts import _


@dataclass(slots=True, frozen=True)
class Wanted:
    """Everything that was decided for one box, expired parts included. Order does not matter."""

    box: str
    exceptions: Sequence[Exemption] = ()
    never_block: Sequence[str] = ()
    essential: Sequence[Essential] = ()
    isolations: Sequence[Isolation] = ()
    """those not lifted; the highest level that still runs counts"""
    quarantines: Sequence[Quarantine] = ()
    settings: Settings = field(default_factory=Settings)
    mass: Sequence[str] | None = None
    firmware: FirmwareOrder | None = None


def state(wanted: Wanted, *, version: int, issued: int, expires: int) -> Desired:
    """The document: what still runs at `issued`, in an order that depends on the content alone.

    StateError when a list is longer than a box takes, which says which one.
    """
    exceptions = sorted(
        {one for one in wanted.exceptions if one.until > issued},
        key=lambda one: (one.target, one.action, one.device or "", one.proto or "", one.port or 0, one.until, one.note),
    )
    essential: dict[str, Essential] = {}
    for service in wanted.essential:
        known = essential.get(service.name)
        if known is None or service.rank < known.rank:
            essential[service.name] = service
    running = [one for one in wanted.isolations if one.until > issued]
    isolation = max(running, key=lambda one: (one.level, one.until)) if running else None
    quarantine: dict[str, Quarantine] = {}
    for one in wanted.quarantines:
        before = quarantine.get(one.device)
        if one.until > issued and (before is None or before.until < one.until):
            quarantine[one.device] = one
    desired = Desired(
        box=wanted.box,
        version=version,
        issued=issued,
        expires=expires,
        exceptions=tuple(exceptions),
        never_block=tuple(sorted(set(wanted.never_block))),
        essential=tuple(sorted(essential.values(), key=lambda service: (service.rank, service.name))),
        isolation=isolation,
        quarantine=tuple(quarantine[device] for device in sorted(quarantine)),
        settings=wanted.settings,
        mass=None if wanted.mass is None else tuple(sorted(set(wanted.mass))),
        firmware=wanted.firmware,
    )
    _fits(desired)
    return desired


def _fits(desired: Desired) -> None:
    for items, most, what in (
        (desired.exceptions, EXCEPTIONS_MAX, _("exceptions")),
        (desired.never_block, NEVER_BLOCK_MAX, _("noms jamais bloqués")),
        (desired.essential, ESSENTIAL_MAX, _("services essentiels")),
        (desired.quarantine, QUARANTINE_MAX, _("appareils en quarantaine")),
    ):
        if len(items) > most:
            raise StateError(
                _("{box} : {n} {what}, un boîtier en accepte {most} ; retirez-en d'abord").format(
                    box=desired.box, n=len(items), what=what, most=most
                )
            )


def digest(desired: Desired) -> str:
    """SHA-256 of the content without version and dates: equal when a box would do the same."""
    content = replace(desired, version=1, issued=0, expires=1).to_dict()
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
