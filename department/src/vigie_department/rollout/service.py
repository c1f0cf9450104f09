"""What operators do to a rollout. Each act is one transaction with its audit entry; boxes are told by the timer
(`ticking`)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Final

from django.db import transaction
from django.utils import timezone

from vigie.contract.firmware import Version, parse_version
from vigie_department.console.models import Box, Freeze, Rollout, RolloutBox
from vigie_department.console.services import audit, desired
from vigie_department.console.services.audit import Actor
from vigie_department.errors import StateError, UsageError
from vigie_department.rollout import catalogue, engine, store
from vigie_department.rollout.engine import FAILURES, Outcome, Stage
from vigie_department.rollout.plan import Candidate, Plan, assign, default_waves
from vigie_department.texts import _

LOCK: Final = "rollout.lock"
FREEZE_DAYS_MAX: Final = 120


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One at a time: a person's command waits for the timer's tick, and the reverse."""
    folder = desired.config().paths.data
    # read-only: whichever user made the file, all of them may lock it
    descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# Operators


def plan(
    actor: Actor,
    version: str,
    waves: Sequence[str],
    settings: Mapping[str, int | bool],
    why: str,
    *,
    now: datetime | None = None,
) -> Rollout:
    """A rollout that begins when it is started. UsageError, StateError."""
    goal = parse_version(version)
    _published(goal)
    now = now or timezone.now()
    boxes = list(desired.serving().select_related("commune", "status"))
    made = Plan.from_dict({**settings, "waves": tuple(waves) or default_waves(len(boxes))})
    absent_before = now.timestamp() - made.absent_days * engine.DAY_S
    candidates = [_candidate(box, absent_before) for box in boxes]
    placed = assign(made.waves, candidates, version)
    with locked(), transaction.atomic():
        newest = max((parse_version(row.version) for row in Rollout.objects.exclude(started=None)), default=goal)
        if goal < newest:
            raise StateError(
                _("{newest} a déjà été déployée : un boîtier ne revient pas en arrière, publiez une version plus haute")
                .format(newest=newest)
            )  # fmt: skip
        Rollout.objects.filter(stage=Stage.PLANNED, version=version).delete()
        row = Rollout.objects.create(
            version=version, plan=made.to_dict(), created=now, created_by=actor.name, changed=now, reason=why[:200]
        )
        RolloutBox.objects.bulk_create(
            RolloutBox(rollout=row, box_id=box, wave=wave, changed=now) for box, wave in placed.items()
        )
        audit.record(
            actor, "rollout.plan", row, firmware=version, waves=list(made.waves), boxes=len(placed), reason=why
        )
    return row


def _published(goal: Version) -> None:
    known = catalogue.published(desired.config().paths.repository)
    if goal not in known:
        raise UsageError(
            _("{version} n'est pas dans le dépôt signé ; publiées : {known}").format(
                version=goal, known=", ".join(map(str, sorted(known))) or _("aucune")
            )
        )


def _candidate(box: Box, absent_before: float) -> Candidate:
    status = getattr(box, "status", None)
    seen = status.seen if status is not None else None
    return Candidate(
        box=box.pk,
        epci=box.commune.epci if box.commune else "",
        model=box.model,
        absent=seen is None or seen.timestamp() < absent_before,
    )


def start(actor: Actor, version: str, why: str, *, now: datetime | None = None) -> Rollout:
    """Begin a planned rollout; the next tick gives the first orders."""
    with locked(), transaction.atomic():
        row = Rollout.objects.filter(stage=Stage.PLANNED, version=version).first()
        if row is None:
            raise StateError(_("{version} : aucun déploiement prévu ; voir rollout plan").format(version=version))
        before = store.current()
        if before is not None:
            if before.stage in (Stage.RUNNING, Stage.PAUSED, Stage.STOPPED):
                raise StateError(
                    _("le déploiement de {version} n'est pas fini : terminez-le ou abandonnez-le d'abord").format(
                        version=before.version
                    )
                )
            move(before, Stage.SUPERSEDED, _("remplacé par {version}").format(version=version))
        row.started = row.wave_since = now or timezone.now()
        row.wave = 0
        row.save(update_fields=["started", "wave_since", "wave"])
        move(row, Stage.RUNNING, why)
        audit.record(actor, "rollout.start", row, firmware=version, reason=why)
    return row


