"""Operations of the outbox, for the link: rows out, receipts in, its own rows added."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vigie.contract.envelope import BOOT
from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.contract.strictjson import INTEGER_MAX
from vigie.contract.upward import body_from_fields
from vigie.contract.words import Clock, Kind
from vigie.errors import DaemonError, JournalError, UsageError
from vigie.filter.api import Operation, Params
from vigie.filter.engine import Engine
from vigie.filter.outbox import LIMIT_MAX, OutboxFull, Row
from vigie.filter.params import text, whole
from vigie.filter.privilege import only

TAKE_DEFAULT = 100


class OutboxOps:
    """Bound to an engine. The journal's disk is waited for in another thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def once(self) -> Mapping[str, Operation]:
        """Operations that answer once."""
        operations: Mapping[str, Operation] = {
            "outbox": self._outbox,
            "outbox-received": self._received,
            "outbox-add": self._add,
            "outbox-stats": self._stats,
        }
        return only(self._engine.config.link_user, operations)

    async def _outbox(self, params: Params) -> dict[str, Any]:
        limit = whole(params, "limit", 1, LIMIT_MAX, TAKE_DEFAULT)
        above = whole(params, "above", 0, INTEGER_MAX, 0)
        outbox = self._engine.journal.outbox
        stats = outbox.stats
        if outbox.known and (not stats.rows or above >= stats.last_id):
            return {"rows": []}  # asked every second: nothing is written to the disk for nothing
        return {"rows": await self._run(lambda outbox, db: outbox.take(db, limit, above))}

    async def _received(self, params: Params) -> dict[str, Any]:
        boot, upto = text(params, "boot"), whole(params, "upto", 1, INTEGER_MAX)
        if BOOT.fullmatch(boot) is None:
            raise UsageError("`boot` is 32 hexadecimal digits")
        return {"deleted": await self._run(lambda outbox, db: outbox.received(db, boot, upto))}

    async def _add(self, params: Params) -> dict[str, Any]:
        try:
            kind = Kind(text(params, "kind"))
        except ValueError as e:
            raise UsageError("`kind` is one of the contract's") from e
        if not kind.in_outbox:
            raise UsageError(f"`{kind.value}` does not wait in the outbox")
        try:
            fields = Fields(kind.value, params.get("body"))
            body = body_from_fields(kind, fields)
            fields.done()
        except ContractError as e:
            raise UsageError(str(e)) from e
        time = self._engine.trusted_time()
        row = Row(body, int(time.unix_s), Clock(time.word))
        boot, seq = await self._run(lambda outbox, db: outbox.add(db, row))
        return {"boot": boot, "seq": seq}

    async def _stats(self, _params: Params) -> dict[str, Any]:
        if not self._engine.journal.outbox.known:
            await self._run(lambda _outbox, _db: None)
        return asdict(self._engine.journal.outbox.stats)

    async def _run(self, work: Any) -> Any:
        try:
            return await asyncio.to_thread(self._engine.journal.with_outbox, work)
        except OutboxFull as e:
            raise DaemonError(f"[outbox-full] {e}") from e
        except JournalError as e:
            raise DaemonError(str(e)) from e
