"""`vigie filter run|status|stop`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vigie.cli import output
from vigie.filter import client
from vigie.i18n import _, ngettext


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `filter` and what it does."""
    parser = subparsers.add_parser("filter", help=_("lancer, arrêter, voir le filtrage"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    run = actions.add_parser("run", help=_("lancer le filtrage (reste au premier plan)"), parents=[output.common()])
    run.add_argument(
        "--config", type=Path, metavar=_("FICHIER"), help=_("configuration YAML ; sans elle, les valeurs par défaut")
    )
    run.set_defaults(run=_run)
    status = actions.add_parser("status", help=_("état du filtrage"), parents=[output.common()])
    status.set_defaults(run=_status)
    stop = actions.add_parser(
        "stop",
        help=_("arrêter le programme ; le noyau continue de filtrer avec la dernière base"),
        parents=[output.common()],
    )
    stop.add_argument(
        "--detach", action="store_true", help=_("retirer aussi le filtrage du noyau : plus rien ne bloque")
    )
    stop.set_defaults(run=_stop)
    return parser


def _run(args: argparse.Namespace) -> int:
    from vigie.filter.config import load
    from vigie.filter.daemon import run

    return run(load(args.config))


def _stop(args: argparse.Namespace) -> int:
    result = client.call(args.socket, "stop", detach=args.detach)
    done = _("arrêté ; plus rien n'est filtré") if args.detach else _("arrêté ; le noyau continue de filtrer")
    output.emit(args, result, done)
    return 0


def _status(args: argparse.Namespace) -> int:
    result = client.call(args.socket, "status")
    output.emit(args, result, render(result))
    return 0 if not result["problems"] else 1


def render(s: dict[str, Any]) -> str:
    """The status as text."""
    from vigie.filter import wording

    base, counts = s["base"], s["counters"]
    base_text = _("aucune : seules les décisions locales s'appliquent")
    if base is not None:
        base_text = _("n° {serial} : {v4} plages IPv4, {v6} IPv6, {names} noms").format(**base)
    gateways = ", ".join(f"{g['address']} ({g['mac']})" for g in s["gateways"]) or _("aucune vue")
    lines = [
        (_("Filtrage"), _("en service depuis {span}").format(span=output.span(s["uptime_s"]))),
        (_("Base toxique"), base_text),
        *((_("Port {name}").format(name=p["name"]), _port(p)) for p in s["ports"]),
        (_("Passerelle"), gateways),
        (_("Connexions entrantes"), wording.inbound(s["inbound"]["mode"]) + _learning(s["inbound"])),
        (_("Isolement"), _isolation(s["isolation"])),
        (_("Quarantaine"), str(len(s["quarantine"]))),
        (_("Règles locales"), str(sum(not r["origin"] for r in s["rules"]))),
        (_("Département"), _department(s["department"], s["outbox"])),
        (_("Voisins non protégés"), str(len(s["neighbours"]))),
        (_("Bloqués"), ngettext("{n} paquet", "{n} paquets", counts["blocked"]).format(n=counts["blocked"])),
        (_("Journal"), s["journal"]["problem"] or _("{n} lignes").format(n=s["journal"]["rows"])),
    ]
    width = max(len(label) for label, _text in lines)
    text = [f"{label.ljust(width)}  {value}" for label, value in lines]
    text += ["", *(f"! {problem}" for problem in s["problems"])] if s["problems"] else []
    return "\n".join(text)


def _port(port: dict[str, Any]) -> str:
    from vigie.filter import wording

    state = _("branché") if port["up"] else _("débranché")
    blocked = _(", bloqué (boucle de câblage)") if port["blocked"] else ""
    return f"{wording.role(port['role'])}, {state}{blocked}"


def _learning(inbound: dict[str, Any]) -> str:
    if inbound["mode"] != 1:
        return ""
    return _(" (encore {span})").format(span=output.span(inbound["learning_left_s"]))


def _isolation(isolation: dict[str, Any]) -> str:
    if not isolation["level"]:
        return _("aucun")
    when = output.moment(isolation["until"])
    if isolation["origin"]:
        text = _("niveau {level}, à la demande du département, jusqu'au {when}")
        return text.format(level=isolation["level"], when=when)
    return _("niveau {level}, jusqu'au {when}").format(level=isolation["level"], when=when)


def _department(department: dict[str, Any], outbox: dict[str, Any]) -> str:
    states = {
        "none": _("aucun ordre reçu"),
        "in_force": _("ordres n° {version} en vigueur"),
        "partial": _("ordres n° {version} en vigueur en partie"),
        "expired": _("ordres n° {version} expirés"),
    }
    waiting = ngettext("{n} message en attente", "{n} messages en attente", outbox["rows"]).format(n=outbox["rows"])
    return f"{states[department['status']].format(version=department['version'])}, {waiting}"
