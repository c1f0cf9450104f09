"""`vigie factory serial|announce|report`: a board that is fresh from flashing, and what it says of itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vigie.cli import output
from vigie.i18n import _

DEFAULT_PORT = Path("/dev/console")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `factory` and what it does."""
    parser = subparsers.add_parser("factory", help=_("mise en service à l'atelier, par la console série"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    serial = actions.add_parser(
        "serial", help=_("répondre au poste de préparation (reste au premier plan)"), parents=[output.common()]
    )
    serial.add_argument("--report-only", action="store_true", help=_("ne répondre qu'aux questions de lecture"))
    serial.set_defaults(run=_serial)
    announce = actions.add_parser(
        "announce", help=_("dire une fois sur la console quel boîtier démarre"), parents=[output.common()]
    )
    announce.set_defaults(run=_announce)
    for action in (serial, announce):
        action.add_argument("--port", type=Path, default=DEFAULT_PORT, metavar=_("PORT"), help=_("console série"))
    report = actions.add_parser("report", help=_("l'état du démarrage, en lecture seule"), parents=[output.common()])
    report.set_defaults(run=_report)
    return parser


def _serial(args: argparse.Namespace) -> int:
    import logging

    from vigie.factory import program
    from vigie.factory.machine import Board

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    parts = program.read_parts(Board())
    board = Board(button=parts.button)
    program.serve(args.port, board, program.Places(), parts, report_only=args.report_only)
    board.restart()
    return 0


def _announce(args: argparse.Namespace) -> int:
    from vigie.factory import program
    from vigie.factory.machine import Board

    program.announce(args.port, Board(), program.Places())
    return 0


def _report(args: argparse.Namespace) -> int:
    from vigie.factory import facts
    from vigie.factory.machine import Board

    found = facts.collect(Board(), args.socket)
    output.emit(args, found, json.dumps(found, ensure_ascii=False, indent=1))
    return 0
