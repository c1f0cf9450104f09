"""What a rollout does next: one pure function from what is stored and what boxes said to what is to be written.

    planned ─► running ─► done ─► superseded          per box: waiting ─► ordered ─► good
                │  ▲        │                                  ▲  absent      └────► failed, silent, late
          paused┘  └─ stopped ─► aborted                       left: no longer in service

Nothing is remembered between two calls but the rows: whatever a crash interrupted, the next call decides again. A
rollout that is done goes on serving boxes that come back after months, and stops as well when they fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from enum import StrEnum
from typing import Final

from vigie.contract.firmware import NO_RELEASE, Phase, Version
from vigie_department.rollout import days as calendar
from vigie_department.rollout.plan import Plan
from vigie_department.rollout.steps import Release, next_step

DAY_S: Final = 86400
HOUR_S: Final = 3600


class Stage(StrEnum):
    """Where a rollout is."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


class Outcome(StrEnum):
    """Where a box is in a rollout."""

    WAITING = "waiting"
    ORDERED = "ordered"
    GOOD = "good"
    FAILED = "failed"
    SILENT = "silent"
    LATE = "late"
    ABSENT = "absent"
    LEFT = "left"


FAILURES: Final = frozenset({Outcome.FAILED, Outcome.SILENT, Outcome.LATE})
_SURE: Final = frozenset({Outcome.GOOD, Outcome.FAILED, Outcome.ABSENT, Outcome.LEFT})
"""what stays so when the order is taken back; who was only silent or late begins anew after a freeze"""
OUTSIDE: Final = frozenset({Outcome.ABSENT, Outcome.LEFT})
"""not counted in their wave"""
ORDERING: Final = frozenset({Stage.RUNNING, Stage.DONE})
WITHDRAWING: Final = frozenset({Stage.STOPPED, Stage.ABORTED})
NO_WAY: Final = "no-way"
"""code of a box that no published release leads to the goal"""

