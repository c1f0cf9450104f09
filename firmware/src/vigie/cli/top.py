"""`vigie top`: what is blocked most."""

from __future__ import annotations

import argparse
from typing import Any

from vigie.cli import output
from vigie.filter import client
from vigie.i18n import _

_BY = {"destinations": "destination", "devices": "device", "reasons": "reason"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `top`."""
    text = _("ce qui est le plus bloqué")
    parser = subparsers.add_parser("top", help=text, description=text, parents=[output.common()])
    parser.add_argument(
        "by", nargs="?", choices=list(_BY), default="destinations", metavar="destinations|devices|reasons",
        help=_("regrouper par destination (défaut), par appareil ou par raison"),
    )  # fmt: skip
    parser.add_argument(
        "--since", type=output.duration, default=86_400.0, metavar=_("DURÉE"), help=_("depuis (défaut : 24h)")
    )
    parser.add_argument("--limit", type=int, default=20, metavar="N", help=_("nombre de lignes (défaut : 20)"))
    parser.set_defaults(run=_top)
    return parser


def _top(args: argparse.Namespace) -> int:
    result = client.call(args.socket, "top", by=_BY[args.by], since_s=args.since, limit=args.limit)
    output.emit(args, result, render(result))
    return 0


def render(result: dict[str, Any]) -> str:
    """The rows as a table."""
    from vigie.filter import wording

    rows = [
        [
            wording.reason(int(r["key"])) if result["by"] == "reason" else r["key"] or _("inconnu"),
            str(r["packets"]),
            str(r["devices"]),
            "" if result["by"] == "reason" else wording.reason(r["reason"]),
            wording.category(r["category"]),
            output.moment(r["last"]),
        ]
        for r in result["rows"]
    ]
    if not rows:
        return _("rien n'a été bloqué")
    headers = [_("Quoi"), _("Paquets"), _("Appareils"), _("Raison"), _("Catégorie"), _("Dernière fois")]
    return output.table(headers, rows)
