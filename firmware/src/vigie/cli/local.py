"""Decisions of the commune: `allow`, `block`, `observe`, `rules`, `quarantine`, `isolate`, `learned`."""

from __future__ import annotations

import argparse
from typing import Any

from vigie.cli import output
from vigie.errors import UsageError
from vigie.filter import client
from vigie.i18n import _


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds the commands of this module."""
    texts = {
        "allow": _("laisser passer une adresse ou un nom, pour un temps"),
        "block": _("bloquer une adresse ou un nom, pour un temps"),
        "observe": _("signaler une adresse ou un nom sans bloquer, pour un temps"),
    }
    for name, text in texts.items():
        parser = subparsers.add_parser(name, help=text, description=text, parents=[output.common()])
        parser.add_argument("target", metavar=_("CIBLE"), help=_("adresse, préfixe ou nom (avec ses sous-domaines)"))
        parser.add_argument("--device", default="", metavar="MAC", help=_("seulement pour cet appareil"))
        parser.add_argument("--port", type=output.port, metavar="443/tcp", help=_("seulement ce port"))
        parser.add_argument("--note", default="", metavar=_("TEXTE"), help=_("pourquoi, pour s'en souvenir"))
        parser.add_argument("--remove", action="store_true", help=_("retirer la règle"))
        _add_for(parser, _("durée, comme 2h ou 7j (défaut : 24h)"), 86_400.0)
        parser.set_defaults(run=_rule, action=name)
    rules = subparsers.add_parser("rules", help=_("les décisions locales en vigueur"), parents=[output.common()])
    rules.set_defaults(run=_rules)
    _add_quarantine(subparsers)
    _add_isolate(subparsers)
    return _add_learned(subparsers)


def _add_for(parser: argparse.ArgumentParser, text: str, default: float | None) -> None:
    parser.add_argument("--for", dest="for_s", type=output.duration, default=default, metavar=_("DURÉE"), help=text)


def _add_quarantine(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = _("couper un appareil du réseau, ou le rétablir")
    parser = subparsers.add_parser("quarantine", help=text, description=text, parents=[output.common()])
    parser.add_argument("mac", metavar="MAC", help=_("adresse MAC de l'appareil"))
    parser.add_argument("--remove", action="store_true", help=_("rétablir l'appareil"))
    _add_for(parser, _("durée (défaut : celle de l'isolement, 4h au plus)"), None)
    parser.set_defaults(run=_quarantine)


def _add_isolate(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = _("isoler la mairie : 0 normal, 1 vigilance, 2 services essentiels, 3 coupure (voix et alarmes gardées)")
    parser = subparsers.add_parser("isolate", help=text, description=text, parents=[output.common()])
    parser.add_argument("level", type=int, choices=range(4), metavar=_("NIVEAU"), help=_("0, 1, 2 ou 3"))
    _add_for(parser, _("durée, 4h au plus (défaut) ; à renouveler ensuite"), None)
    parser.set_defaults(run=_isolate)


def _add_learned(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    text = _("ports ouverts appris pendant l'apprentissage")
    parser = subparsers.add_parser("learned", help=text, description=text, parents=[output.common()])
    parser.add_argument("--revoke", nargs=2, metavar=("MAC", "443/tcp"), help=_("refermer un port appris"))
    parser.set_defaults(run=_learned)
    return parser


def _rule(args: argparse.Namespace) -> int:
    proto, port = args.port or (0, 0)
    if args.remove:
        result = client.call(args.socket, args.action, target=args.target, device=args.device, remove=True)
        output.emit(args, result, _("retiré : {target}").format(target=result["target"]))
        return 0
    params = {"target": args.target, "device": args.device, "proto": proto, "port": port, "note": args.note}
    result = client.call(args.socket, args.action, for_s=args.for_s, **params)
    text = _("{what} : {target}, jusqu'au {when}").format(
        what=action_text(args.action), target=result["target"], when=output.moment(result["until"])
    )
    if result.get("warning"):
        text += "\n! " + result["warning"]
    output.emit(args, result, text)
    return 0


def _rules(args: argparse.Namespace) -> int:
    result = client.call(args.socket, "rules")
    output.emit(args, result, render_rules(result))
    return 0


def render_rules(result: dict[str, Any]) -> str:
    """Rules, quarantines and isolation as text."""
    lines = []
    if result["isolation"]["level"]:
        when = output.moment(result["isolation"]["until"])
        lines.append(_("Isolement de niveau {n} jusqu'au {when}").format(n=result["isolation"]["level"], when=when))
    lines += [
        _("Quarantaine : {mac} jusqu'au {when}").format(mac=q["mac"], when=output.moment(q["until"]))
        for q in result["quarantine"]
    ]
    rows = [
        [
            action_text(r["action"]),
            r["target"],
            r["device"] or _("tous"),
            _port_text(r),
            output.moment(r["until"]),
            _("département") if r["origin"] else _("mairie"),
            r["note"],
        ]
        for r in result["rules"]
    ]
    if rows:
        headers = [_("Décision"), _("Cible"), _("Appareil"), _("Port"), _("Jusqu'au"), _("Décidé par"), _("Note")]
        lines.append(output.table(headers, rows))
    return "\n".join(lines) or _("aucune décision locale")


def action_text(action: str) -> str:
    """What a rule does."""
    return {"allow": _("autorisé"), "block": _("bloqué"), "observe": _("observé")}[action]


def _port_text(rule: dict[str, Any]) -> str:
    if not rule["port"]:
        return _("tous")
    return f"{rule['port']}/{'tcp' if rule['proto'] == 6 else 'udp'}"


def _quarantine(args: argparse.Namespace) -> int:
    result = client.call(args.socket, "quarantine", mac=args.mac, for_s=args.for_s, remove=args.remove)
    if args.remove:
        text = _("{mac} : rétabli").format(mac=result["mac"])
        if result.get("ordered"):
            text = _("{mac} : rétabli ; le département, qui l'avait demandé, ne peut pas le couper avant 24 heures")
            text = text.format(mac=result["mac"])
    else:
        text = _("{mac} : en quarantaine jusqu'au {when}").format(
            mac=result["mac"], when=output.moment(result["until"])
        )
    output.emit(args, result, text)
    return 0


def _isolate(args: argparse.Namespace) -> int:
    result = client.call(args.socket, "isolate", level=args.level, for_s=args.for_s)
    if result["level"]:
        when = output.moment(result["until"])
        text = _("isolement de niveau {n} jusqu'au {when}").format(n=result["level"], when=when)
    else:
        text = _("isolement levé")
        if result.get("ordered"):
            text = _("isolement levé ; le département, qui l'avait demandé, ne peut pas le remettre avant 24 heures")
    output.emit(args, result, text)
    return 0


def _learned(args: argparse.Namespace) -> int:
    if args.revoke:
        mac, port = args.revoke
        try:
            proto, number = output.port(port)
        except argparse.ArgumentTypeError as e:
            raise UsageError(str(e)) from e
        result = client.call(args.socket, "learned-revoke", mac=mac, proto=proto, port=number)
        output.emit(args, result, _("refermé : {mac} {port}").format(mac=mac, port=port))
        return 0
    result = client.call(args.socket, "learned")
    headers = [_("Appareil"), _("Port"), _("Vu la première fois"), _("Vu la dernière fois"), _("État")]
    rows = [
        [u["mac"], _port_text(u), output.moment(u["first"]), output.moment(u["last"]), _state(u)]
        for u in result["uses"]
    ]
    output.emit(args, result, output.table(headers, rows) if rows else _("aucun port appris"))
    return 0


def _state(use: dict[str, Any]) -> str:
    return _("refermé") if use["revoked"] else _("ouvert")