# "": a box that never had an order says nothing of firmware
_NOT_BEGUN: Final[frozenset[str]] = frozenset({"", Phase.IDLE, Phase.WAITING, Phase.POSTPONED, Phase.DOWNLOADING})
_SETTLED: Final[frozenset[str]] = frozenset({"", Phase.IDLE, Phase.GOOD})
_BROKE: Final[frozenset[str]] = frozenset({Phase.ROLLED_BACK, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class Member:
    """A box of a rollout. step: version of its last order; order: that order's number, 0 = none that still counts.

    ordered_at: Unix seconds. stands: the order is in the box's document. forgiven: an operator went on in spite of its
    failure, which counts no more.
    """

    box: str
    wave: int
    outcome: Outcome = Outcome.WAITING
    step: Version | None = None
    order: int = 0
    ordered_at: float = 0.0
    stands: bool = False
    forgiven: bool = False
    code: str = ""
    check: str = ""

    def ordered(self, step: Version, order: int, now: float) -> Member:
        """Told to install `step`."""
        told = replace(self, step=step, order=order, ordered_at=now, stands=True)
        return replace(told, outcome=Outcome.ORDERED, code="", check="", forgiven=False)

    def again(self) -> Member:
        """In line once more, as if it had never been told."""
        return replace(self, outcome=Outcome.WAITING, order=0, stands=False, forgiven=False, code="", check="")


@dataclass(frozen=True, slots=True)
class Report:
    """What the department knows of a box. running: NO_RELEASE when it is no release; order, phase, code, check: of its
    last `State.firmware`; seen: when it last said anything; days: its usual opening days; serving: may be given
    orders."""

    running: Version = NO_RELEASE
    order: int = 0
    phase: str = ""
    code: str = ""
    check: str = ""
    seen: float | None = None
    days: frozenset[int] = calendar.WEEKDAYS
    serving: bool = True


@dataclass(frozen=True, slots=True)
class Situation:
    """A rollout as stored. wave: the highest that has begun, from 0; wave_since: when, Unix seconds."""

    stage: Stage
    goal: Version
    plan: Plan
    wave: int
    wave_since: float
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """One wave in figures. size: boxes that count; limit, needed: as the plan has them for that size."""

    wave: int
    size: int
    good: int
    failed: int
    under_way: int
    outside: int
    limit: int
    needed: int

    @property
    def bad(self) -> bool:
        """Too many failures."""
        return self.size > 0 and self.failed >= self.limit


@dataclass(frozen=True, slots=True)
class Decision:
    """changed: members whose outcome is another; withdrawn: members whose order is taken back, as they are then;
    orders: (box, version) to be told now, in that order; wave: the one that begins, or None; stage: the new one, or
    None; stopped_by: the wave that stopped it; counts: every wave that has begun, as it will be."""

    changed: tuple[Member, ...] = ()
    orders: tuple[tuple[str, Version], ...] = ()
    withdrawn: tuple[Member, ...] = ()
    wave: int | None = None
    stage: Stage | None = None
    stopped_by: Count | None = None
    counts: tuple[Count, ...] = field(default=(), compare=False)


def decide(
    now_is: Situation,
    reports: Mapping[str, Report],
    releases: Sequence[Release] | None,
    *,
    now: float,
    frozen: bool,
    zone: tzinfo,
) -> Decision:
    """What to write. now: Unix seconds; frozen: no box is to be updated today; zone: in which a day begins.

    A box without a report is one that never said anything. releases: None when they cannot be read now; no order is
    given then, and everything else goes on.
    """
    if now_is.stage in (Stage.PLANNED, Stage.SUPERSEDED):
        return Decision()
    plan, goal = now_is.plan, now_is.goal
    said = {one.box: reports.get(one.box, Report()) for one in now_is.members}
    before = {one.box: one for one in now_is.members}
    after = {box: _outcome(one, said[box], goal, plan, now, zone) for box, one in before.items()}
    stage, wave, since = now_is.stage, now_is.wave, now_is.wave_since
    stopped_by: Count | None = None

    if stage in ORDERING and releases is not None:
        _find_lost(after, said, now_is, releases)
    if stage in ORDERING or stage is Stage.PAUSED:
        stopped_by = next((one for one in counts(after.values(), plan, wave) if one.bad), None)
        if stopped_by is not None:
            stage = Stage.STOPPED
    holds_back = frozen and not plan.through_freeze
    if stage is Stage.RUNNING and not holds_back and _complete(after.values(), plan, wave, since, now):
        if wave < max(one.wave for one in after.values()):
            wave += 1
        else:
            stage = Stage.DONE

    changed = tuple(one for box, one in after.items() if one != before[box])
    withdrawn: list[Member] = []
    if stage in WITHDRAWING or (holds_back and stage in ORDERING):
        for box, one in after.items():
            # what stops is taken back from those that have it as well; a freeze only keeps others from beginning
            kept = one.outcome is Outcome.GOOD and stage not in WITHDRAWING
            if one.stands and not kept and _not_begun(one, said[box]):
                stays = one.outcome in _SURE or (stage in WITHDRAWING and one.outcome in FAILURES)
                after[box] = replace(one, outcome=one.outcome if stays else Outcome.WAITING, stands=False)
                withdrawn.append(after[box])
    orders: list[tuple[str, Version]] = []
    if stage in ORDERING and not holds_back and releases is not None:
        room = max(0, plan.in_flight - sum(one.outcome is Outcome.ORDERED for one in after.values()))
        waiting = [one for one in after.values() if _in_line(one, said[one.box], goal, wave)]
        # those between two steps first: they are half way
        for one in sorted(waiting, key=lambda m: (m.step is None, m.wave))[:room]:
            step = next_step(said[one.box].running, goal, releases)
            if step is not None:
                orders.append((one.box, step))
    return Decision(
        changed=changed,
        orders=tuple(orders),
        withdrawn=tuple(withdrawn),
        wave=wave if wave != now_is.wave else None,
        stage=stage if stage is not now_is.stage else None,
        stopped_by=stopped_by,
        counts=counts(after.values(), plan, wave),
    )


def _in_line(one: Member, report: Report, goal: Version, wave: int) -> bool:
    """Whether a box may be told now; one that runs the goal and is not sure of it yet needs no order."""
    return one.outcome is Outcome.WAITING and one.wave <= wave and report.running < goal


def _find_lost(
    after: dict[str, Member], said: Mapping[str, Report], now_is: Situation, releases: Sequence[Release]
) -> None:
    """Boxes in line that no published release leads to the goal: failures, until one is published."""
    ways: dict[Version, bool] = {}
    for box, one in after.items():
        if _in_line(one, said[box], now_is.goal, now_is.wave):
            running = said[box].running
            if running not in ways:
                ways[running] = next_step(running, now_is.goal, releases) is not None
            if not ways[running]:
                after[box] = replace(one, outcome=Outcome.FAILED, code=NO_WAY, check="")


def counts(members: Iterable[Member], plan: Plan, wave: int) -> tuple[Count, ...]:
    """Figures of every wave that has begun."""
    by_wave: dict[int, list[Member]] = {n: [] for n in range(wave + 1)}
    for one in members:
        if one.wave <= wave:
            by_wave[one.wave].append(one)
    return tuple(_count(number, found, plan) for number, found in by_wave.items())


def _count(number: int, members: Sequence[Member], plan: Plan) -> Count:
    inside = [one for one in members if one.outcome not in OUTSIDE and not one.forgiven]
    needed = plan.needed(len(inside))
    if number == 0:
        # half of those that were chosen must really have tried it: a first wave that is away proves nothing
        chosen = sum(one.outcome is not Outcome.LEFT and not one.forgiven for one in members)
        needed = max(needed, (chosen + 1) // 2, 1)
    return Count(
        wave=number,
        size=len(inside),
        good=sum(one.outcome is Outcome.GOOD for one in inside),
        failed=sum(one.outcome in FAILURES for one in inside),
        under_way=sum(one.outcome is Outcome.ORDERED for one in inside),
        outside=len(members) - len(inside),
        limit=plan.limit(len(inside)),
        needed=needed,
    )


def _complete(members: Iterable[Member], plan: Plan, wave: int, since: float, now: float) -> bool:
    count = counts(members, plan, wave)[wave]
    return count.good >= count.needed and now - since >= plan.observe_hours * HOUR_S


def _outcome(one: Member, report: Report, goal: Version, plan: Plan, now: float, zone: tzinfo) -> Member:
    """The member as its box's last words make it."""
    if not report.serving:
        return replace(one, outcome=Outcome.LEFT)
    if report.running >= goal and report.phase in _SETTLED:
        # only the new system itself says this
        if one.outcome is Outcome.GOOD:
            return one
        return replace(one, outcome=Outcome.GOOD, forgiven=False, code="", check="")
    answered = one.order > 0 and report.order == one.order
    if answered and report.phase in _BROKE:
        return replace(one, outcome=Outcome.FAILED, code=report.code, check=report.check)
    if one.outcome is Outcome.GOOD and report.running >= goal:
        return one
    if one.outcome in FAILURES and not (one.outcome is Outcome.FAILED and one.code == NO_WAY):
        # what began again by itself is not over, yet it has failed once: only `good` makes up for it
        return one
    if one.outcome is Outcome.ORDERED:
        if one.step is not None and _reached(report, one.step):
            return replace(one, outcome=Outcome.WAITING)
        heard = max(one.ordered_at, report.seen or 0.0) if answered else one.ordered_at
        if calendar.gone_by(heard, now, report.days, zone) >= plan.silent_days:
            return replace(one, outcome=Outcome.SILENT)
        if now - one.ordered_at > plan.late_days * DAY_S:
            return replace(one, outcome=Outcome.LATE)
        return one
    # waiting, absent, left, without a way, or good once and older again (somebody flashed it): in line, if it is there
    away = report.seen is None or now - report.seen > plan.absent_days * DAY_S
    outcome = Outcome.ABSENT if away else Outcome.WAITING
    return one if one.outcome is outcome else replace(one, outcome=outcome, code="", check="")


def _reached(report: Report, step: Version) -> bool:
    return report.running >= step and report.phase in _SETTLED


def _not_begun(one: Member, report: Report) -> bool:
    """Whether taking the order back spares the box a restart, or a further try."""
    return one.outcome is not Outcome.ORDERED or report.order != one.order or report.phase in _NOT_BEGUN
