"""`vigie why ADDRESS|NAME`: each layer's opinion, in the order in which they decide."""

from __future__ import annotations

import argparse
from typing import Any

from vigie.cli import output
from vigie.filter import client
from vigie.i18n import _


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `why`."""
    text = _("pourquoi une adresse ou un nom est bloqué, ou ne l'est pas")
    parser = subparsers.add_parser("why", help=text, description=text, parents=[output.common()])
    parser.add_argument("target", metavar=_("CIBLE"), help=_("adresse IP ou nom"))
    parser.add_argument("--device", default="", metavar="MAC", help=_("du point de vue de cet appareil"))
    parser.add_argument("--port", type=output.port, metavar="443/tcp", help=_("pour ce port de la cible"))
    parser.set_defaults(run=_why)
    return parser


def _why(args: argparse.Namespace) -> int:
    proto, port = args.port or (0, 0)
    result = client.call(args.socket, "why", target=args.target, device=args.device, proto=proto, port=port)
    output.emit(args, result, render(result))
    return 0


def render(answer: dict[str, Any]) -> str:
    """The answer as text: the sentence first, then layer by layer, `>` where it was decided."""
    width = max(len(o["title"]) for o in answer["opinions"])
    lines = [answer["sentence"], ""]
    for opinion in answer["opinions"]:
        mark = ">" if opinion["decides"] else " "
        lines.append(f"{mark} {opinion['title'].ljust(width)}  {opinion['text']}")
    for source in answer["sources"]:
        lines.append("    " + _("source : {feed} ({source})").format(**source))
    recent = answer["recent"]
    if recent:
        lines += ["", _("Dernières fois :")]
        lines += [f"  {output.moment(r['last'])}  {r['device'] or '-'}  {r['text']}  ×{r['packets']}" for r in recent]
    return "\n".join(lines)
