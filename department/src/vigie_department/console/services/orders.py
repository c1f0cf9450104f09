"""Orders of operators: exceptions, isolation, quarantine, protections, commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from vigie.contract import limits, targets, topics
from vigie.contract.downward import Command as CommandPayload
from vigie.contract.downward import Exemption
from vigie.contract.identity import PSEUDONYM
from vigie.contract.words import Kind, Op, Order, Proto, RuleAction, Service
from vigie_department.console import outgoing
from vigie_department.console.models import (
    Box,
    Command,
    Commune,
    EssentialService,
    ExceptionRequest,
    Isolation,
    NeverBlock,
    PolicyException,
    Quarantine,
)
from vigie_department.console.models.orders import command_id
from vigie_department.console.services import audit, desired
from vigie_department.console.services.audit import Actor
from vigie_department.errors import StateError, UsageError
from vigie_department.texts import _

EXCEPTION_DAYS_MAX: Final = 366
_DURATION: Final = re.compile(r"(\d{1,4})\s*(m|min|h|j|d)")
_UNITS: Final = {"m": 60, "min": 60, "h": 3600, "j": 86400, "d": 86400}


def duration(text: str) -> timedelta:
    """`30min`, `4h`, `90j` (or `90d`). UsageError."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise UsageError(_("« {text} » : une durée comme 30min, 4h ou 90j est attendue").format(text=text))
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


@dataclass(slots=True, frozen=True)
class Scope:
    """Whom a rule is for: one box, one commune, or everybody."""

    box: Box | None = None
    commune: Commune | None = None


def target(text: str) -> str:
    """A target as boxes take it. UsageError."""
    found = targets.canonical(text.strip().lower().rstrip("."))
    if found is None:
        raise UsageError(
            _("« {text} » : un nom de domaine, une adresse ou un préfixe sans bits d'hôte est attendu").format(
                text=text
            )
        )
    return found


def add_exception(
    actor: Actor,
    scope: Scope,
    action: str,
    what: str,
    until: datetime,
    note: str,
    *,
    device: str = "",
    proto: str = "",
    port: int | None = None,
) -> PolicyException:
    """One exception, and the documents of the boxes that it concerns."""
    exemption = _exemption(action, what, until, note, device, proto, port)
    with transaction.atomic():
        row = PolicyException.objects.create(
            box=scope.box,
            commune=scope.commune,
            action=exemption.action.value,
            target=exemption.target,
            device=device,
            proto=proto,
            port=port,
            until=datetime.fromtimestamp(exemption.until, UTC),
            note=note,
            created=timezone.now(),
            created_by=actor.name,
        )
        audit.record(actor, "exception.add", row, effect=action, target=row.target, until=str(row.until), note=note)
        desired.issue_all(desired.affected(row), actor, f"exception {row.pk}")
    return row


def _exemption(
    action: str, what: str, until: datetime, note: str, device: str, proto: str, port: int | None
) -> Exemption:
    """Checked as a box would. UsageError in words."""
    now = timezone.now()
    if action not in tuple(RuleAction):
        raise UsageError(_("« {action} » : allow, observe ou block est attendu").format(action=action))
    if not note.strip():
        raise UsageError(_("Dites pourquoi : la note est relue quand l'exception expire."))
    if len(note) > 100:
        raise UsageError(_("La note a plus de 100 caractères."))
    if not now < until <= now + timedelta(days=EXCEPTION_DAYS_MAX):
        raise UsageError(
            _("Une exception finit dans le futur, et dans {n} jours au plus.").format(n=EXCEPTION_DAYS_MAX)
        )
    if device and PSEUDONYM.fullmatch(device) is None:
        raise UsageError(_("« {device} » : le pseudonyme d'une alerte (d-…) est attendu").format(device=device))
    if bool(proto) != (port is not None) or (proto and proto not in tuple(Proto)):
        raise UsageError(_("Le protocole (tcp ou udp) et le port vont ensemble."))
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(_("Le port va de 1 à 65535."))
    found = target(what)
    if port is not None and targets.network(found) is None:
        raise UsageError(_("Un nom n'a pas de port : donnez une adresse."))
    exemption = Exemption(
        RuleAction(action), found, int(until.timestamp()), device or None, Proto(proto) if proto else None, port, note
    )
    if limits.exemption_code(exemption, now.timestamp()) is not None:
        raise UsageError(_("« {target} » est un préfixe trop large : les boîtiers le refusent.").format(target=found))
    return exemption