def pause(actor: Actor, why: str) -> Rollout:
    """No new order; boxes that have one go on."""
    with locked(), transaction.atomic():
        row = _in(Stage.RUNNING)
        move(row, Stage.PAUSED, why)
        audit.record(actor, "rollout.pause", row, firmware=row.version, reason=why)
    return row


def resume(actor: Actor, why: str, *, skip_failed: bool = False, now: datetime | None = None) -> Rollout:
    """Go on after a pause, or in spite of failures: those boxes are told again, or with `skip_failed` left as they are.

    After a stop each failure was looked at by somebody, who says why: none of them counts any more.
    """
    with locked(), transaction.atomic():
        row = _in(Stage.PAUSED, Stage.STOPPED)
        now = now or timezone.now()
        failed = [one for one in store.situation(row).members if one.outcome in FAILURES]
        if row.stage == Stage.STOPPED:
            if skip_failed and not RolloutBox.objects.filter(rollout=row, wave=0, outcome=Outcome.GOOD).exists():
                raise StateError(
                    _("aucun boîtier de la première vague n'a réussi : corrigez et publiez une version plus haute")
                )
            for one in failed:
                store.save(row, replace(one, forgiven=True) if skip_failed else one.again(), now)
        row.wave_since = now
        row.save(update_fields=["wave_since"])
        audit.record(
            actor, "rollout.resume", row, firmware=row.version, failed=len(failed), skipped=skip_failed, reason=why
        )
        move(row, Stage.RUNNING, why)
    return row


def abort(actor: Actor, why: str) -> Rollout:
    """End it: no new order, and those that boxes have not begun are taken back by the next ticks."""
    with locked(), transaction.atomic():
        planned = Rollout.objects.filter(stage=Stage.PLANNED).first()
        row = store.current()
        if row is None or row.stage == Stage.ABORTED:
            if planned is None:
                raise StateError(_("aucun déploiement n'est en cours"))
            row = planned
            move(row, Stage.SUPERSEDED, why)
        else:
            move(row, Stage.ABORTED, why)
        audit.record(actor, "rollout.abort", row, firmware=row.version, reason=why)
    return row


def freeze(actor: Actor, first: date, last: date, why: str) -> Freeze:
    """No update between two days, both included. UsageError."""
    if not first <= last or (last - first).days >= FREEZE_DAYS_MAX:
        raise UsageError(_("un gel va d'un jour au même ou à un suivant, {n} jours au plus").format(n=FREEZE_DAYS_MAX))
    with transaction.atomic():
        row = Freeze.objects.create(
            first=first, last=last, reason=why[:200], created=timezone.now(), created_by=actor.name
        )
        audit.record(actor, "freeze.add", row, first=str(first), last=str(last), reason=why)
    return row


def unfreeze(actor: Actor, number: int, why: str) -> Freeze:
    """Cancel a freeze."""
    with transaction.atomic():
        row = Freeze.objects.filter(pk=number, removed=None).first()
        if row is None:
            raise UsageError(_("« {n} » n'est pas un gel en vigueur").format(n=number))
        row.removed, row.removed_by = timezone.now(), actor.name
        row.save(update_fields=["removed", "removed_by"])
        audit.record(actor, "freeze.remove", row, first=str(row.first), last=str(row.last), reason=why)
    return row


def _in(*stages: Stage) -> Rollout:
    row = store.current()
    if row is None or row.stage not in stages:
        raise StateError(
            _("aucun déploiement n'est en cours")
            if row is None
            else _("le déploiement de {version} est « {stage} »").format(
                version=row.version, stage=row.get_stage_display()
            )
        )
    return row


def move(row: Rollout, stage: Stage, why: str) -> None:
    """The new stage, and why. In the caller's transaction."""
    row.stage, row.changed, row.reason = stage.value, timezone.now(), why[:200]
    row.save(update_fields=["stage", "changed", "reason"])
