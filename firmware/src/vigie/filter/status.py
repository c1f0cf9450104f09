"""`vigie filter status`: one picture of the filter, as JSON-able values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vigie.contract.codes import Reason
from vigie.filter import abi, journal_query
from vigie.filter.engine import Engine
from vigie.filter.learning import Learned, Use
from vigie.filter.local_policy import LocalPolicy, Rule
from vigie.filter.zones import Neighbour
from vigie.i18n import _

ALERTS_SHOWN = 50
COUNTERS_SHOWN = ("HELD", "HOLD_EXPIRED", "HOLD_FULL", "EVENT_LIMITED", "EVENT_FULL", "NO_BASE", "FLOW_NEW")


def collect(engine: Engine, hold_alive: bool) -> dict[str, Any]:
    """Everything that `status` shows. `problems` is empty when all is well."""
    control, zones, health = engine.datapath.control, engine.zones, engine.journal.health()
    counters = engine.datapath.counters()
    base = engine.base.info
    return {
        "uptime_s": engine.now - engine.started,
        "base": asdict(base) | {"version": base.serial} if base is not None else None,
        "ports": [_port(engine, port) for port in range(2)],
        "gateways": [
            {"mac": abi.mac_text(mac), "address": str(address)}
            for mac, addresses in zones.gateways.items()
            for address in addresses or ("",)
        ],
        "onlink": [str(n) for n in (engine.seen.onlink if engine.seen else [])],
        "neighbours": [_neighbour(n, engine) for n in zones.list_neighbours(engine.now)],
        "inbound": {"mode": int(control["inbound_mode"]), "learning_left_s": engine.learning_left_s()},
        **policy_json(engine.effective_policy()),
        "department": engine.department.to_json(),
        "boot": engine.journal.outbox.boot,
        "outbox": asdict(engine.journal.outbox.stats),
        "candidate": engine.reports.candidate,
        "learned": [use_json(use, learned) for use, learned in engine.learning.uses.items()],
        "counters": {
            "passed": _sum(counters, 0, 32),
            "blocked": _sum(counters, 32, 64),
            "anomalies": _sum(counters, 64, 96),
            "by_reason": {reason.name.lower(): packets for reason, (packets, _bytes) in counters.items()},
        },
        "hold": {"enabled": engine.config.hold.enabled, "alive": hold_alive},
        "journal": {
            "problem": health.problem,
            "set_aside": health.set_aside,
            "rows": health.rows,
            "pending": health.pending,
            "lost": health.lost_in_memory,
        },
        "alerts": [_alert(a) for a in journal_query.alerts(engine.journal.path, ALERTS_SHOWN)],
        "problems": problems(engine, hold_alive),
    }


def problems(engine: Engine, hold_alive: bool) -> list[str]:
    """What a person should see to."""
    found = list(engine.problems.values())
    health = engine.journal.health()
    if health.problem:
        found.append(_("le journal n'est pas écrit : {problem}").format(problem=health.problem))
    if health.set_aside:
        found.append(_("journal abîmé, mis de côté : {detail}").format(detail=health.set_aside))
    if engine.config.hold.enabled and not hold_alive:
        found.append(_("le lecteur de noms ne tourne pas : les noms coupés en plusieurs paquets passent"))
    if engine.guard.blocked:
        found.append(_("boucle de câblage : les deux câbles du boîtier sont sur le même équipement"))
    if engine.department.problem:
        found.append(_("ordres du département : {problem}").format(problem=engine.department.problem))
    if engine.pseudonyms.problem:
        found.append(_("pseudonymes des appareils : {problem}").format(problem=engine.pseudonyms.problem))
    if not engine.zones.known and engine.effective_policy().isolation.level > 1:
        found.append(_("isolement en attente : il commencera quand les rôles des câbles seront connus"))
    if not engine.zones.known:
        found.append(_("aucune passerelle vue : les connexions entrantes ne sont pas filtrées"))
    return found


def policy_json(policy: LocalPolicy) -> dict[str, Any]:
    """Decisions; `origin` is "" for the commune's own, else `department`."""
    return {
        "rules": [rule_json(r) for r in policy.rules],
        "quarantine": [{"mac": q.mac, "until": q.until, "origin": q.origin} for q in policy.quarantine],
        "isolation": {
            "level": policy.isolation.level,
            "until": policy.isolation.until,
            "origin": policy.isolation.origin,
        },
    }


def rule_json(rule: Rule) -> dict[str, Any]:
    """One local rule."""
    return {
        "action": rule.action.name.lower(),
        "target": rule.target,
        "device": rule.device,
        "proto": rule.proto,
        "port": rule.port,
        "until": rule.until,
        "created": rule.created,
        "note": rule.note,
        "origin": rule.origin,
    }


def use_json(use: Use, learned: Learned) -> dict[str, Any]:
    """One learnt port."""
    return {
        "mac": abi.mac_text(use.mac),
        "proto": use.proto,
        "port": use.port,
        "first": learned.first,
        "last": learned.last,
        "seen": learned.seen,
        "revoked": learned.revoked,
    }


def _port(engine: Engine, port: int) -> dict[str, Any]:
    return {
        "name": engine.ports[port],
        "role": engine.zones.role(port),
        "up": engine.zones.link[port],
        "blocked": int(engine.datapath.control["loop_port"]) == port + 1,
    }


def _neighbour(neighbour: Neighbour, engine: Engine) -> dict[str, Any]:
    return {
        "mac": abi.mac_text(neighbour.mac),
        "address": neighbour.address,
        "last": neighbour.last + engine.wall_minus_mono,
    }


def _alert(row: journal_query.AlertRow) -> dict[str, Any]:
    return {field: getattr(row, field) for field in row.__slots__}


def _sum(counters: dict[Reason, tuple[int, int]], low: int, high: int) -> int:
    return sum(packets for reason, (packets, _bytes) in counters.items() if low <= reason < high)
