"""`vigie-department box|commune|user`; `order_commands` has the orders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vigie_department.config import Config
from vigie_department.console import command_line as line
from vigie_department.console import order_commands, setup
from vigie_department.texts import _


def register(subparsers: Any) -> None:
    """Adds the commands of operators."""
    _boxes(subparsers)
    _communes(subparsers)
    order_commands.register(subparsers)
    _users(subparsers)


def _boxes(subparsers: Any) -> None:
    actions = line.actions(subparsers, "box", _("boîtiers : voir, attribuer, révoquer, débloquer, remplacer"))
    one = line.add(actions, "list", _box_list, _("tous les boîtiers, ou ceux d'un état"))
    one.add_argument("--state", default="")
    one.add_argument("--offline", action="store_true", help=_("seulement ceux qui ne répondent pas"))
    line.json_flag(one)
    line.json_flag(line.add(actions, "show", _box_show, _("un boîtier, son état et son histoire"), "BOX"))
    line.why(line.add(actions, "revoke", _box_revoke, _("mettre fin à un boîtier (volé, perdu)"), "BOX"))
    line.why(
        line.add(actions, "release", _box_release, _("laisser un boîtier en conflit s'inscrire de nouveau"), "BOX")
    )
    line.why(
        line.add(
            actions,
            "replace",
            _box_replace,
            _("NEW prend la place de OLD : commune, exceptions, réglages"),
            "OLD",
            "NEW",
        )
    )
    line.add(actions, "assign", _box_assign, _("donner le boîtier de cette étiquette à une commune"), "CLAIM", "INSEE")


def _communes(subparsers: Any) -> None:
    actions = line.actions(subparsers, "commune", _("communes : voir, importer"))
    line.json_flag(line.add(actions, "list", _commune_list, _("toutes les communes")))
    line.add(actions, "import", _commune_import, _("importer un CSV : insee;nom;epci;…"), "CSV")


def _users(subparsers: Any) -> None:
    actions = line.actions(subparsers, "user", _("personnes de la console"))
    one = line.add(actions, "add", _user_add, _("ajouter une personne"), "NAME")
    one.add_argument("--role", choices=("reader", "operator", "administrator"), default="reader")
    one.add_argument("--password-file", type=Path, metavar=_("FICHIER"))
    line.add(
        actions, "reset-factor", _user_reset, _("oublier le second facteur d'une personne (téléphone perdu)"), "NAME"
    )


# -- running


def _box_list(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports

    rows = reports.boxes(state=args.state, offline=args.offline)
    return line.emit(args, rows, reports.box_table(rows))


def _box_show(args: argparse.Namespace, config: Config) -> int:
    setup.start(config)
    from vigie_department.console import reports
    from vigie_department.console.services import audit, fleet

    box = fleet.find(args.box)
    audit.record(audit.shell(), "box.show", box)
    shown = reports.box(box)
    return line.emit(args, shown, reports.text(shown))


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
    return line.emit(args, rows, reports.table(rows, ("insee", "name", "epci", "boxes")))


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
