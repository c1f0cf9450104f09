"""What the socket offers: each operation checks its parameters, then asks the engine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from vigie.contract.codes import Action
from vigie.errors import DaemonError, ListError, UsageError
from vigie.filter import abi, journal_query, selftest, status, why, wording
from vigie.filter.api import Hub, Operation, Params, Stream
from vigie.filter.base import lists
from vigie.filter.base_ops import BaseOps
from vigie.filter.department_ops import DepartmentOps
from vigie.filter.engine import Engine
from vigie.filter.journal import Attempt
from vigie.filter.learning import Use
from vigie.filter.local_policy import LocalPolicy, Rule, canonical_device, canonical_target
from vigie.filter.outbox_ops import OutboxOps
from vigie.filter.params import number as _number
from vigie.filter.params import text as _text
from vigie.filter.params import whole as _whole
from vigie.filter.privilege import confined, confined_streams
from vigie.filter.zones import Alert
from vigie.i18n import _

DEFAULT_RULE_S = 86_400.0
WATCH_EVERY_S = 1.0
WATCH_KEYS_MAX = 500
RECENT_SHOWN = 5


class Operations:
    """The operations, bound to an engine. `stop(detach)` is the daemon's."""

    def __init__(
        self,
        engine: Engine,
        hub: Hub,
        hold_alive: Callable[[], bool],
        stop: Callable[[bool], None],
    ) -> None:
        self._engine = engine
        self._hub = hub
        self._hold_alive = hold_alive
        self._stop = stop
        self._testing = asyncio.Lock()
        self._outbox = OutboxOps(engine)
        self._base = BaseOps(engine)
        self._department = DepartmentOps(engine, self._base.rebuild)

    def once(self) -> Mapping[str, Operation]:
        """Operations that answer once."""
        operations: Mapping[str, Operation] = {
            "status": self._status,
            "why": self._why,
            "allow": self._rule(Action.ALLOW),
            "block": self._rule(Action.BLOCK),
            "observe": self._rule(Action.OBSERVE),
            "rules": self._rules,
            "quarantine": self._quarantine,
            "isolate": self._isolate,
            "top": self._top,
            "learned": self._learned,
            "learned-revoke": self._learned_revoke,
            "self-test": self._self_test,
            "stop": self._stop_op,
            **self._base.once(),
            **self._outbox.once(),
            **self._department.once(),
        }
        return confined(self._engine.config.link_user, operations)

    def streams(self) -> Mapping[str, Stream]:
        """Operations that go on."""
        return confined_streams(self._engine.config.link_user, {"watch": self._watch})

    # ---- looking ---------------------------------------------------------------------------------------------

    async def _status(self, _params: Params) -> dict[str, Any]:
        return status.collect(self._engine, self._hold_alive())

    async def _rules(self, _params: Params) -> dict[str, Any]:
        return status.policy_json(self._engine.effective_policy())

    async def _why(self, params: Params) -> dict[str, Any]:
        proto, port = _whole(params, "proto", 0, 255), _whole(params, "port", 0, 65535)
        question = why.parse_question(_text(params, "target"), _text(params, "device", ""), proto, port)
        answer = why.explain(question, self._view())
        listed = any(o.layer.startswith("toxic") and o.opinion != "none" for o in answer.opinions) or answer.category
        sources = await asyncio.to_thread(self._engine.base.sources, question) if listed else ()
        journal = self._engine.journal
        recent = await asyncio.to_thread(
            journal_query.recent, journal.path, RECENT_SHOWN, question.device, answer.target, journal.pending()
        )
        return answer.to_json() | {
            "sources": [asdict(s) for s in sources],
            "recent": [asdict(a) | {"text": wording.reason(a.reason)} for a in recent],
        }

    def _view(self) -> why.View:
        engine = self._engine
        devices = {d.mac: d for d in engine.datapath.tables.device_class.list()}
        ports = {(p.proto, p.port): p.rank for p in engine.datapath.tables.essential_ports.list()}

        def device(mac: str) -> tuple[int, int]:
            found = devices.get(abi.mac_bytes(mac)) if mac else None
            return (int(found.device_class), found.essential_rank) if found else (0, 0)

        return why.View(
            engine.base.lookup(),
            engine.effective_policy(),
            tuple(engine.seen.onlink if engine.seen else ()),
            resolved=self._resolved,
            dynamic=self._dynamic,
            device=device,
            port_rank=lambda proto, port: ports.get((proto, port), 0),
            protected_by=_protected_by,
        )

    def _resolved(self, address: str) -> tuple[bool, int] | None:
        raw = self._engine.datapath.maps["resolved"].lookup(abi.address_bytes(address))
        if raw is None:
            return None
        value = abi.unpack(abi.RESOLVED_VALUE, raw)
        if int(value["until_s"]) <= self._engine.now:
            return None
        return bool(value["never"]), int(value["rank"])

    def _dynamic(self, device: str, address: str) -> bool:
        wanted = {abi.mac_bytes(device) if device else None, None}
        rows = self._engine.datapath.tables.dynamic.list()
        one = ipaddress.ip_address(address)
        return any(r.mac in wanted and ipaddress.ip_address(r.address) == one for r in rows)

    async def _top(self, params: Params) -> dict[str, Any]:
        by = _text(params, "by", "destination")
        if by not in ("destination", "device", "reason"):
            raise UsageError("`by` is destination, device or reason")
        since = self._engine.clock.wall_s() - _number(params, "since_s", 86_400.0, 1, 31 * 86_400.0)
        limit = _whole(params, "limit", 1, journal_query.LIMIT_MAX, 20)
        journal = self._engine.journal
        rows = await asyncio.to_thread(journal_query.top, journal.path, by, since, limit, journal.pending())  # type: ignore[arg-type]
        return {"by": by, "rows": [asdict(r) for r in rows]}

    async def _watch(self, params: Params) -> AsyncIterator[dict[str, Any]]:
        device = canonical_device(_text(params, "device", ""))
        with self._hub.subscribed() as queue:
            while True:
                for item in _second(await _gather(queue), device):
                    yield item

    # ---- deciding --------------------------------------------------------------------------------------------

    def _rule(self, action: Action) -> Operation:
        async def operation(params: Params) -> dict[str, Any]:
            engine = self._engine
            target, device = canonical_target(_text(params, "target")), canonical_device(_text(params, "device", ""))
            if params.get("remove"):
                self._set(engine.policy.without_rule(target, device))
                return {"target": target, "device": device}
            now = engine.clock.wall_s()
            until = now + _number(params, "for_s", DEFAULT_RULE_S, 1, 366 * 86_400.0)
            proto, port = _whole(params, "proto", 0, 255), _whole(params, "port", 0, 65535)
            rule = Rule(action, target, device, proto, port, until, now, _text(params, "note", ""))
            self._set(engine.policy.with_rule(rule, now))
            return status.rule_json(rule) | {"warning": self._warning(rule)}

        return operation

    def _warning(self, rule: Rule) -> str:
        """What the person may not expect of the rule."""
        lookup = self._engine.base.lookup()
        if lookup is None or rule.action is not Action.BLOCK or not rule.is_name:
            return ""
        if any(lookup.classes[c].never for _suffix, c in lookup.suffixes(rule.target)):
            return _("{target} est un service protégé : cette règle le bloque quand même").format(target=rule.target)
        return ""

    async def _quarantine(self, params: Params) -> dict[str, Any]:
        engine = self._engine
        mac = canonical_device(_text(params, "mac"))
        if not mac:
            raise UsageError(_("l'adresse MAC de l'appareil est nécessaire"))
        if params.get("remove"):
            ordered = self._lift(lambda: engine.department.lift_quarantine(mac))
            if not ordered or any(q.mac == mac for q in engine.policy.quarantine):
                self._set(engine.policy.without_quarantine(mac), lift=True)
            else:
                engine.apply_policy()
            return {"mac": mac, "ordered": ordered}
        now = engine.clock.wall_s()
        until = now + self._bounded_duration(params)
        self._set(engine.policy.with_quarantine(mac, until, now, engine.protected_macs()))
        return {"mac": mac, "until": until}

    async def _isolate(self, params: Params) -> dict[str, Any]:
        engine = self._engine
        level = _whole(params, "level", 0, 3)
        until = engine.clock.wall_s() + self._bounded_duration(params) if level else 0.0
        ordered = self._lift(engine.department.lift_isolation) if not level else False
        if ordered and not engine.policy.isolation.level:
            engine.apply_policy()  # nothing of the commune's own has to be kept
        else:
            self._set(engine.policy.with_isolation(level, until), lift=not level)
        return {"level": level, "until": until, "ordered": ordered}

    def _lift(self, lift: Callable[[], bool]) -> bool:
        """Lifts what the department ordered; whether it had ordered it. The department is told."""
        ordered = lift()
        if ordered:
            self._engine.reports.local_lift()
        return ordered

    def _bounded_duration(self, params: Params) -> float:
        longest = self._engine.config.isolation.hours * 3600
        return _number(params, "for_s", longest, 1, longest)

    def _set(self, policy: LocalPolicy, *, lift: bool = False) -> None:
        try:
            self._engine.set_policy(policy, lift=lift)
        except OSError as e:
            where = self._engine.policy_file
            raise DaemonError(
                _("{path} : décision impossible à garder ({why})").format(path=where, why=e.strerror)
            ) from e

    async def _learned(self, _params: Params) -> dict[str, Any]:
        state = self._engine.learning
        uses = [status.use_json(use, learned) for use, learned in state.uses.items()]
        return {"uses": uses, "learning_left_s": self._engine.learning_left_s()}

    async def _learned_revoke(self, params: Params) -> dict[str, Any]:
        mac = abi.mac_bytes(canonical_device(_text(params, "mac")))
        use = Use(mac, _whole(params, "proto", 1, 255), _whole(params, "port", 1, 65535))
        state = self._engine.learning.revoked(use)
        self._engine.set_learning(state)
        return status.use_json(use, state.uses[use])

    # ---- acting ----------------------------------------------------------------------------------------------

    async def _self_test(self, _params: Params) -> dict[str, Any]:
        async with self._testing:
            with self._hub.subscribed() as queue:
                return (await selftest.run(self._engine, queue)).to_json()

    async def _stop_op(self, params: Params) -> dict[str, Any]:
        detach = bool(params.get("detach", False))
        # After the answer has left.
        asyncio.get_running_loop().call_later(0.1, self._stop, detach)
        return {"detach": detach}


