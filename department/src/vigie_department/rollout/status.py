"""Where a rollout is: plain data for programs, the same in words for people. Needs `console.setup.start`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from vigie_department.console.models import Cursor, Rollout, RolloutBox
from vigie_department.rollout import engine, store
from vigie_department.rollout.engine import Outcome
from vigie_department.rollout.ticking import BEAT
from vigie_department.texts import _

BOXES_MAX: Final = 1000
TICK_MAX: Final = timedelta(hours=2)


def latest() -> Rollout | None:
    """The one under way, else the newest that is planned, else the last."""
    return store.current() or Rollout.objects.filter(stage=Rollout.Stage.PLANNED).first() or Rollout.objects.first()


def show(row: Rollout, *, boxes: bool = False) -> dict[str, Any]:
    """Stage, waves in figures, and with `boxes` each box that is not good."""
    now_is = store.situation(row)
    last = max((one.wave for one in now_is.members), default=0)
    counts = engine.counts(now_is.members, now_is.plan, last)
    beat = Cursor.objects.filter(name=BEAT).first()
    freeze = next((one for one in store.freezes() if one.last >= store.today()), None)
    shown: dict[str, Any] = {
        "version": row.version,
        "stage": row.stage,
        "since": row.changed,
        "reason": row.reason,
        "wave": row.wave + 1 if row.started else 0,
        "boxes": len(now_is.members),
        "good": sum(one.outcome is Outcome.GOOD for one in now_is.members),
        "waves": [
            {
                "wave": one.wave + 1,
                "boxes": one.size + one.outside,
                "good": one.good,
                "failed": one.failed,
                "under_way": one.under_way,
                "outside": one.outside,
                "stops_at": one.limit,
                "goes_on_at": one.needed,
            }
            for one in counts
        ],
        "plan": now_is.plan.to_dict(),
        "freeze": None if freeze is None else {"first": freeze.first, "last": freeze.last, "reason": freeze.reason},
        "ticked": beat.updated if beat else None,
        "left": int(beat.detail.get("left", 0)) if beat else 0,
        "problem": str(beat.detail.get("why", "")) if beat else "",
    }
    if boxes:
        rows = RolloutBox.objects.filter(rollout=row).exclude(outcome=Outcome.GOOD).select_related("box__commune")
        shown["not_good"] = [
            {
                "box": one.box_id,
                "commune": one.box.commune.name if one.box.commune else "",
                "wave": one.wave + 1,
                "outcome": one.outcome,
                "order": one.order,
                "step": one.step,
                "code": one.code,
                "check": one.health,
                "since": one.changed,
            }
            for one in rows.order_by("wave", "box")[:BOXES_MAX]
        ]
    return shown


@dataclass(frozen=True, slots=True)
class Alarm:
    """For `doctor`. todo: what to do; empty when all is well."""

    text: str
    todo: str = ""


def alarms() -> Iterator[Alarm]:
    """What somebody has to look at; one that says so when nothing has to be."""
    row = store.current()
    if row is None or row.stage == Rollout.Stage.ABORTED:
        yield Alarm(_("aucun déploiement en cours"))
        return
    stopped = row.stage == Rollout.Stage.STOPPED
    yield Alarm(
        f"{row} : {row.reason}" if row.reason else str(row),
        _("Regardez « rollout status --boxes », puis rollout resume ou rollout abort.") if stopped else "",
    )
    beat = Cursor.objects.filter(name=BEAT).first()
    since = max(row.changed, beat.updated) if beat else row.changed
    if timezone.now() - since > TICK_MAX:
        hours = TICK_MAX.seconds // 3600
        yield Alarm(
            _("rien ne fait plus avancer le déploiement depuis {h} h").format(h=hours),
            _("Démarrez vigie-rollout-tick.timer."),
        )
    elif beat and beat.detail.get("why"):
        yield Alarm(
            _("{n} ordres attendent : {problem}").format(n=beat.detail["left"], problem=beat.detail["why"]),
            "" if beat.detail.get("paced") else _("Vérifiez vigie-signer et le dépôt, puis rollout tick."),
        )


def text(shown: dict[str, Any]) -> str:
    """For people."""
    from vigie_department.console import reports

    stages = dict(Rollout.Stage.choices)
    lines = [
        _("{version} : {stage} depuis le {since}, {good} boîtiers sur {boxes}").format(
            version=shown["version"], stage=stages[shown["stage"]], since=reports.cell(shown["since"]),
            good=shown["good"], boxes=shown["boxes"],
        )
    ]  # fmt: skip
    if shown["reason"]:
        lines.append(f"  {shown['reason']}")
    headings = {
        "wave": _("vague"),
        "boxes": _("boîtiers"),
        "good": _("installée"),
        "under_way": _("en cours"),
        "failed": _("échecs"),
        "outside": _("hors compte"),
        "goes_on_at": _("suite à"),
        "stops_at": _("arrêt à"),
    }
    rows = [{said: one[name] for name, said in headings.items()} for one in shown["waves"]]
    lines.append(reports.table(rows, tuple(headings.values())))
    if shown["freeze"]:
        lines.append(
            _("gel du {first} au {last} : {reason}").format(
                first=f"{shown['freeze']['first']:%d/%m/%Y}", last=f"{shown['freeze']['last']:%d/%m/%Y}",
                reason=shown["freeze"]["reason"],
            )
        )  # fmt: skip
    if shown["left"]:
        lines.append(_("{n} ordres attendent : {problem}").format(n=shown["left"], problem=shown["problem"]))
    if shown.get("not_good"):
        outcomes = dict(RolloutBox.Outcome.choices)
        told = [{**one, "outcome": str(outcomes[one["outcome"]])} for one in shown["not_good"]]
        names = {
            "box": _("boîtier"), "commune": _("commune"), "wave": _("vague"), "outcome": _("résultat"),
            "step": _("version"), "code": _("code"), "check": _("contrôle"), "since": _("depuis"),
        }  # fmt: skip
        lines.append(
            reports.table([{said: one[name] for name, said in names.items()} for one in told], tuple(names.values()))
        )
    return "\n".join(lines)