def remove_exception(actor: Actor, row: PolicyException) -> None:
    """End one exception now."""
    if row.removed is not None:
        raise StateError(_("L'exception {n} est déjà retirée.").format(n=row.pk))
    with transaction.atomic():
        row.removed, row.removed_by = timezone.now(), actor.name
        row.save(update_fields=["removed", "removed_by"])
        audit.record(actor, "exception.remove", row, target=row.target)
        desired.issue_all(desired.affected(row), actor, f"exception {row.pk}")


def answer_request(actor: Actor, request: ExceptionRequest, *, grant: bool) -> PolicyException | None:
    """Grant (an exception of that box, as long as it asked) or refuse what a mairie asked for."""
    if request.state != ExceptionRequest.State.OPEN:
        raise StateError(_("Cette demande a déjà sa réponse."))
    with transaction.atomic():
        made = None
        if grant:
            made = add_exception(
                actor,
                Scope(box=request.box),
                RuleAction.ALLOW.value,
                request.indicator,
                timezone.now() + timedelta(days=min(request.days, EXCEPTION_DAYS_MAX)),
                _("demande {n} de la mairie").format(n=request.pk),
                device=request.device or "",
            )
        states = ExceptionRequest.State
        request.state = states.GRANTED if grant else states.REFUSED
        request.answered, request.answered_by = timezone.now(), actor.name
        request.save(update_fields=["state", "answered", "answered_by"])
        audit.record(actor, "request.grant" if grant else "request.refuse", request, indicator=request.indicator)
    return made


def isolate(actor: Actor, box: Box, level: int, how_long: timedelta, reason: str) -> None:
    """Order an isolation level, or lift (level 0)."""
    _serving(box)
    if level not in (0, 1, 2, 3):
        raise UsageError(_("Le niveau d'isolement va de 0 (levé) à 3 (coupé)."))
    now = timezone.now()
    if level >= limits.TEMPORARY_LEVEL:
        _temporary(how_long)
    with transaction.atomic():
        Isolation.objects.filter(box=box, lifted=None).update(lifted=now, lifted_by=actor.name)
        if level:
            row = Isolation.objects.create(
                box=box, level=level, until=now + how_long, reason=reason[:200], created=now, created_by=actor.name
            )
            audit.record(actor, "isolation.order", row, level=level, until=str(row.until), reason=reason)
        else:
            audit.record(actor, "isolation.lift", box, reason=reason)
        desired.issue(box, actor, f"isolation {level}")


def quarantine(actor: Actor, box: Box, device: str, how_long: timedelta, reason: str) -> None:
    """Cut one device off, named by its pseudonym."""
    _serving(box)
    _temporary(how_long)
    if PSEUDONYM.fullmatch(device) is None:
        raise UsageError(_("« {device} » : le pseudonyme d'une alerte (d-…) est attendu").format(device=device))
    now = timezone.now()
    with transaction.atomic():
        Quarantine.objects.filter(box=box, device=device, lifted=None).update(lifted=now, lifted_by=actor.name)
        row = Quarantine.objects.create(
            box=box, device=device, until=now + how_long, reason=reason[:200], created=now, created_by=actor.name
        )
        audit.record(actor, "quarantine.order", row, device=device, until=str(row.until), reason=reason)
        desired.issue(box, actor, f"quarantine {device}")


def lift_quarantine(actor: Actor, box: Box, device: str) -> None:
    """End a quarantine now."""
    with transaction.atomic():
        found = Quarantine.objects.filter(box=box, device=device, lifted=None, until__gt=timezone.now())
        if not found.update(lifted=timezone.now(), lifted_by=actor.name):
            raise StateError(_("{device} n'est pas en quarantaine sur {box}.").format(device=device, box=box.pk))
        audit.record(actor, "quarantine.lift", box, device=device)
        desired.issue(box, actor, f"quarantine {device}")


