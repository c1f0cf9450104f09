"""`vigie-department box|commune|exception|isolate|quarantine|protect|essential|command|request|user`."""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from vigie_department.config import Config
from vigie_department.console import setup
from vigie_department.texts import _


def register(subparsers: Any) -> None:
    """Adds the commands of operators."""
    _boxes(subparsers)
    _communes(subparsers)
    _orders(subparsers)
    _users(subparsers)


def _actions(subparsers: Any, name: str, text: str) -> Any:
    parser = subparsers.add_parser(name, help=text)
    return parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)


def _add(actions: Any, name: str, run: Any, text: str, *names: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text)
    for argument in names:
        parser.add_argument(argument.lower(), metavar=argument)
    parser.set_defaults(run=run)
    return parser


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--why", required=True, metavar=_("TEXTE"), help=_("pourquoi ; reste au journal"))


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help=_("pour les programmes"))


def _boxes(subparsers: Any) -> None:
    actions = _actions(subparsers, "box", _("boîtiers : voir, attribuer, révoquer, débloquer, remplacer"))
    one = _add(actions, "list", _box_list, _("tous les boîtiers, ou ceux d'un état"))
    one.add_argument("--state", default="")
    one.add_argument("--offline", action="store_true", help=_("seulement ceux qui ne répondent pas"))
    _json(one)
    _json(_add(actions, "show", _box_show, _("un boîtier, son état et son histoire"), "BOX"))
    _why(_add(actions, "revoke", _box_revoke, _("mettre fin à un boîtier (volé, perdu)"), "BOX"))
    _why(_add(actions, "release", _box_release, _("laisser un boîtier en conflit s'inscrire de nouveau"), "BOX"))
    _why(
        _add(
            actions,
            "replace",
            _box_replace,
            _("NEW prend la place de OLD : commune, exceptions, réglages"),
            "OLD",
            "NEW",
        )
    )
    _add(actions, "assign", _box_assign, _("donner le boîtier de cette étiquette à une commune"), "CLAIM", "INSEE")


def _communes(subparsers: Any) -> None:
    actions = _actions(subparsers, "commune", _("communes : voir, importer"))
    _json(_add(actions, "list", _commune_list, _("toutes les communes")))
    _add(actions, "import", _commune_import, _("importer un CSV : insee;nom;epci;…"), "CSV")


