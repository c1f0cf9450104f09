"""The fleet: which box is whose, and what becomes of it. Who may enrol is the authority's to say: it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any, Protocol

from django.db import transaction
from django.utils import timezone

from vigie.contract import identity, topics
from vigie.contract.errors import IdentityError
from vigie.contract.words import Order
from vigie_department.console import outgoing
from vigie_department.console.models import (
    Box,
    Claim,
    Commune,
    EssentialService,
    Isolation,
    NeverBlock,
    PolicyException,
    Quarantine,
)
from vigie_department.console.services import audit, desired
from vigie_department.console.services.audit import Actor
from vigie_department.errors import StateError, UsageError
from vigie_department.texts import _


class Authority(Protocol):
    """What is asked of the authority."""

    def release(self, serial: str, operator: str, note: str) -> Any:
        """Let a serial in conflict enrol once."""
        ...

    def revoke(self, box: str, operator: str, reason: str) -> Any:
        """Revoke its certificates and block it."""
        ...


def _default_authority() -> Authority:
    from vigie_department.console.services.authority import Client

    return Client(desired.config().paths.authority_admin)


authority: Callable[[], Authority] = _default_authority
"""replaced in tests that need no process"""


def find(text: str) -> Box:
    """A box by identifier, serial or claim id. UsageError."""
    text = text.strip()
    box = (
        Box.objects.select_related("commune").filter(pk=text.lower()).first()
        or Box.objects.select_related("commune").filter(serial=text).first()
        or Box.objects.select_related("commune").filter(claim_id=_claim(text, strict=False)).first()
    )
    if box is None:
        raise UsageError(
            _("« {text} » : aucun boîtier n'a cet identifiant, ce numéro de série ou ce code d'étiquette").format(
                text=text
            )
        )
    return box


def commune(insee: str) -> Commune:
    """A commune by INSEE code. UsageError."""
    found = Commune.objects.filter(insee=insee.strip().upper()).first()
    if found is None:
        raise UsageError(
            _("« {insee} » : aucune commune n'a ce code INSEE ; importez-la d'abord (commune import)").format(
                insee=insee
            )
        )
    return found


def _claim(text: str, *, strict: bool = True) -> str:
    """A claim id as it is stored; with `strict`, UsageError when it was mistyped."""
    try:
        return identity.check_claim_id(text)
    except IdentityError as error:
        if strict:
            raise UsageError(
                _("« {text} » : code d'étiquette mal recopié ({error})").format(text=text, error=error)
            ) from error
        return text


def assign(actor: Actor, claim: str, insee: str) -> Box | None:
    """Give the box of this label to a commune, before or after it is plugged in, and even before it is registered.

    Returns the box, or None when it is not in the register yet: the assignment waits for it.
    """
    place = commune(insee)
    code = _claim(claim)
    with transaction.atomic():
        box = Box.objects.filter(claim_id=code).first()
        if box is None:
            Claim.objects.update_or_create(
                claim_id=code, defaults={"commune": place, "at": timezone.now(), "by": actor.name}
            )
            audit.record(actor, "claim.wait", place, claim=code)
            return None
        bind(actor, box, place)
    return box


def bind(actor: Actor, box: Box, place: Commune | None) -> None:
    """Put a box in a commune, or take it out. Its document follows."""
    if place is not None:
        other = place.boxes.filter(state__in=_OCCUPYING).exclude(pk=box.pk).first()
        if other is not None and not box.spare:
            raise StateError(
                _("{commune} a déjà {box} ; pour l'échanger : box replace {box} {new}").format(
                    commune=place, box=other.pk, new=box.pk
                )
            )
    with transaction.atomic():
        before = box.commune.insee if box.commune else None
        box.commune = place
        box.save(update_fields=["commune"])
        audit.record(actor, "box.assign", box, commune=place.insee if place else None, before=before)
        desired.issue(box, actor, "commune")


_OCCUPYING = (Box.State.REGISTERED, Box.State.PENDING, Box.State.ACTIVE, Box.State.CONFLICT, Box.State.CLONE)


def edit(actor: Actor, box: Box, changes: Mapping[str, Any]) -> None:
    """Location, spare, lot, warranty, inbound, notes: what people keep about a box."""
    allowed = {"location", "spare", "lot", "warranty_until", "inbound", "notes"}
    if unknown := set(changes) - allowed:
        raise UsageError(_("champs inconnus : {names}").format(names=", ".join(sorted(unknown))))
    with transaction.atomic():
        before = {name: getattr(box, name) for name in changes}
        for name, value in changes.items():
            setattr(box, name, value)
        box.save(update_fields=list(changes))
        changed = {
            name: [_plain(before[name]), _plain(changes[name])] for name in changes if before[name] != changes[name]
        }
        audit.record(actor, "box.edit", box, changed=changed)
        desired.issue(box, actor, "settings")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def release(actor: Actor, box: Box, note: str) -> None:
    """Let a box in conflict, or one that was cloned, enrol once more: an operator has checked which is the real one."""
    if box.state not in (Box.State.CONFLICT, Box.State.CLONE, Box.State.BLOCKED):
        raise StateError(_("{box} n'est pas en conflit.").format(box=box.pk))
    if not box.serial:
        raise StateError(_("{box} n'est pas dans le registre.").format(box=box.pk))
    if not note.strip():
        raise UsageError(_("Dites comment vous avez vérifié que c'est le bon boîtier."))
    with transaction.atomic():
        audit.record(actor, "box.release", box, note=note)
        authority().release(box.serial, actor.name, note)


def revoke(actor: Actor, box: Box, reason: str) -> None:
    """End a box: its certificates are revoked, it may not enrol again, its live session is cut."""
    if box.state in (Box.State.REVOKED, Box.State.DECOMMISSIONED, Box.State.REPLACED):
        raise StateError(_("{box} est déjà « {state} ».").format(box=box.pk, state=box.get_state_display()))
    if not reason.strip():
        raise UsageError(_("Dites pourquoi."))
    with transaction.atomic():
        box.state = Box.State.REVOKED
        box.save(update_fields=["state"])
        audit.record(actor, "box.revoke", box, reason=reason)
        silence(box)
        # last: what the authority has done cannot be undone by our transaction
        authority().revoke(box.pk, actor.name, reason)


def replace(actor: Actor, old: Box, new: Box, reason: str) -> None:
    """NEW takes OLD's place: commune, location, exceptions, protections, settings. OLD is revoked.

    Isolation and quarantine do not move: they end by themselves, and pseudonyms of devices are each box's own.
    """
    if old.pk == new.pk:
        raise UsageError(_("Un boîtier ne se remplace pas lui-même."))
    if old.state in (Box.State.REPLACED, Box.State.DECOMMISSIONED):
        raise StateError(_("{box} est déjà « {state} ».").format(box=old.pk, state=old.get_state_display()))
    if new.state not in (Box.State.REGISTERED, Box.State.PENDING, Box.State.ACTIVE):
        raise StateError(
            _("{box} est « {state} » : il ne peut pas prendre la place d'un autre.").format(
                box=new.pk, state=new.get_state_display()
            )
        )
    if new.commune is not None and new.commune != old.commune:
        raise StateError(_("{box} est déjà à {commune}.").format(box=new.pk, commune=new.commune))
    already_out = old.state == Box.State.REVOKED
    with transaction.atomic():
        now = timezone.now()
        new.commune, new.location, new.inbound, new.spare = old.commune, old.location, old.inbound, False
        new.save(update_fields=["commune", "location", "inbound", "spare"])
        _move_rules(actor, old, new)
        for model in (Isolation, Quarantine):
            model.objects.filter(box=old, lifted=None).update(lifted=now, lifted_by=actor.name)
        old.commune, old.state, old.replaced_by = None, Box.State.REPLACED, new
        old.save(update_fields=["commune", "state", "replaced_by"])
        place = new.commune.insee if new.commune else None
        audit.record(actor, "box.replaced", old, by=new.pk, reason=reason, commune=place)
        audit.record(actor, "box.replaces", new, of=old.pk, reason=reason, commune=place)
        silence(old)
        desired.issue(new, actor, f"replaces {old.pk}")
        if not already_out:
            authority().revoke(old.pk, actor.name, _("remplacé par {new}").format(new=new.pk))


def _move_rules(actor: Actor, old: Box, new: Box) -> None:
    """Rules of the box itself; those of the commune stay with it. Pseudonyms of devices mean nothing elsewhere."""
    now = timezone.now()
    PolicyException.objects.filter(box=old, removed=None).exclude(device="").update(removed=now, removed_by=actor.name)
    PolicyException.objects.filter(box=old, removed=None).update(box=new)
    NeverBlock.objects.filter(box=old).update(box=new)
    EssentialService.objects.filter(box=old).update(box=new)


def silence(box: Box) -> None:
    """Take the retained document of a box that is out of service off the broker."""
    outgoing.enqueue(topics.down(box.pk, Order.DESIRED), b"", retain=True)


def warranty_ends(days: int = 90) -> list[Box]:
    """Boxes whose warranty ends soon, for people who buy spares."""
    edge = timezone.localdate() + timedelta(days=days)
    return list(Box.objects.filter(warranty_until__lte=edge, warranty_until__gte=timezone.localdate()))
