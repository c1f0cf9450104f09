"""Between the engine and the tables. Needs `console.setup.start`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.db.models import Max
from django.utils import timezone

from vigie.contract.firmware import Version, parse_version, running_version
from vigie_department.console.models import (
    Box,
    BoxStatus,
    Counter,
    FirmwareOrder,
    Freeze,
    Rollout,
    RolloutBox,
)
from vigie_department.console.services import desired, opening
from vigie_department.errors import UsageError
from vigie_department.rollout import days
from vigie_department.rollout.engine import DAY_S, Member, Outcome, Report, Situation, Stage
from vigie_department.rollout.plan import Plan

CURRENT: Final = (Stage.RUNNING, Stage.PAUSED, Stage.STOPPED, Stage.DONE, Stage.ABORTED)
"""stages of the one rollout that boxes know of"""


def current() -> Rollout | None:
    """The rollout that is under way, or was the last to be."""
    return Rollout.objects.filter(stage__in=[one.value for one in CURRENT]).first()


def situation(row: Rollout) -> Situation:
    """A rollout with its boxes, as the engine takes it."""
    return Situation(
        stage=Stage(row.stage),
        goal=parse_version(row.version),
        plan=Plan.from_dict(row.plan),
        wave=row.wave,
        wave_since=row.wave_since.timestamp() if row.wave_since else 0.0,
        members=tuple(member(one) for one in RolloutBox.objects.filter(rollout=row).order_by("wave", "box")),
    )


def member(row: RolloutBox) -> Member:
    """One box of it."""
    return Member(
        box=row.box_id,
        wave=row.wave,
        outcome=Outcome(row.outcome),
        step=parse_version(row.step) if row.step else None,
        order=row.order,
        ordered_at=row.ordered.timestamp() if row.ordered else 0.0,
        stands=row.stands,
        forgiven=row.forgiven,
        code=row.code,
        check=row.health,
    )


def save(rollout: Rollout, one: Member, now: datetime) -> None:
    """Write one box of it."""
    RolloutBox.objects.filter(rollout=rollout, box=one.box).update(
        outcome=one.outcome.value,
        step=str(one.step or ""),
        order=one.order,
        ordered=datetime.fromtimestamp(one.ordered_at, UTC) if one.ordered_at else None,
        stands=one.stands,
        forgiven=one.forgiven,
        code=one.code[:24],
        health=one.check[:12],
        changed=now,
    )


def enlist(rollout: Rollout, now: datetime) -> int:
    """Boxes that came into service since the plan was made join the last wave; how many."""
    known = RolloutBox.objects.filter(rollout=rollout)
    last = known.aggregate(top=Max("wave"))["top"] or 0
    new = [RolloutBox(rollout=rollout, box=box, wave=last, changed=now) for box in _without(rollout)]
    RolloutBox.objects.bulk_create(new)
    return len(new)


def _without(rollout: Rollout) -> Iterable[Box]:
    return desired.serving().exclude(pk__in=RolloutBox.objects.filter(rollout=rollout).values("box"))


def reports(now_is: Situation, now: float) -> dict[str, Report]:
    """What is known of each box."""
    members = {one.box: one for one in now_is.members}
    found: dict[str, Report] = {}
    boxes = Box.objects.filter(pk__in=members).select_related("commune", "status")
    for box in boxes:
        one = members[box.pk]
        status: BoxStatus | None = getattr(box, "status", None)
        # usual days are asked only where silence may have lasted long enough
        long = one.outcome is Outcome.ORDERED and now - one.ordered_at > now_is.plan.silent_days * DAY_S
        usual = _usual(box, one.ordered_at) if long else days.WEEKDAYS
        if status is None:
            found[box.pk] = Report(days=usual, serving=box.serving)
            continue
        found[box.pk] = Report(
            running=running_version(status.version),
            order=status.firmware_order,
            phase=status.firmware_phase,
            code=status.firmware_code,
            check=status.firmware_check,
            seen=status.seen.timestamp() if status.seen else None,
            days=usual,
            serving=box.serving,
        )
    # a box that was deleted from the register is in service no more
    return found | {name: Report(serving=False) for name in members.keys() - found.keys()}


def _usual(box: Box, ordered_at: float) -> frozenset[int]:
    """Weekdays on which its mairie is open: as it said, else as it was before the order."""
    told = box.commune.opening if box.commune else ""
    try:
        openings = opening.parse(told) if told else ()
    except UsageError:
        openings = ()
    if openings:
        return days.usual(openings)
    return days.usual((), _active(box, datetime.fromtimestamp(ordered_at, UTC)))


def _active(box: Box, before: datetime) -> set[date]:
    hours = Counter.objects.filter(
        box=box, name="frames_in", hour__gte=before - timedelta(weeks=days.LEARNED_WEEKS), hour__lt=before
    )
    return {timezone.localtime(hour, zone()).date() for hour in hours.values_list("hour", flat=True)}


def last_order(box: str) -> int:
    """The highest order this box was given, or says it had (we may come from a backup); 0: none."""
    row = FirmwareOrder.objects.filter(box=box).first()
    told = BoxStatus.objects.filter(box=box).aggregate(top=Max("firmware_order"))["top"] or 0
    return max(row.order if row else 0, int(told))


def put_order(box: str, version: Version | None, order: int, now: datetime) -> None:
    """What the box's document will say; None takes it back."""
    FirmwareOrder.objects.update_or_create(
        box_id=box, defaults={"version": str(version or ""), "order": order, "changed": now}
    )


def zone() -> ZoneInfo:
    """The department's."""
    return ZoneInfo(desired.config().time_zone)


def freezes() -> list[Freeze]:
    """Those that were not cancelled, oldest first."""
    return list(Freeze.objects.filter(removed=None).order_by("first", "pk"))


def frozen(now: datetime) -> Freeze | None:
    """The freeze that holds today."""
    return Freeze.objects.filter(removed=None, first__lte=today(now), last__gte=today(now)).order_by("-last").first()


def today(now: datetime | None = None) -> date:
    """In the department's time zone."""
    return timezone.localtime(now or timezone.now(), zone()).date()
