"""What the timer does: go on from what is stored and what boxes said.

Results come first, in one transaction that needs no signature, so that a stop is never late for want of the signer.
Then each order, or its withdrawal, is a transaction of its own: the box's row, the order, the signed document, the
queue and the audit stand or fall together. A crash between any two costs nothing: the next tick decides anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from vigie.contract.firmware import Version
from vigie_department.console.models import Box, Cursor, Rollout
from vigie_department.console.services import audit, desired
from vigie_department.errors import DepartmentError, RefusedError, StateError, UsageError
from vigie_department.rollout import catalogue, engine, store
from vigie_department.rollout.engine import Count, Decision, Member, Outcome, Stage
from vigie_department.rollout.service import locked, move
from vigie_department.rollout.steps import Release
from vigie_department.texts import _

log = logging.getLogger("vigie.rollout")

BEAT: Final = "rollout"
_TOLD: Final = frozenset({Outcome.GOOD, Outcome.FAILED, Outcome.SILENT, Outcome.LATE, Outcome.ABSENT, Outcome.LEFT})
"""results that stand in a box's history"""


@dataclass(slots=True)
class Ticked:
    """What a tick did. left: orders that could not be given now (the signer's pace, the signer away): the next tick
    tries again; problem: why; paced: only the signer's pace is in the way."""

    stage: Stage
    ordered: int = 0
    withdrawn: int = 0
    left: int = 0
    problem: str = ""
    paced: bool = False

    def detail(self) -> dict[str, Any]:
        """For `doctor` and `status`."""
        return {"left": self.left, "why": self.problem, "paced": self.paced}


def tick(now: datetime | None = None) -> Ticked | None:
    """One step; None when there is no rollout. May be repeated, and killed, at any time."""
    now = now or timezone.now()
    with locked():
        row = store.current()
        if row is None:
            return None
        releases, problem = _releases()
        if row.stage in engine.ORDERING:
            store.enlist(row, now)
        now_is = store.situation(row)
        decision = engine.decide(
            now_is,
            store.reports(now_is, now.timestamp()),
            releases,
            now=now.timestamp(),
            frozen=store.frozen(now) is not None,
            zone=store.zone(),
        )
        members = {one.box: one for one in now_is.members} | {one.box: one for one in decision.changed}
        _settle(row, {one.box: one for one in now_is.members}, decision, now)
        done = Ticked(Stage(row.stage), problem=problem)
        _tell(row, members, decision, now, done)
        Cursor.objects.update_or_create(
            name=BEAT,
            defaults={
                "value": int(now.timestamp()),
                "updated": now,
                "detail": done.detail(),
            },
        )
        return done


def _releases() -> tuple[tuple[Release, ...] | None, str]:
    """The published ones; None and why when they cannot be read, which must not keep a bad release going."""
    try:
        return catalogue.releases(catalogue.published(desired.config().paths.repository)), ""
    except DepartmentError as error:
        log.error("%s", error)
        return None, str(error)


def _settle(row: Rollout, before: Mapping[str, Member], decision: Decision, now: datetime) -> None:
    """Results, the next wave, the stage."""
    with transaction.atomic():
        for one in decision.changed:
            store.save(row, one, now)
            if one.outcome in _TOLD and one.outcome is not before[one.box].outcome:
                audit.record(
                    audit.ROLLOUT, f"firmware.{one.outcome.value}", row, box=one.box, firmware=row.version,
                    wave=one.wave + 1, code=one.code, check=one.check,
                )  # fmt: skip
        if decision.wave is not None:
            row.wave, row.wave_since = decision.wave, now
            row.save(update_fields=["wave", "wave_since"])
            audit.record(audit.ROLLOUT, "rollout.wave", row, firmware=row.version, wave=row.wave + 1)
        if decision.stage is not None:
            why = "" if decision.stopped_by is None else stopped(decision.stopped_by)
            move(row, decision.stage, why)
            action = "rollout.stop" if decision.stage is Stage.STOPPED else "rollout.done"
            audit.record(audit.ROLLOUT, action, row, firmware=row.version, reason=why)
            if decision.stage is Stage.STOPPED:
                log.error("rollout of %s stopped: %s", row.version, why)


def stopped(count: Count) -> str:
    """Why a rollout stopped itself, for people."""
    return _("vague {wave} : échecs {failed} sur {size}, arrêt à {limit}").format(
        wave=count.wave + 1, failed=count.failed, size=count.size, limit=count.limit
    )


def _tell(row: Rollout, members: Mapping[str, Member], decision: Decision, now: datetime, done: Ticked) -> None:
    """Withdrawals first: they are what cannot wait."""
    acts: list[tuple[str, Callable[[], None]]] = [(one.box, _withdrawal(row, one, now)) for one in decision.withdrawn]
    acts += [(box, _order(row, members[box], step, now)) for box, step in decision.orders]
    for place, (box, act) in enumerate(acts):
        try:
            with transaction.atomic():
                act()
        except (RefusedError, StateError, UsageError) as error:
            if isinstance(error, RefusedError) and error.code == "rate":
                done.left, done.problem, done.paced = len(acts) - place, str(error), True
                return
            # what is wrong with one box is no reason to leave the others out
            log.error("%s: cannot be told: %s", box, error)
            done.left, done.problem = done.left + 1, f"{box}: {error}"
        except DepartmentError as error:
            done.left, done.problem = len(acts) - place, str(error)
            return
        else:
            if place < len(decision.withdrawn):
                done.withdrawn += 1
            else:
                done.ordered += 1


def _withdrawal(row: Rollout, one: Member, now: datetime) -> Callable[[], None]:
    def act() -> None:
        store.save(row, one, now)
        store.put_order(one.box, None, store.last_order(one.box), now)
        audit.record(audit.ROLLOUT, "firmware.withdraw", row, box=one.box, firmware=str(one.step or row.version))
        desired.issue(_box(one.box), audit.ROLLOUT, "firmware")

    return act


def _order(row: Rollout, one: Member, step: Version, now: datetime) -> Callable[[], None]:
    def act() -> None:
        number = store.last_order(one.box) + 1
        store.save(row, one.ordered(step, number, now.timestamp()), now)
        store.put_order(one.box, step, number, now)
        audit.record(
            audit.ROLLOUT, "firmware.order", row, box=one.box, firmware=str(step), order=number, wave=one.wave + 1
        )
        desired.issue(_box(one.box), audit.ROLLOUT, f"firmware {step}")

    return act


def _box(name: str) -> Box:
    return Box.objects.select_related("commune").get(pk=name)
