"""What the authority did, in the fleet's tables: boxes, certificates, and an alert for what a person must see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from vigie_department.console.models import Alert, Box, BoxStatus, Certificate, Claim, Cursor
from vigie_department.console.services import audit, fleet
from vigie_department.errors import StateError
from vigie_department.ingest.decode import OURS

log = logging.getLogger("vigie.ingest.registry")

CURSOR: Final = "authority"
_UNIQUE: Final = ("serial", "claim_id")


@dataclass(slots=True, frozen=True)
class Event:
    """One line of the authority's log."""

    id: int
    at: datetime
    kind: str
    serial: str
    box: str
    detail: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Event:
        """From the socket: our own process at the other end, so a wrong shape is an error and not an attack."""
        return cls(
            int(raw["id"]),
            datetime.fromtimestamp(int(raw["at"]), UTC),
            str(raw["kind"]),
            str(raw.get("serial") or ""),
            str(raw.get("box") or ""),
            dict(raw.get("detail") or {}),
        )


def pull(events: Callable[[int, int], Sequence[Mapping[str, Any]]], limit: int = 500) -> tuple[int, list[str]]:
    """Apply what is new; returns how many events, and the boxes that enrolled (they want their document).

    Each batch and its cursor are one transaction: an event is applied once.
    """
    cursor = Cursor.objects.filter(name=CURSOR).first()
    after = cursor.value if cursor else 0
    new = [Event.of(raw) for raw in events(after, limit)]
    enrolled: list[str] = []
    if not new:
        return 0, enrolled
    with transaction.atomic():
        for event in new:
            if event.id <= after:
                continue
            apply(event)
            if event.kind in ("enrolled", "confirmed"):
                enrolled.append(event.box)
        Cursor.objects.update_or_create(name=CURSOR, defaults={"value": new[-1].id, "updated": timezone.now()})
    return len(new), enrolled


def apply(event: Event) -> None:
    """One event. A kind that a newer authority has is audited and nothing else."""
    if not event.box:
        # an unknown serial knocked at the door: worth a line, and there is no box to change
        audit.record(audit.AUTHORITY, f"authority.{event.kind}"[:40], serial=event.serial, **_detail(event))
        return
    box = _box(event)
    handler = _HANDLERS.get(event.kind)
    if handler is not None:
        handler(box, event)
    audit.record(audit.AUTHORITY, f"authority.{event.kind}"[:40], box, serial=event.serial, **_detail(event))


def _detail(event: Event) -> dict[str, Any]:
    """For the audit, without names that `record` has itself."""
    return {name: value for name, value in event.detail.items() if name not in ("actor", "action", "what", "box")}


def _box(event: Event) -> Box:
    """The row, made if it is not there, with what the event tells of its identity."""
    box, _made = Box.objects.get_or_create(id=event.box, defaults={"state": Box.State.REGISTERED})
    changed = {}
    if event.serial and box.serial != event.serial:
        changed["serial"] = event.serial
    for name in ("claim_id", "model", "lot"):
        value = event.detail.get(name)
        if isinstance(value, str) and value and getattr(box, name) != value:
            changed[name] = value
    for name, value in changed.items():
        if name in _UNIQUE:
            # the authority has the last word on who carries a label: a board that got a new identity keeps its serial
            for other in Box.objects.filter(**{name: value}).exclude(pk=box.pk):
                setattr(other, name, None)
                other.save(update_fields=[name])
                audit.record(audit.AUTHORITY, "box.label-moved", other, label=value, to=box.pk)
        setattr(box, name, value)
    if changed:
        box.save(update_fields=list(changed))
    return box


def _registered(box: Box, event: Event) -> None:
    if box.registered is None:
        box.registered = event.at
    if box.state == Box.State.UNKNOWN:
        box.state = Box.State.REGISTERED
    box.save(update_fields=["registered", "state"])
    claim = Claim.objects.filter(claim_id=box.claim_id).select_related("commune").first()
    if claim is not None:
        try:
            fleet.bind(audit.Actor(claim.by), box, claim.commune)
        except StateError as error:
            # the commune got another box meanwhile: a person decides, and the log goes on
            audit.record(audit.AUTHORITY, "claim.refused", box, commune=claim.commune.insee, reason=str(error))
        claim.delete()


