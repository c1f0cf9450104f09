"""From decisions to a signed document on its way: gather what was decided, sign, store, queue. Every edit ends here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from django.conf import settings as django_settings
from django.db import connection, models, transaction
from django.db.models import Max, Q
from django.utils import timezone

from vigie.contract import topics
from vigie.contract.downward import Contact, Essential, Exemption, Isolation, Quarantine, Settings
from vigie.contract.firmware import FirmwareOrder, parse_version
from vigie.contract.words import Code, Inbound, Order, Proto, RuleAction
from vigie_department.config import Config
from vigie_department.console import outgoing
from vigie_department.console.models import (
    Box,
    BoxStatus,
    Commune,
    DesiredState,
    EssentialService,
    NeverBlock,
    PolicyException,
)
from vigie_department.console.models import FirmwareOrder as FirmwareOrderRow
from vigie_department.console.models import Isolation as IsolationOrder
from vigie_department.console.models import Quarantine as QuarantineOrder
from vigie_department.console.services import audit, document, opening
from vigie_department.console.services.audit import Actor
from vigie_department.errors import RefusedError, StateError, UsageError

log = logging.getLogger("vigie.desired")

AHEAD_MAX: Final = 1 << 16
"""how far above our own versions one is looked for that the signer accepts"""
MASS_FREE: Final = 5
"""boxes that one order may isolate or quarantine without the offline second signature"""


class Signer(Protocol):
    """What is asked of the signer."""

    def sign_desired(self, payload: Any, operator: str) -> bytes:
        """An envelope."""
        ...

    def sign_desired_envelope(self, envelope: bytes, operator: str) -> bytes:
        """The same, for an envelope that keyholders have signed."""
        ...

    def sign_command(self, payload: Any, operator: str) -> bytes:
        """An envelope."""
        ...


def config() -> Config:
    """The department's configuration, of which Django's settings are made."""
    found: Config = getattr(django_settings, "VIGIE")  # noqa: B009 - a setting of ours, unknown to type checkers
    return found


def _default_signer() -> Signer:
    from vigie_department.signer.client import Signer as Client

    return Client(config().paths.signer_socket)


signer: Callable[[], Signer] = _default_signer
"""replaced in tests that need no process"""


def unix(moment: datetime) -> int:
    """Whole seconds, as the contract has them."""
    return int(moment.timestamp())


def gather(box: Box, now: datetime, mass: Iterable[str] | None = None) -> document.Wanted:
    """Everything decided for a box: its own, its commune's, everybody's."""
    scope = Q(box=None, commune=None) | Q(box=box)
    if box.commune_id is not None:
        scope |= Q(commune=box.commune_id)
    commune = box.commune
    contact = config().contact
    hours = opening.parse(commune.opening) if commune and commune.opening else ()
    return document.Wanted(
        box=box.pk,
        exceptions=[
            Exemption(
                action=RuleAction(row.action),
                target=row.target,
                until=unix(row.until),
                device=row.device or None,
                proto=Proto(row.proto) if row.proto else None,
                port=row.port,
                note=row.note,
            )
            for row in PolicyException.objects.filter(scope, removed=None, until__gt=now)
        ],
        never_block=list(NeverBlock.objects.filter(scope).values_list("target", flat=True)),
        essential=[Essential(row.name, row.rank) for row in EssentialService.objects.filter(scope)],
        isolations=[
            Isolation(row.level, unix(row.until))
            for row in IsolationOrder.objects.filter(box=box, lifted=None, until__gt=now)
        ],
        quarantines=[
            Quarantine(row.device, unix(row.until))
            for row in QuarantineOrder.objects.filter(box=box, lifted=None, until__gt=now)
        ],
        settings=Settings(
            volunteer=bool(commune and commune.volunteer),
            inbound=Inbound(box.inbound) if box.inbound else None,
            contact=Contact(contact.phone, contact.name) if contact.name or contact.phone else None,
            hours=hours or None,
        ),
        mass=None if mass is None else list(mass),
        firmware=_firmware(box),
    )


def _firmware(box: Box) -> FirmwareOrder | None:
    """The release that a rollout wants on it, while it wants one."""
    row = FirmwareOrderRow.objects.filter(box=box).exclude(version="").first()
    return None if row is None else FirmwareOrder(parse_version(row.version), row.order)


def next_version(box: Box) -> int:
    """Above everything sent and everything the box says it has.

    Not more than that: a box refuses a version far above its own, so that one stolen signature does not end its life.
    """
    sent = DesiredState.objects.filter(box=box).aggregate(top=Max("version"))["top"] or 0
    return max(int(sent), reported_version(box)) + 1


def reported_version(box: Box) -> int:
    """Version of the document that the box says it has; 0 when it never said."""
    return int(BoxStatus.objects.filter(box=box).aggregate(top=Max("desired_version"))["top"] or 0)


def compose(box: Box, now: datetime, mass: Iterable[str] | None = None, *, above: int = 0) -> Any:
    """The document as it would be signed now. above: added to the version."""
    days = config().documents.desired_days
    return document.state(
        gather(box, now, mass),
        version=next_version(box) + above,
        issued=unix(now),
        expires=unix(now + timedelta(days=days)),
    )


def issue(box: Box, actor: Actor, reason: str, *, force: bool = False) -> bool:
    """Sign, store and queue the box's document if it changed (or always with `force`); True when one was sent.

    In the caller's transaction: an edit whose document cannot be signed is not made. Raises RefusedError or
    UnavailableError.
    """
    if not box.serving:
        return False
    with transaction.atomic():
        # one document of a box at a time: two operators may not be given the same version
        _lock(box)
        now = timezone.now()
        desired = compose(box, now)
        digest = document.digest(desired)
        if not force:
            last = DesiredState.objects.filter(box=box).order_by("-version").first()
            if last is not None and last.digest == digest:
                return False
        desired, signed = _sign(box, desired, now, actor)
        store(box, desired, signed, digest, actor, reason)
    return True


def _sign(box: Box, desired: Any, now: datetime, actor: Actor) -> tuple[Any, bytes]:
    """The document and its envelope, under the first version that the signer has not used.

    It may be ahead of our tables: it had signed when we crashed, or we were restored from a backup and it was not.
    """
    above = 0
    while True:
        try:
            return desired, signer().sign_desired(desired.to_dict(), actor.name)
        except RefusedError as error:
            if f"{Code.OLDER.value}:" not in str(error) or above >= AHEAD_MAX:
                raise
        above = 2 * above or 1
        desired = compose(box, now, above=above)


def store(box: Box, desired: Any, signed: bytes, digest: str, actor: Actor, reason: str) -> DesiredState:
    """Keep a signed document and queue it, retained."""
    row = DesiredState.objects.create(
        box=box,
        version=desired.version,
        issued=datetime.fromtimestamp(desired.issued, UTC),
        expires=datetime.fromtimestamp(desired.expires, UTC),
        payload=desired.to_dict(),
        envelope=signed,
        digest=digest,
        operator=actor.name,
        reason=reason[:200],
    )
    outgoing.enqueue(topics.down(box.pk, Order.DESIRED), signed, retain=True)
    audit.record(actor, "desired.sign", row, version=desired.version, reason=reason)
    return row


def _lock(box: Box) -> None:
    """Hold the box's row. SQLite's transactions are exclusive already (IMMEDIATE)."""
    if connection.vendor == "postgresql":
        Box.objects.select_for_update().only("id").get(pk=box.pk)


def issue_all(boxes: models.QuerySet[Box], actor: Actor, reason: str) -> int:
    """The documents of several boxes, each in a transaction of its own; returns how many were sent."""
    return sum(issue(box, actor, reason) for box in boxes.select_related("commune"))


def serving() -> models.QuerySet[Box]:
    """Boxes that orders make sense for."""
    return Box.objects.filter(state__in=(Box.State.ACTIVE, Box.State.PENDING))


def affected(row: models.Model) -> models.QuerySet[Box]:
    """Boxes that a scoped rule concerns."""
    box_id, commune_id = getattr(row, "box_id", None), getattr(row, "commune_id", None)
    if box_id is not None:
        return serving().filter(pk=box_id)
    if commune_id is not None:
        return serving().filter(commune=commune_id)
    return serving()


def affected_by_commune(commune: Commune) -> models.QuerySet[Box]:
    """Boxes of a commune."""
    return serving().filter(commune=commune)


def renew(actor: Actor) -> int:
    """Documents for boxes that have none, that expire soon, or that no longer say what was decided.

    The last case is an edit whose documents were only partly signed (signer away): it is finished here. A box that has
    a newer document than we know of (we were restored from a backup) gets one above it.
    """
    now = timezone.now()
    edge = now + timedelta(days=config().documents.renew_before_days)
    sent = 0
    for box in serving().select_related("commune").order_by("pk"):
        last = DesiredState.objects.filter(box=box).order_by("-version").first()
        try:
            if last is None or last.expires <= edge or last.version < reported_version(box):
                sent += issue(box, actor, "", force=True)
            elif document.digest(compose(box, now)) != last.digest:
                sent += issue(box, actor, "")
        except RefusedError as error:
            if error.code == "rate":
                raise
            # a rule that this one breaks is no reason to let the others expire
            log.error("%s: its document cannot be renewed: %s", box.pk, error)
        except (StateError, UsageError) as error:
            log.error("%s: its document cannot be made: %s", box.pk, error)
    return sent