def _temporary(how_long: timedelta) -> None:
    most = timedelta(hours=desired.config().documents.temporary_hours)
    if not timedelta(0) < how_long <= most:
        raise UsageError(
            _("Couper une mairie ou un appareil dure {hours} h au plus ; au-delà, ordonnez-le de nouveau.").format(
                hours=desired.config().documents.temporary_hours
            )
        )


def _serving(box: Box) -> None:
    if not box.serving:
        raise StateError(
            _("{box} est « {state} » : il ne reçoit pas d'ordres.").format(box=box.pk, state=box.get_state_display())
        )


def protect(actor: Actor, scope: Scope, what: str, note: str) -> NeverBlock:
    """A name or prefix that no base may block."""
    found = target(what)
    if limits.too_short(found, limits.ALLOW_PREFIX4_MIN, limits.ALLOW_PREFIX6_MIN):
        raise UsageError(_("« {target} » est un préfixe trop large : les boîtiers le refusent.").format(target=found))
    with transaction.atomic():
        row = NeverBlock.objects.create(
            box=scope.box,
            commune=scope.commune,
            target=found,
            note=note[:200],
            created=timezone.now(),
            created_by=actor.name,
        )
        audit.record(actor, "neverblock.add", row, target=found, note=note)
        desired.issue_all(desired.affected(row), actor, f"never block {found}")
    return row


def essential(actor: Actor, scope: Scope, name: str, rank: int, note: str = "") -> EssentialService:
    """A service that stays reachable at isolation level 2."""
    found = target(name)
    if not 0 <= rank <= 9:
        raise UsageError(_("Le rang va de 0 (le plus important) à 9."))
    with transaction.atomic():
        row = EssentialService.objects.create(
            box=scope.box,
            commune=scope.commune,
            name=found,
            rank=rank,
            note=note[:200],
            created=timezone.now(),
            created_by=actor.name,
        )
        audit.record(actor, "essential.add", row, name=found, rank=rank)
        desired.issue_all(desired.affected(row), actor, f"essential {found}")
    return row


def forget(actor: Actor, row: NeverBlock | EssentialService) -> None:
    """Remove a protection."""
    with transaction.atomic():
        kind = "neverblock" if isinstance(row, NeverBlock) else "essential"
        boxes = desired.affected(row)
        audit.record(actor, f"{kind}.remove", row, name=str(row))
        row.delete()
        desired.issue_all(boxes, actor, f"{kind} {row}")


def command(actor: Actor, box: Box, op: str, *, service: str = "", items: Sequence[str] = ()) -> Command:
    """Sign and send one command; its answer arrives by correlation identifier."""
    _serving(box)
    if op not in tuple(Op):
        raise UsageError(_("« {op} » : self-test, diagnostics ou restart est attendu").format(op=op))
    if (op == Op.RESTART) != bool(service) or (service and service not in tuple(Service)):
        raise UsageError(_("restart veut un service : {names}").format(names=", ".join(Service)))
    now = timezone.now()
    life = timedelta(minutes=desired.config().documents.command_minutes)
    payload = CommandPayload(
        box=box.pk,
        id=command_id(),
        issued=desired.unix(now),
        expires=desired.unix(now + life),
        op=op,
        service=Service(service) if service else None,
        items=tuple(items),
    )
    with transaction.atomic():
        envelope = desired.signer().sign_command(payload.to_dict(), actor.name)
        row = Command.objects.create(
            id=payload.id,
            box=box,
            op=op,
            args=payload.to_dict()["args"],
            issued=now,
            expires=now + life,
            envelope=envelope,
            operator=actor.name,
        )
        outgoing.enqueue(
            topics.down(box.pk, Order.COMMAND),
            envelope,
            response_topic=topics.up(box.pk, Kind.ACK),
            correlation=payload.id,
            expiry_s=int(life.total_seconds()),
        )
        audit.record(actor, f"command.{op}", row, args=row.args)
    return row
