"""`vigie-department exception|isolate|quarantine|protect|essential|command|request`."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

from vigie_department.config import Config
from vigie_department.console import command_line as line
from vigie_department.console import setup
from vigie_department.texts import _


def register(subparsers: Any) -> None:
    """Adds the commands."""
    actions = line.actions(subparsers, "exception", _("exceptions : voir, ajouter, retirer"))
    line.json_flag(line.add(actions, "list", _exception_list, _("celles qui sont en vigueur")))
    one = line.add(actions, "add", _exception_add, _("laisser passer, observer ou bloquer une cible"), "TARGET")
    _scope(one)
    one.add_argument("--action", dest="effect", choices=("allow", "observe", "block"), default="allow")
    one.add_argument("--for", dest="how_long", required=True, metavar=_("DURÉE"), help=_("par exemple 4h ou 90j"))
    one.add_argument("--device", default="", metavar="d-…")
    one.add_argument("--proto", default="", choices=("tcp", "udp"))
    one.add_argument("--port", type=int)
    line.why(one)
    line.add(actions, "remove", _exception_remove, _("retirer une exception"), "ID")

    one = subparsers.add_parser("isolate", help=_("isoler une commune (1 vigilance, 2 essentiel, 3 coupé, 0 lever)"))
    one.add_argument("box", metavar="BOX", nargs="*")
    one.add_argument("--level", type=int, choices=range(4))
    one.add_argument("--for", dest="how_long", default="4h", metavar=_("DURÉE"))
    one.add_argument("--why", default="", metavar=_("TEXTE"))
    one.add_argument(
        "--export",
        type=Path,
        metavar=_("FICHIER"),
        help=_("plus de 5 boîtiers : documents à faire signer par deux détenteurs"),
    )
    one.add_argument("--import", dest="signed", type=Path, metavar=_("FICHIER"), help=_("envoyer les documents signés"))
    one.set_defaults(run=_isolate)

    actions = line.actions(subparsers, "quarantine", _("couper un appareil d'une commune"))
    one = line.add(actions, "add", _quarantine_add, _("mettre en quarantaine"), "BOX", "DEVICE")
    one.add_argument("--for", dest="how_long", default="4h", metavar=_("DURÉE"))
    line.why(one)
    line.add(actions, "lift", _quarantine_lift, _("lever la quarantaine"), "BOX", "DEVICE")

    for name, text, add in (
        ("protect", _("noms et adresses qu'aucune base ne bloque"), _protect_add),
        ("essential", _("services qui restent joignables au niveau d'isolement 2"), _essential_add),
    ):
        actions = line.actions(subparsers, name, text)
        one = line.add(actions, "add", add, _("ajouter"), "TARGET")
        _scope(one)
        line.why(one)
        if name == "essential":
            one.add_argument("--rank", type=int, default=5, help=_("0 (le plus important) à 9"))
        one = line.add(actions, "remove", _protection_remove, _("retirer"), "TARGET")
        one.set_defaults(kind=name)
        line.json_flag(line.add(actions, "list", _protect_list if name == "protect" else _essential_list, _("voir")))

    one = subparsers.add_parser(
        "command", help=_("commander un boîtier : autotest, diagnostic, redémarrage d'un service")
    )
    one.add_argument("op", choices=("self-test", "diagnostics", "restart"))
    one.add_argument("box", metavar="BOX")
    one.add_argument("service", nargs="?", default="", metavar="SERVICE", help="filter, link, update, page")
    one.add_argument("--items", default="", metavar="a,b", help=_("ce que le diagnostic contient ; tout par défaut"))
    one.add_argument("--wait", type=float, default=0.0, metavar="S", help=_("attendre la réponse"))
    line.json_flag(one)
    one.set_defaults(run=_command)

    actions = line.actions(subparsers, "request", _("demandes d'exception des mairies"))
    line.json_flag(line.add(actions, "list", _request_list, _("celles qui attendent")))
    for name, text in (("grant", _("accorder")), ("refuse", _("refuser"))):
        line.add(actions, name, _request_answer, text, "ID")


def _scope(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--box", metavar="BOX")
    group.add_argument("--commune", metavar="INSEE")
    group.add_argument("--all", action="store_true", help=_("toutes les communes"))


def _where(args: argparse.Namespace) -> Any:
    from vigie_department.console.services import fleet, orders

    if args.box:
        return orders.Scope(box=fleet.find(args.box))
    return orders.Scope(commune=fleet.commune(args.commune)) if args.commune else orders.Scope()


def _exception_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports

    rows = reports.exceptions()
    return line.emit(args, rows, reports.table(rows, ("id", "action", "target", "scope", "until", "note")))


def _exception_add(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from django.utils import timezone

    from vigie_department.console.services import audit, orders

    row = orders.add_exception(
        audit.shell(),
        _where(args),
        args.effect,
        args.target,
        timezone.now() + orders.duration(args.how_long),
        args.why,
        device=args.device,
        proto=args.proto,
        port=args.port,
    )
    print(_("exception {n}, jusqu'au {until:%d/%m/%Y %H:%M} UTC").format(n=row.pk, until=row.until))
    return 0


def _row(model: Any, ident: str) -> Any:
    """A row by number. UsageError."""
    from vigie_department.errors import UsageError

    found = model.objects.filter(pk=int(ident)).first() if ident.isascii() and ident.isdigit() else None
    if found is None:
        raise UsageError(_("« {n} » : ce numéro n'existe pas").format(n=ident))
    return found


def _exception_remove(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.models import PolicyException
    from vigie_department.console.services import audit, orders

    orders.remove_exception(audit.shell(), _row(PolicyException, args.id))
    return 0


def _isolate(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, desired, fleet, mass, orders
    from vigie_department.errors import UsageError

    actor = audit.shell()
    if args.signed is not None:
        count = mass.send(actor, mass.read(args.signed))
        print(_("{n} documents envoyés").format(n=count))
        return 0
    if not args.box or args.level is None or not args.why:
        raise UsageError(_("dites quels boîtiers, --level et --why"))
    boxes = [fleet.find(name) for name in args.box]
    how_long = orders.duration(args.how_long)
    if args.export is not None:
        mass.write(args.export, mass.prepare(actor, boxes, args.level, how_long, args.why))
        print(_("Deux détenteurs signent {path} dans les deux heures :").format(path=args.export))
        print(f"  vigie-department keys sign-orders {args.export} --offline …")
        print(f"  vigie-department isolate --import {args.export}")
        return 0
    if len(boxes) > desired.MASS_FREE and args.level >= 2:
        raise UsageError(
            _("plus de {n} boîtiers à la fois : il faut la signature de deux détenteurs ; voir --export").format(
                n=desired.MASS_FREE
            )
        )
    for box in boxes:
        orders.isolate(actor, box, args.level, how_long, args.why)
    return 0


def _quarantine_add(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, fleet, orders

    orders.quarantine(audit.shell(), fleet.find(args.box), args.device, orders.duration(args.how_long), args.why)
    return 0


def _quarantine_lift(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, fleet, orders

    orders.lift_quarantine(audit.shell(), fleet.find(args.box), args.device)
    return 0


def _protect_add(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, orders

    orders.protect(audit.shell(), _where(args), args.target, args.why)
    return 0


def _essential_add(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, orders

    orders.essential(audit.shell(), _where(args), args.target, args.rank, args.why)
    return 0


def _protection_remove(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.models import EssentialService, NeverBlock
    from vigie_department.console.services import audit, orders
    from vigie_department.errors import UsageError

    rows: list[NeverBlock | EssentialService]
    if args.kind == "protect":
        rows = list(NeverBlock.objects.filter(target=args.target))
    else:
        rows = list(EssentialService.objects.filter(name=args.target))
    if not rows:
        raise UsageError(_("« {target} » n'y est pas").format(target=args.target))
    for row in rows:
        orders.forget(audit.shell(), row)
    return 0


def _protect_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports
    from vigie_department.console.models import NeverBlock

    rows = [{"target": row.target, "scope": reports.scope(row), "note": row.note} for row in NeverBlock.objects.all()]
    return line.emit(args, rows, reports.table(rows, ("target", "scope", "note")))


def _essential_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports
    from vigie_department.console.models import EssentialService

    rows = [
        {"rank": row.rank, "name": row.name, "scope": reports.scope(row), "note": row.note}
        for row in EssentialService.objects.all()
    ]
    return line.emit(args, rows, reports.table(rows, ("rank", "name", "scope", "note")))


def _command(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports
    from vigie_department.console.services import audit, fleet, orders

    items = tuple(name for name in args.items.split(",") if name)
    row = orders.command(audit.shell(), fleet.find(args.box), args.op, service=args.service, items=items)
    if args.wait:
        reports.wait_answer(row, timedelta(seconds=args.wait))
    shown = {"id": row.pk, "state": row.state, "code": row.code, "detail": row.detail}
    line.emit(args, shown, " ".join(filter(None, (row.pk, row.get_state_display(), row.code, *row.detail))))
    return 0 if row.state in ("sent", "done") else 1


def _request_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports

    rows = reports.requests()
    return line.emit(args, rows, reports.table(rows, ("id", "commune", "indicator", "days", "words")))


def _request_answer(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.models import ExceptionRequest
    from vigie_department.console.services import audit, orders

    orders.answer_request(audit.shell(), _row(ExceptionRequest, args.id), grant=args.action == "grant")
    return 0
