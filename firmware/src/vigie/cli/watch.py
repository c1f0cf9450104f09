"""`vigie watch`: what is blocked, as it happens."""

from __future__ import annotations

import argparse
from typing import Any

from vigie.cli import output
from vigie.filter import client
from vigie.i18n import _


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `watch`."""
    text = _("ce qui est bloqué, à mesure")
    parser = subparsers.add_parser("watch", help=text, description=text, parents=[output.common()])
    parser.add_argument("--device", default="", metavar="MAC", help=_("seulement cet appareil"))
    parser.add_argument("--count", type=int, default=0, metavar="N", help=_("s'arrêter après N lignes"))
    parser.set_defaults(run=_watch)
    return parser


def _watch(args: argparse.Namespace) -> int:
    for shown, item in enumerate(client.stream(args.socket, "watch", device=args.device), start=1):
        output.emit(args, item, render(item))
        if shown == args.count:
            break
    return 0


def render(item: dict[str, Any]) -> str:
    """One line: time, device, what, why, how often in the last second."""
    from vigie.filter import wording

    when = output.moment(item["last"])
    if item["type"] == "alert":
        return f"{when}  !  {wording.alert(item['kind'])} {item['mac']} {item['address']}".rstrip()
    category = wording.category(item["category"])
    why = wording.reason(item["reason"]) + (f" ({category})" if category else "")
    times = f"  ×{item['packets']}" if item["packets"] > 1 else ""
    return (
        f"{when}  {item['device'] or '-':17}  {wording.verdict(item['verdict'])}  {item['destination']}  {why}{times}"
    )
