"""Orders of the department: received, judged, put into force by the filter, kept, answered, repaired.

The filter keeps its own copy and checks the limits again; this side decides what is new, keeps the signed envelope, and
sees to it that what is in force is what was ordered, after a restart of either.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

from vigie.contract.upward import DETAIL, DETAIL_MAX, Ack
from vigie.contract.words import Code, DesiredStatus, Result
from vigie.contract.words import Order as Direction
from vigie.errors import DaemonError, HostError, VigieError
from vigie.link.complaints import Complaints
from vigie.link.filterclient import FilterPort, refusal
from vigie.link.orders import Now, Order, Refused, judge_desired, reopen_desired
from vigie.link.store import Kept, Store

log = logging.getLogger("vigie.link")

_RESULTS: Final = {
    DesiredStatus.IN_FORCE: Result.IN_FORCE,
    DesiredStatus.PARTIAL: Result.PARTIAL,
    DesiredStatus.EXPIRED: Result.EXPIRED,
}


class Steering:
    """The order in force, the one that waits for the filter, and what was answered."""

    def __init__(
        self,
        store: Store,
        filter_port: FilterPort,
        now: Callable[[], Now],
        answer: Callable[[Ack], None],
        complaints: Complaints,
    ) -> None:
        self._store = store
        self._filter = filter_port
        self._now = now
        self._answer = answer
        self._order: Order | None = None
        self._pending: Order | None = None
        self._version = 0
        self._answered = ""
        self._complaints = complaints
        self._turn = asyncio.Lock()
        self.refused: Code | None = None
        self.shown: dict[str, Any] | None = None

    @property
    def version(self) -> int:
        """Highest version ever in force here."""
        return self._version

    def load(self, box: str) -> None:
        """What was in force when the box was switched off."""
        kept = self._store.load_desired()
        if kept is None:
            return
        self._version, self._answered = kept.version, kept.answered
        try:
            self._order = reopen_desired(kept.envelope, self._store.keys(), box)
        except (Refused, VigieError) as e:
            log.error("the order kept on the disk is not applied again: %s", e)

    async def receive(self, data: bytes, box: str) -> None:
        """A message on `down/desired`."""
        async with self._turn:
            newest = self._pending or self._order
            try:
                order = judge_desired(
                    data,
                    self._store.keys(),
                    box,
                    self._now(),
                    newer_than=max(self._version, newest.version if newest else 0),
                    in_force=newest.digest if newest else "",
                )
            except Refused as e:
                self._refuse(e, data)
                return
            if order is not None:
                self._pending = order
            await self._settle()

    async def reconcile(self) -> None:
        """Compares what is in force with what was ordered, and repairs. DaemonError when the filter does not answer."""
        async with self._turn:
            if self._pending is None and self._order is not None:
                self.shown = await self._filter.department_show()
                if _version(self.shown) < self._order.version:
                    log.warning(
                        "the filter has version %d of the orders; applying %d again",
                        _version(self.shown),
                        self._order.version,
                    )
                    self.shown = await self._apply(self._order)
                self._told_in_force(self._order)
            else:
                await self._settle()
                if self.shown is None:
                    self.shown = await self._filter.department_show()

    async def _settle(self) -> None:
        """Puts the pending order into force, if there is one. When the filter is not there it stays pending."""
        order = self._pending
        if order is None:
            return
        try:
            shown = await self._filter.department(order)
        except Refused as e:
            self._pending = None
            self._refuse(e, order.envelope)
            return
        except DaemonError as e:
            # Not there, or not able now (its disk is full, a table is): asked again; the department is told once.
            log.error("order %d waits: %s", order.version, e)
            code = refusal(str(e), order.version).code
            known = code is not Code.FILTER_REFUSED
            if known and self._complaints.worth_telling(f"{order.digest} {code.value}".encode(), time.monotonic()):
                self._answer(Ack(Direction.DESIRED, order.version, Result.FAILED, code, ()))
            return
        self._pending, self._order, self._version = None, order, order.version
        self.refused, self.shown, self._answered = None, shown, ""
        saved = self._keep(order)
        self._told_in_force(order, None if saved else Code.NOT_SAVED)

    async def _apply(self, order: Order) -> dict[str, Any] | None:
        try:
            return await self._filter.department(order)
        except Refused as e:
            # The same order was taken once: what refuses it now is the time (expired), which the filter knows best.
            log.warning("order %d is not taken again: %s", order.version, e)
            return self.shown

    def _keep(self, order: Order) -> bool:
        try:
            self._store.save_desired(Kept(order.envelope, order.version, self._answered))
            self._store.save_settings(order.desired)
        except HostError as e:
            log.error("order %d is in force but could not be kept: %s", order.version, e)
            return False
        return True

    def _told_in_force(self, order: Order, code: Code | None = None) -> None:
        """Answers when what is in force is not what was answered last."""
        shown = self.shown or {}
        if _version(shown) != order.version:
            return
        word = shown.get("status")
        result = _RESULTS.get(DesiredStatus(word)) if word in tuple(DesiredStatus) else None
        if result is None:
            return
        detail = details(shown.get("refused"))
        if code is not None and result is Result.IN_FORCE:
            result = Result.PARTIAL
        answered = f"{result.value} {' '.join(detail)}"
        if answered == self._answered:
            return
        self._answer(Ack(Direction.DESIRED, order.version, result, code, detail))
        self._answered = answered
        if code is None:
            self._keep(order)

    def _refuse(self, e: Refused, data: bytes) -> None:
        self.refused = e.code
        if not self._complaints.worth_telling(data, time.monotonic()):
            return
        log.warning("order refused: %s", e)
        result = Result.EXPIRED if e.code is Code.EXPIRED else Result.REFUSED
        self._answer(Ack(Direction.DESIRED, e.version, result, e.code, ()))


def details(refused: object) -> tuple[str, ...]:
    """The filter's list of refused parts as `ack.detail`: places and codes in the contract's form, others left out."""
    out = []
    for part in refused if isinstance(refused, list) else []:
        text = f"{part.get('what')}:{part.get('code')}" if isinstance(part, dict) else ""
        if len(text) <= 64 and re.fullmatch(DETAIL, text):
            out.append(text)
    return tuple(out[:DETAIL_MAX])


def _version(shown: dict[str, Any]) -> int:
    value = shown.get("version")
    return value if isinstance(value, int) else 0
