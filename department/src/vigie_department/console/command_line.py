"""What the command lines of the rooms share: subcommands with actions, and an answer as text or as JSON."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vigie_department.texts import _


def actions(subparsers: Any, name: str, text: str) -> Any:
    """A command that has actions."""
    parser = subparsers.add_parser(name, help=text)
    return parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)


def add(actions: Any, name: str, run: Any, text: str, *names: str) -> argparse.ArgumentParser:
    """An action; `names` are its positional arguments."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text)
    for argument in names:
        parser.add_argument(argument.lower(), metavar=argument)
    parser.set_defaults(run=run)
    return parser


def why(parser: argparse.ArgumentParser) -> None:
    """`--why TEXT`, which stays in the audit."""
    parser.add_argument("--why", required=True, metavar=_("TEXTE"), help=_("pourquoi ; reste au journal"))


def json_flag(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=_("pour les programmes"))


def emit(args: argparse.Namespace, data: Any, text: str) -> int:
    """Print it; the exit code."""
    print(json.dumps(data, ensure_ascii=False, indent=2, default=str) if getattr(args, "json", False) else text)
    return 0
