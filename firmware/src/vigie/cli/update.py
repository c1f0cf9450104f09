"""`vigie update base run|once|status`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vigie.cli import output
from vigie.cli.enrol import common
from vigie.i18n import _

if TYPE_CHECKING:
    from vigie.update.base import BaseUpdate
    from vigie.update.store import Status


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `update` and what it does."""
    parser = subparsers.add_parser("update", help=_("prendre ce que le département publie"))
    what = parser.add_subparsers(dest="what", metavar=_("QUOI"), required=True)
    base = what.add_parser("base", help=_("la base toxique"))
    actions = base.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    run = actions.add_parser("run", help=_("lancer le service (reste au premier plan)"), parents=[common()])
    run.set_defaults(run=_run)
    once = actions.add_parser("once", help=_("regarder une fois, et prendre ce qui est nouveau"), parents=[common()])
    once.set_defaults(run=_once)
    status = actions.add_parser("status", help=_("où en sont les mises à jour, et pourquoi"), parents=[common()])
    status.set_defaults(run=_status)
    return parser


def _update(args: argparse.Namespace) -> BaseUpdate:
    import logging

    from vigie.host.boxconfig import load
    from vigie.host.trusted_clock import TrustedClock
    from vigie.update.base import BaseUpdate, FilterSocket

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("tuf").setLevel(logging.WARNING)  # it tells of each keyholder who did not sign
    config = load(args.config)
    return BaseUpdate(config, TrustedClock(config), FilterSocket(config.paths.filter_socket))


def _run(args: argparse.Namespace) -> int:
    from vigie.host.boxconfig import load
    from vigie.update.service import main

    return main(load(args.config), _update(args))


def _once(args: argparse.Namespace) -> int:
    return _shown(args, _update(args).look())


def _status(args: argparse.Namespace) -> int:
    from vigie.host.boxconfig import load
    from vigie.update.store import Store

    return _shown(args, Store(load(args.config).paths.update).status())


def _shown(args: argparse.Namespace, status: Status) -> int:
    from dataclasses import asdict

    from vigie.update.codes import FINE, sentence

    output.emit(args, asdict(status) | {"text": sentence(status.code)}, render(status))
    return 0 if status.code in FINE else 1


def render(status: Status) -> str:
    """The status as text."""
    from vigie.update.codes import sentence

    lines = [sentence(status.code)]
    if status.version:
        trial = _(" (à l'essai)") if status.candidate else ""
        lines.append(_("Base en service : {version}{trial}").format(version=status.version, trial=trial))
    if status.wanted and status.wanted != status.version:
        lines.append(_("Base publiée pour ce boîtier : {version}").format(version=status.wanted))
    if status.updated:
        lines.append(
            _("Dernière mise à jour le {when}, en {seconds} s").format(
                when=output.moment(status.updated), seconds=status.seconds
            )
        )
    if status.at:
        lines.append(_("Dernier regard le {when}").format(when=output.moment(status.at)))
    if status.detail:
        lines += ["", f"! {status.detail}"]
    return "\n".join(lines)
