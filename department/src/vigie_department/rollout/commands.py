"""`vigie-department rollout plan|start|pause|resume|abort|status|tick|freeze|unfreeze|freezes`."""

from __future__ import annotations

import argparse
from datetime import date
from typing import Any, Final

from vigie_department.config import Config
from vigie_department.console import command_line as line
from vigie_department.errors import UsageError
from vigie_department.texts import _

_NUMBERS: Final = (
    *("success_percent", "fail_percent", "fail_least", "observe_hours", "silent_days", "late_days", "absent_days"),
    "in_flight",
)


def register(subparsers: Any) -> None:
    """Adds `rollout` and its actions."""
    actions = line.actions(subparsers, "rollout", _("mises à jour du logiciel : par vagues, avec arrêt automatique"))
    one = line.add(actions, "plan", _plan, _("préparer le déploiement d'une version publiée"), "VERSION")
    one.add_argument(
        "--wave", action="append", default=[], metavar=_("VAGUE"),
        help=_("dans l'ordre : 7, 20%%, epci:NOM ou box:ID,ID ; la dernière prend le reste"),
    )  # fmt: skip
    helps = {
        "success_percent": _("part de la vague qui doit réussir avant la suivante"),
        "fail_percent": _("part de la vague qui, en échec, arrête tout"),
        "fail_least": _("échecs qui arrêtent une petite vague"),
        "observe_hours": _("heures d'observation de chaque vague"),
        "silent_days": _("jours d'ouverture sans nouvelle qui comptent comme un échec"),
        "late_days": _("jours sans résultat qui comptent comme un échec"),
        "absent_days": _("jours sans nouvelle après lesquels un boîtier viendra plus tard"),
        "in_flight": _("boîtiers à la fois"),
    }
    for name in _NUMBERS:
        one.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=helps[name])
    one.add_argument("--through-freeze", action="store_true", help=_("même pendant un gel (version critique)"))
    line.why(one)
    line.json_flag(one)
    line.why(line.add(actions, "start", _start, _("commencer le déploiement prévu"), "VERSION"))
    line.why(line.add(actions, "pause", _pause, _("ne plus rien ordonner ; ce qui est commencé finit")))
    one = line.add(actions, "resume", _resume, _("reprendre, et ordonner de nouveau aux boîtiers en échec"))
    one.add_argument("--skip-failed", action="store_true", help=_("laisser les boîtiers en échec comme ils sont"))
    line.why(one)
    line.why(line.add(actions, "abort", _abort, _("abandonner : retirer les ordres qui ne sont pas commencés")))
    one = line.add(actions, "status", _status, _("où en est le déploiement"))
    one.add_argument("--boxes", action="store_true", help=_("chaque boîtier qui n'a pas réussi"))
    line.json_flag(one)
    line.add(actions, "tick", _tick, _("continuer (minuterie, toutes les cinq minutes)"))
    line.why(
        line.add(actions, "freeze", _freeze, _("aucune mise à jour entre deux jours (élections)"), "FIRST", "LAST")
    )
    line.why(line.add(actions, "unfreeze", _unfreeze, _("annuler un gel"), "NUMBER"))
    line.json_flag(line.add(actions, "freezes", _freezes, _("les gels prévus")))


def _start_django(config: Config) -> None:
    from vigie_department.console import setup

    setup.start(config)


def _plan(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console.services import audit
    from vigie_department.rollout import service, status

    settings = {name: value for name in _NUMBERS if (value := getattr(args, name)) is not None}
    if args.through_freeze:
        settings["through_freeze"] = True
    row = service.plan(audit.shell(), args.version, args.wave, settings, args.why)
    shown = status.show(row)
    return line.emit(args, shown, status.text(shown))


def _start(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console.services import audit
    from vigie_department.rollout import service

    row = service.start(audit.shell(), args.version, args.why)
    print(_("{version} : commencé ; les premiers ordres partent dans les cinq minutes").format(version=row.version))
    return 0


def _pause(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console.services import audit
    from vigie_department.rollout import service

    print(str(service.pause(audit.shell(), args.why)))
    return 0


def _resume(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console.services import audit
    from vigie_department.rollout import service

    print(str(service.resume(audit.shell(), args.why, skip_failed=args.skip_failed)))
    return 0


def _abort(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console.services import audit
    from vigie_department.rollout import service

    print(str(service.abort(audit.shell(), args.why)))
    # what boxes have not begun is taken back now and not at the timer's next turn
    return _tick(args, config)


def _status(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.rollout import status

    row = status.latest()
    if row is None:
        return line.emit(args, None, _("aucun déploiement"))
    shown = status.show(row, boxes=args.boxes)
    return line.emit(args, shown, status.text(shown))


def _tick(_args: argparse.Namespace, config: Config) -> int:
    """1 when the rollout stands still because it stopped itself: the unit is then seen as failed."""
    _start_django(config)
    from vigie_department.rollout import ticking
    from vigie_department.rollout.engine import Stage

    done = ticking.tick()
    if done is None:
        return 0
    if done.ordered or done.withdrawn or done.left:
        print(
            _("{ordered} ordres donnés, {withdrawn} retirés, {left} plus tard").format(
                ordered=done.ordered, withdrawn=done.withdrawn, left=done.left
            )
        )
    if done.problem:
        print(done.problem)
    return 1 if done.stage is Stage.STOPPED else 0


def _freeze(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console.services import audit
    from vigie_department.rollout import service

    print(str(service.freeze(audit.shell(), _date(args.first), _date(args.last), args.why)))
    return 0


def _unfreeze(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console.services import audit
    from vigie_department.rollout import service

    if not args.number.isdecimal():
        raise UsageError(_("« {n} » n'est pas un gel en vigueur").format(n=args.number))
    print(str(service.unfreeze(audit.shell(), int(args.number), args.why)))
    return 0


def _freezes(args: argparse.Namespace, config: Config) -> int:
    _start_django(config)
    from vigie_department.console import reports
    from vigie_department.rollout import store

    rows = [
        {"id": row.pk, "first": row.first, "last": row.last, "reason": row.reason, "by": row.created_by}
        for row in store.freezes()
    ]
    return line.emit(args, rows, reports.table(rows, ("id", "first", "last", "reason", "by")))


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(_("« {text} » : une date comme 2027-04-10 est attendue").format(text=text)) from None
