"""Isolating more boxes than one operator may: the documents are written to a file, signed by two keyholders with their
offline keys (`keys sign-orders`), and sent with the steering signature added."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from django.db import transaction
from django.utils import timezone

from vigie.contract import dsse, limits
from vigie.contract.downward import Desired
from vigie.contract.downward import Isolation as ContractIsolation
from vigie.contract.errors import ContractError
from vigie_department.console.models import Box, Isolation
from vigie_department.console.models.orders import command_id
from vigie_department.console.services import audit, desired, document, fleet
from vigie_department.console.services.audit import Actor
from vigie_department.errors import RefusedError, StateError, UsageError
from vigie_department.texts import _

FILE_MAX: Final = 1000 * dsse.ENVELOPE_MAX


def prepare(actor: Actor, boxes: Sequence[Box], level: int, how_long: timedelta, reason: str) -> list[bytes]:
    """One unsigned envelope per box. Nothing is ordered yet: that happens when they come back signed."""
    if level < limits.TEMPORARY_LEVEL:
        raise UsageError(_("les niveaux 0 et 1 n'ont pas besoin d'un ordre groupé"))
    if how_long > timedelta(seconds=limits.TEMPORARY_MAX_S):
        raise UsageError(_("un isolement dure 4 h au plus"))
    serving = [box for box in boxes if box.serving]
    if len(serving) != len(boxes):
        raise StateError(_("certains de ces boîtiers ne sont pas en service"))
    now = timezone.now()
    mass = [box.pk for box in boxes]
    found = []
    # rolled back: the document is made as if the order stood, and the order stands when it is signed
    with transaction.atomic():
        for box in boxes:
            Isolation.objects.create(
                box=box, level=level, until=now + how_long, reason=reason, created=now, created_by=actor.name
            )
        for box in boxes:
            payload = desired.compose(box, now, mass).to_bytes()
            found.append(dsse.Envelope(payload, dsse.DESIRED_TYPE, ()).to_bytes())
        transaction.set_rollback(True)
    audit.record(actor, "mass.prepare", level=level, boxes=mass, reason=reason)
    return found


def write(path: Path, envelopes: Sequence[bytes]) -> None:
    """One envelope per line. UsageError when the file is there."""
    try:
        with path.open("xb") as file:
            file.writelines(envelope + b"\n" for envelope in envelopes)
    except OSError as error:
        raise UsageError(_("{path} ne s'écrit pas : {error}").format(path=path, error=error.strerror)) from error


def read(path: Path) -> list[bytes]:
    """The lines. UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as error:
        raise UsageError(_("{path} ne se lit pas : {error}").format(path=path, error=error.strerror)) from error
    lines = [line for line in data.split(b"\n") if line.strip()]
    if len(data) > FILE_MAX or not lines:
        raise UsageError(_("{path} : ce n'est pas un fichier d'ordres").format(path=path))
    return lines


def send(actor: Actor, envelopes: Sequence[bytes]) -> int:
    """Sign and send each; returns how many went. The signer refuses what keyholders have not signed.

    One box that cannot be told holds up no other: in an attack each minute counts. StateError names those that were
    left, once the others are on their way.
    """
    mass = command_id()
    left: list[str] = []
    orders = [(envelope, *_read(envelope)) for envelope in envelopes]
    for envelope, payload, isolation in orders:
        try:
            _send(actor, envelope, payload, isolation, mass)
        except (RefusedError, UsageError) as error:
            left.append(f"{payload.box} : {error}")
    audit.record(actor, "mass.send", mass=mass, boxes=len(orders) - len(left), left=left[:20])
    if left:
        sent = len(orders) - len(left)
        raise StateError(
            _("{sent} envoyés, {n} refusés :").format(sent=sent, n=len(left)) + "\n" + "\n".join(left[:20])
        )
    return len(orders)


def _read(envelope: bytes) -> tuple[Desired, ContractIsolation]:
    """The document of a line, and what it orders. UsageError."""
    try:
        payload = Desired.from_bytes(dsse.Envelope.from_bytes(envelope).payload)
    except ContractError as error:
        raise UsageError(_("ce n'est pas un document d'ordres : {error}").format(error=error)) from error
    if payload.isolation is None:
        raise UsageError(_("{box} : le document n'isole pas").format(box=payload.box))
    return payload, payload.isolation


def _send(actor: Actor, envelope: bytes, payload: Desired, isolation: ContractIsolation, mass: str) -> None:
    now = timezone.now()
    with transaction.atomic():
        box = fleet.find(payload.box)
        signed = desired.signer().sign_desired_envelope(envelope, actor.name)
        Isolation.objects.filter(box=box, lifted=None).update(lifted=now, lifted_by=actor.name)
        Isolation.objects.create(
            box=box,
            level=isolation.level,
            until=datetime.fromtimestamp(isolation.until, UTC),
            reason=_("ordre groupé"),
            mass=mass,
            created=now,
            created_by=actor.name,
        )
        desired.store(box, payload, signed, document.digest(payload), actor, f"mass {mass}")