async def _gather(queue: asyncio.Queue[Attempt | Alert]) -> list[Attempt | Alert]:
    """What happens within a second of the first thing that happens."""
    items = [await queue.get()]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WATCH_EVERY_S):
            while len(items) < WATCH_KEYS_MAX:
                items.append(await queue.get())
    return items


def _second(items: list[Attempt | Alert], device: str) -> list[dict[str, Any]]:
    """One line per alert, and per (device, destination, reason) with its count."""
    out: list[dict[str, Any]] = []
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for item in items:
        if isinstance(item, Alert):
            fields = {"kind": item.kind.value, "severity": item.severity, "port": item.port, "address": item.address}
            out.append({"type": "alert", "last": time.time(), "mac": item.mac.hex(":"), **fields})
            continue
        if device not in ("", item.device):
            continue
        key = (item.device, item.destination, item.reason)
        if key in rows:
            rows[key]["packets"] += 1
            rows[key]["last"] = item.when
        else:
            # The journal goes on adding to its row: only what this one event says is taken.
            rows[key] = {"type": "attempt", **asdict(item), "packets": 1, "last": item.when}
            out.append(rows[key])
    return out


def _protected_by(name: str) -> str:
    try:
        never = lists.never_block()
    except (OSError, ListError):
        return ""
    return next((f"{n.category}, {n.source}" for n in never.entries if n.name == name), "")
