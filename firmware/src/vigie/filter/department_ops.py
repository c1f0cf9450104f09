"""Operations of the department's orders, for the link and for whoever asks what is in force."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vigie.contract import strictjson
from vigie.contract.words import Code
from vigie.errors import BaseError, DaemonError, HostError, KernelError, UsageError
from vigie.filter import department_second, status
from vigie.filter.api import Operation, Params
from vigie.filter.department import OrderError
from vigie.filter.engine import Engine
from vigie.filter.privilege import only

log = logging.getLogger("vigie.filter")

Rebuild = Callable[[Path], Any]


class DepartmentOps:
    """Bound to an engine. `rebuild(lists)` puts the base in force again with the lists in that file."""

    def __init__(self, engine: Engine, rebuild: Rebuild) -> None:
        self._engine = engine
        self._rebuild = rebuild
        self._one = asyncio.Lock()

    def once(self) -> Mapping[str, Operation]:
        """Operations that answer once."""
        ordered = only(self._engine.config.link_user, {"department": self._department})
        return {**ordered, "department-show": self._show}

    async def _department(self, params: Params) -> dict[str, Any]:
        engine, layer = self._engine, self._engine.department
        payload, second = self._payload(params)
        async with self._one:
            version = layer.orders.version
            box = department_second.box_id(engine.config.box_state)
            if second and not box:
                raise OrderError(Code.FOREIGN, "this box has no id yet: no order signed offline can be its own")
            try:
                layer.order(payload, box, second=second)
            except HostError as e:
                raise DaemonError(f"[{Code.NOT_SAVED.value}] {e}") from e
            try:
                engine.apply_policy()
                engine.apply_roles()
            except KernelError as e:
                raise DaemonError(f"[{Code.TABLE_FULL.value}] {e}") from e
            if layer.orders.version != version:
                await self._lists()
        return layer.to_json()

    def _payload(self, params: Params) -> tuple[bytes, bool]:
        """The document and whether offline keys signed it: only an envelope can show that."""
        envelope, policy = params.get("envelope"), params.get("policy")
        if envelope is not None:
            if not isinstance(envelope, dict | str):
                raise UsageError("`envelope` is a DSSE envelope: an object, or its text")
            data = envelope.encode() if isinstance(envelope, str) else strictjson.dumps(envelope)
            return department_second.opened(data, self._engine.config.trust)
        if not isinstance(policy, dict):
            raise UsageError("`policy` is the payload of a verified desired state: an object")
        return strictjson.dumps(policy), False

    async def _lists(self) -> None:
        """Essential services and protected names are part of the base's image: it is built again with them."""
        engine = self._engine
        try:
            if engine.department.write_lists():
                await self._rebuild(engine.department.lists_path)
            engine.problems.pop("department-lists", None)
        except (HostError, BaseError, KernelError) as e:
            # The rules hold already; what is missing is said, and tried again with the next base.
            log.error("%s", e)
            engine.problems["department-lists"] = str(e)

    async def _show(self, _params: Params) -> dict[str, Any]:
        layer = self._engine.department
        shown = layer.to_json()
        shown["rules"] = [status.rule_json(rule) for rule in layer.rules()]
        shown["refused_detail"] = [asdict(part) | {"code": part.code.value} for part in layer.refused()]
        return shown
