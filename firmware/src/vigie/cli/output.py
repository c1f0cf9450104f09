"""What commands share: common options, text or JSON on the standard output, durations and targets in arguments."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from vigie.errors import VigieError
from vigie.filter.client import DEFAULT_SOCKET, SOCKET_VARIABLE
from vigie.i18n import _

_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "j": 86_400}


def common() -> argparse.ArgumentParser:
    """Options that every command takes, before or after its name (use as a parent)."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group(_("options communes"))
    group.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_("résultat en JSON"))
    group.add_argument(
        "--socket",
        type=Path,
        metavar="CHEMIN",
        default=argparse.SUPPRESS,
        help=_("socket du filtrage (défaut : {variable} ou {path})").format(
            variable=SOCKET_VARIABLE, path=DEFAULT_SOCKET
        ),
    )
    return parser


def fill_common(args: argparse.Namespace) -> None:
    """Gives the common options their defaults: argparse would let a subcommand's default undo the main one."""
    if not hasattr(args, "json"):
        args.json = False
    if not hasattr(args, "socket"):
        args.socket = Path(os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)


def emit(args: argparse.Namespace, data: Any, text: str) -> None:
    """Prints `data` as one JSON line with --json, else `text`."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) if args.json else text)
    sys.stdout.write("\n")
    sys.stdout.flush()


def report_error(error: VigieError, as_json: bool) -> int:
    """Prints an error where it belongs; its exit code."""
    if as_json:
        print(json.dumps({"error": {"message": str(error), "code": error.exit_code}}, ensure_ascii=False))
    print(f"vigie: {error}", file=sys.stderr)
    return error.exit_code


def duration(text: str) -> float:
    """Seconds of `90s`, `30min`, `2h`, `7j` (or `7d`). An argparse type."""
    match = re.fullmatch(r"(\d{1,9})\s*([a-z]+)", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(
            _("durée attendue, comme 30min, 2h ou 7j, et non « {text} »").format(text=text)
        )
    return float(int(match[1]) * _UNITS[match[2]])


def port(text: str) -> tuple[int, int]:
    """(protocol, port) of `443/tcp`. An argparse type."""
    number, _slash, proto = text.partition("/")
    protocols = {"tcp": 6, "udp": 17}
    if proto not in protocols or not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
        raise argparse.ArgumentTypeError(_("port attendu, comme 443/tcp, et non « {text} »").format(text=text))
    return protocols[proto], int(number)


def moment(unix: float) -> str:
    """Local date and time of a Unix time, for people."""
    return datetime.fromtimestamp(unix).astimezone().strftime("%d/%m/%Y %H:%M:%S")


def span(seconds: float) -> str:
    """A duration for people: the two largest units."""
    left = max(0, int(seconds))
    parts = []
    for size, unit in ((86_400, "j"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def table(headers: list[str], rows: list[list[str]]) -> str:
    """Columns aligned with spaces; numbers are given as text. No colour: it is piped and read over serial consoles."""
    widths = [max(len(line[i]) for line in [headers, *rows]) for i in range(len(headers))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [headers, *rows]
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