def _scope(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--box", metavar="BOX")
    group.add_argument("--commune", metavar="INSEE")
    group.add_argument("--all", action="store_true", help=_("toutes les communes"))


def _orders(subparsers: Any) -> None:
    actions = _actions(subparsers, "exception", _("exceptions : voir, ajouter, retirer"))
    _json(_add(actions, "list", _exception_list, _("celles qui sont en vigueur")))
    one = _add(actions, "add", _exception_add, _("laisser passer, observer ou bloquer une cible"), "TARGET")
    _scope(one)
    one.add_argument("--action", dest="effect", choices=("allow", "observe", "block"), default="allow")
    one.add_argument("--for", dest="how_long", required=True, metavar=_("DURÉE"), help=_("par exemple 4h ou 90j"))
    one.add_argument("--device", default="", metavar="d-…")
    one.add_argument("--proto", default="", choices=("tcp", "udp"))
    one.add_argument("--port", type=int)
    _why(one)
    _add(actions, "remove", _exception_remove, _("retirer une exception"), "ID")

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

    actions = _actions(subparsers, "quarantine", _("couper un appareil d'une commune"))
    one = _add(actions, "add", _quarantine_add, _("mettre en quarantaine"), "BOX", "DEVICE")
    one.add_argument("--for", dest="how_long", default="4h", metavar=_("DURÉE"))
    _why(one)
    _add(actions, "lift", _quarantine_lift, _("lever la quarantaine"), "BOX", "DEVICE")

    for name, text, add in (
        ("protect", _("noms et adresses qu'aucune base ne bloque"), _protect_add),
        ("essential", _("services qui restent joignables au niveau d'isolement 2"), _essential_add),
    ):
        actions = _actions(subparsers, name, text)
        one = _add(actions, "add", add, _("ajouter"), "TARGET")
        _scope(one)
        _why(one)
        if name == "essential":
            one.add_argument("--rank", type=int, default=5, help=_("0 (le plus important) à 9"))
        one = _add(actions, "remove", _protection_remove, _("retirer"), "TARGET")
        one.set_defaults(kind=name)
        _json(_add(actions, "list", _protect_list if name == "protect" else _essential_list, _("voir")))

    one = subparsers.add_parser(
        "command", help=_("commander un boîtier : autotest, diagnostic, redémarrage d'un service")
    )
    one.add_argument("op", choices=("self-test", "diagnostics", "restart"))
    one.add_argument("box", metavar="BOX")
    one.add_argument("service", nargs="?", default="", metavar="SERVICE", help="filter, link, update, page")
    one.add_argument("--items", default="", metavar="a,b", help=_("ce que le diagnostic contient ; tout par défaut"))
    one.add_argument("--wait", type=float, default=0.0, metavar="S", help=_("attendre la réponse"))
    _json(one)
    one.set_defaults(run=_command)

    actions = _actions(subparsers, "request", _("demandes d'exception des mairies"))
    _json(_add(actions, "list", _request_list, _("celles qui attendent")))
    for name, text in (("grant", _("accorder")), ("refuse", _("refuser"))):
        _add(actions, name, _request_answer, text, "ID")


def _users(subparsers: Any) -> None:
    actions = _actions(subparsers, "user", _("personnes de la console"))
    one = _add(actions, "add", _user_add, _("ajouter une personne"), "NAME")
    one.add_argument("--role", choices=("reader", "operator", "administrator"), default="reader")
    one.add_argument("--password-file", type=Path, metavar=_("FICHIER"))
    _add(actions, "reset-factor", _user_reset, _("oublier le second facteur d'une personne (téléphone perdu)"), "NAME")


# -- running


def _emit(args: argparse.Namespace, data: Any, text: str) -> int:
    print(json.dumps(data, ensure_ascii=False, indent=2, default=str) if getattr(args, "json", False) else text)
    return 0


def _box_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports

    rows = reports.boxes(state=args.state, offline=args.offline)
    return _emit(args, rows, reports.table(rows, ("id", "commune", "state", "online", "base", "seen")))


def _box_show(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports
    from vigie_department.console.services import audit, fleet

    box = fleet.find(args.box)
    audit.record(audit.shell(), "box.show", box)
    shown = reports.box(box)
    return _emit(args, shown, reports.text(shown))


def _box_revoke(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, fleet

    box = fleet.find(args.box)
    fleet.revoke(audit.shell(), box, args.why)
    print(_("{box} est révoqué : sa session est coupée et il ne s'inscrira plus.").format(box=box.pk))
    return 0


def _box_release(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, fleet

    box = fleet.find(args.box)
    fleet.release(audit.shell(), box, args.why)
    print(_("{box} peut s'inscrire de nouveau, une fois.").format(box=box.pk))
    return 0


def _box_replace(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, fleet

    old, new = fleet.find(args.old), fleet.find(args.new)
    fleet.replace(audit.shell(), old, new, args.why)
    place = new.commune or _("aucune commune")
    print(
        _("{new} a pris la place de {old} ({place}) ; {old} est révoqué.").format(new=new.pk, old=old.pk, place=place)
    )
    return 0


def _box_assign(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, fleet

    box = fleet.assign(audit.shell(), args.claim, args.insee)
    if box is None:
        print(_("Noté : le boîtier n'est pas encore au registre, il ira à sa commune dès qu'il y sera."))
    else:
        print(_("{box} est à {commune}.").format(box=box.pk, commune=box.commune))
    return 0


def _commune_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports

    rows = reports.communes()
    return _emit(args, rows, reports.table(rows, ("insee", "name", "epci", "boxes")))


def _commune_import(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, communes
    from vigie_department.errors import UsageError

    try:
        with Path(args.csv).open("rb") as file:
            data = file.read(communes.CSV_MAX + 1)
    except OSError as error:
        raise UsageError(_("{path} ne se lit pas : {error}").format(path=args.csv, error=error.strerror)) from error
    done = communes.load(audit.shell(), data)
    print(
        _("{added} ajoutées, {changed} changées, {same} inchangées").format(
            added=len(done.added), changed=len(done.changed), same=done.same
        )
    )
    return 0


def _where(args: argparse.Namespace) -> Any:
    from vigie_department.console.services import fleet, orders

    if args.box:
        return orders.Scope(box=fleet.find(args.box))
    return orders.Scope(commune=fleet.commune(args.commune)) if args.commune else orders.Scope()


def _exception_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports

    rows = reports.exceptions()
    return _emit(args, rows, reports.table(rows, ("id", "action", "target", "scope", "until", "note")))


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
    return _emit(args, rows, reports.table(rows, ("target", "scope", "note")))


def _essential_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports
    from vigie_department.console.models import EssentialService

    rows = [
        {"rank": row.rank, "name": row.name, "scope": reports.scope(row), "note": row.note}
        for row in EssentialService.objects.all()
    ]
    return _emit(args, rows, reports.table(rows, ("rank", "name", "scope", "note")))


def _command(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports
    from vigie_department.console.services import audit, fleet, orders

    items = tuple(name for name in args.items.split(",") if name)
    row = orders.command(audit.shell(), fleet.find(args.box), args.op, service=args.service, items=items)
    if args.wait:
        reports.wait_answer(row, timedelta(seconds=args.wait))
    shown = {"id": row.pk, "state": row.state, "code": row.code, "detail": row.detail}
    _emit(args, shown, " ".join(filter(None, (row.pk, row.get_state_display(), row.code, *row.detail))))
    return 0 if row.state in ("sent", "done") else 1


def _request_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports

    rows = reports.requests()
    return _emit(args, rows, reports.table(rows, ("id", "commune", "indicator", "days", "words")))


def _request_answer(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.models import ExceptionRequest
    from vigie_department.console.services import audit, orders

    orders.answer_request(audit.shell(), _row(ExceptionRequest, args.id), grant=args.action == "grant")
    return 0


def _user_add(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, people
    from vigie_department.ops.commands import read_password

    people.add(audit.shell(), args.name, args.role, read_password(args.password_file, args.name))
    return 0


def _user_reset(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console.services import audit, people

    people.reset_factor(audit.shell(), people.find(args.name))
    return 0
