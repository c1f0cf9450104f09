"""`vigie self-test`: proves that the filter blocks, with a frame of a test address really sent into the LAN port."""

from __future__ import annotations

import argparse

from vigie.cli import output
from vigie.filter import client
from vigie.i18n import _


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `self-test`."""
    text = _("vérifier que le filtrage bloque vraiment")
    parser = subparsers.add_parser("self-test", help=text, description=text, parents=[output.common()])
    parser.set_defaults(run=_self_test)
    return parser


def _self_test(args: argparse.Namespace) -> int:
    result = client.call(args.socket, "self-test")
    output.emit(args, result, result["sentence"])
    return 0 if result["passed"] else 1