def _enrolled(box: Box, event: Event) -> None:
    if box.state not in (Box.State.ACTIVE, Box.State.REPLACED):
        box.state = Box.State.PENDING
    box.enrolled = box.enrolled or event.at
    box.save(update_fields=["state", "enrolled"])
    # a box that was wiped counts its sessions from 1 again
    BoxStatus.objects.filter(box=box).update(session=0, state_seq=0)
    _certificate(box, event, Certificate.State.PENDING)


def _renewed(box: Box, event: Event) -> None:
    _certificate(box, event, Certificate.State.PENDING)


def _confirmed(box: Box, event: Event) -> None:
    if box.state != Box.State.REPLACED:
        box.state = Box.State.ACTIVE
        box.save(update_fields=["state"])
    _certificate(box, event, Certificate.State.ACTIVE)
    number = str(event.detail.get("cert_serial", ""))
    older = Certificate.objects.filter(box=box, state__in=(Certificate.State.PENDING, Certificate.State.ACTIVE))
    older.exclude(number=number).update(state=Certificate.State.SUPERSEDED, ended=event.at)


def _certificate(box: Box, event: Event, state: Certificate.State) -> None:
    number = event.detail.get("cert_serial")
    if not isinstance(number, str) or not number:
        return
    Certificate.objects.update_or_create(
        number=number,
        defaults={
            "box": box,
            "state": state,
            "not_before": _moment(event.detail.get("not_before")),
            "not_after": _moment(event.detail.get("not_after")),
        },
        create_defaults={
            "box": box,
            "state": state,
            "not_before": _moment(event.detail.get("not_before")),
            "not_after": _moment(event.detail.get("not_after")),
            "issued": event.at,
        },
    )


def _moment(value: Any) -> datetime | None:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int) else None


_ALERTED: Final = {Box.State.CONFLICT: Alert.Severity.MEDIUM, Box.State.CLONE: Alert.Severity.CRITICAL}


def _alert(box: Box, event: Event, severity: Alert.Severity) -> None:
    """An alert of the department's own: `rule` is the event's kind."""
    Alert.objects.get_or_create(
        box=box,
        boot=OURS,
        alert_id=event.id,
        defaults={
            "seq": event.id,
            "received": timezone.now(),
            "sent": event.at,
            "clock": "ntp",
            "rule": event.kind,
            "reason": 0,
            "severity": severity,
            "category": 0,
            "direction": 0,
            "device_class": 0,
            "count": 1,
            "first": event.at,
            "last": event.at,
            "incident": True,
        },
    )


def _to(state: Box.State) -> Callable[[Box, Event], None]:
    """A handler that puts the box in a state, revoking what the event names."""

    def handler(box: Box, event: Event) -> None:
        # what people decided here (replaced, revoked) says more than the authority's word for it
        if box.state != Box.State.REPLACED and not (box.state == Box.State.REVOKED and state == Box.State.BLOCKED):
            box.state = state
            box.save(update_fields=["state"])
        numbers = event.detail.get("cert_serials")
        if isinstance(numbers, list):
            Certificate.objects.filter(number__in=[str(number) for number in numbers]).update(
                state=Certificate.State.REVOKED, ended=event.at, reason=str(event.detail.get("reason", ""))[:120]
            )
        if state in _ALERTED:
            _alert(box, event, _ALERTED[state])
        if state in (Box.State.REVOKED, Box.State.CLONE, Box.State.DECOMMISSIONED):
            BoxStatus.objects.filter(box=box).update(online=False)

    return handler


def _released(box: Box, _event: Event) -> None:
    """An operator let it enrol again: until it does, it is what it was before it ever enrolled."""
    if box.state in (Box.State.CONFLICT, Box.State.CLONE, Box.State.BLOCKED, Box.State.REVOKED):
        box.state = Box.State.REGISTERED
        box.save(update_fields=["state"])


_HANDLERS: Final[Mapping[str, Callable[[Box, Event], None]]] = {
    "registered": _registered,
    "enrolled": _enrolled,
    "renewed": _renewed,
    "confirmed": _confirmed,
    "conflict": _to(Box.State.CONFLICT),
    "clone": _to(Box.State.CLONE),
    "revoked": _to(Box.State.REVOKED),
    "blocked": _to(Box.State.BLOCKED),
    "decommissioned": _to(Box.State.DECOMMISSIONED),
    "released": _released,
    "unblocked": _released,
}
