"""`vigie enrol run|status|reset`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vigie.cli import output
from vigie.errors import HostError
from vigie.i18n import _

if TYPE_CHECKING:
    from vigie.enrol.reset import What
    from vigie.enrol.status import Status

RESET_S = 180.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `enrol` and what it does."""
    parser = subparsers.add_parser("enrol", help=_("rattacher le boîtier au département"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    run = actions.add_parser("run", help=_("lancer le service (reste au premier plan)"), parents=[common()])
    run.set_defaults(run=_run)
    status = actions.add_parser("status", help=_("où en est le rattachement, et pourquoi"), parents=[common()])
    status.set_defaults(run=_status)
    reset = actions.add_parser("reset", help=_("remettre à zéro, ou retirer du service"), parents=[common()])
    which = reset.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--configuration", action="store_true", help=_("oublier les réglages ; le boîtier reste lui-même")
    )
    which.add_argument(
        "--decommission", action="store_true", help=_("prévenir le département et effacer les clés ; sans retour")
    )
    reset.add_argument("--yes", action="store_true", help=_("ne pas demander de confirmation"))
    reset.set_defaults(run=_reset)
    return parser


def common() -> argparse.ArgumentParser:
    """Options of the services that `box.yaml` configures."""
    from vigie.host.boxconfig import DEFAULT_PATH

    parser = argparse.ArgumentParser(add_help=False, parents=[output.common()])
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_PATH,
        metavar=_("FICHIER"),
        help=_("configuration du boîtier (défaut : {path})").format(path=DEFAULT_PATH),
    )
    return parser


def _run(args: argparse.Namespace) -> int:
    import logging

    from vigie.enrol.service import Service
    from vigie.host.boxconfig import load

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return Service(load(args.config)).run()


def _status(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from vigie.enrol import status
    from vigie.enrol.codes import INFORMATION
    from vigie.host.boxconfig import load

    found = status.read(load(args.config).paths.enrol)
    output.emit(args, asdict(found) | {"text": found.sentence()}, render(found))
    return 0 if found.code in INFORMATION else 1


def render(found: Status) -> str:
    """The status as text."""
    from vigie.enrol.codes import sentence

    lines = [
        (_("Boîtier"), found.box_id or _("sans identité")),
        (_("Numéro de série"), found.serial),
        (_("Identifiant de rattachement"), found.claim_id),
        (_("État"), f"{found.sentence()} ({found.code.value})"),
    ]
    if found.since:
        lines.append((_("Depuis"), output.moment(found.since)))
    if found.next_at:
        lines.append((_("Prochaine action"), output.moment(found.next_at)))
    if found.not_after:
        lines.append((_("Certificat jusqu'au"), output.moment(found.not_after)))
    lines += [(_("À savoir"), sentence(note)) for note in found.notes]
    if found.detail:
        lines.append((_("Détail"), found.detail))
    width = max(len(label) for label, _text in lines)
    return "\n".join(f"{label.ljust(width)}  {text}" for label, text in lines)


def _reset(args: argparse.Namespace) -> int:
    from vigie.enrol import reset, status
    from vigie.enrol.machine import UNTOLD
    from vigie.enrol.reset import What
    from vigie.enrol.service import Service
    from vigie.host.boxconfig import load

    config = load(args.config)
    what = What.DECOMMISSION if args.decommission else What.CONFIGURATION
    if not args.yes and not _agreed(what):
        output.emit(args, {"done": False}, _("rien n'a été fait"))
        return 1
    reset.ask(config.paths, what)
    end = time.monotonic() + RESET_S
    service: Service | None = None
    with reset.lock(config.paths.run_enrol) as mine:
        if mine:
            service = Service(config)
        while reset.asked(config.paths) is not None:
            if time.monotonic() > end:
                raise HostError(_("la remise à zéro n'est pas finie ; elle continuera au prochain démarrage"))
            wait = service.turn() if service is not None else 0.2
            time.sleep(min(wait, 0.2))
    told = UNTOLD not in status.read(config.paths.enrol).detail
    output.emit(args, {"done": True, "told": told}, _text(what, told))
    return 0


def _agreed(what: What) -> bool:
    question = (
        _("Effacer les clés de ce boîtier ? Il ne pourra plus servir sans repasser à l'atelier. Taper « oui » : ")
        if what == "decommission"
        else _("Oublier les réglages de ce boîtier ? Taper « oui » : ")
    )
    try:
        return input(question).strip().lower() in ("oui", "yes")
    except EOFError:
        return False


def _text(what: What, told: bool) -> str:
    if what == "configuration":
        return _("réglages oubliés ; le boîtier se rattache de nouveau de lui-même")
    if told:
        return _("le département est prévenu et les clés sont effacées")
    return _(
        "les clés sont effacées, mais le département n'a pas pu être prévenu : donnez-lui le numéro de série pour "
        "qu'il retire ce boîtier"
    )
