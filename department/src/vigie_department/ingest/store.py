"""One batch, one transaction: rows, receipts and what is kept aside are committed together, or not at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.utils import timezone

from vigie.contract.firmware import FirmwareState
from vigie.contract.upward import Offline
from vigie.contract.words import Result
from vigie_department.console.models import (
    Aside,
    Box,
    BoxStatus,
    Command,
    DesiredState,
    Receipt,
)
from vigie_department.console.services import audit
from vigie_department.ingest import sql
from vigie_department.ingest.decode import Header, Poison, Report
from vigie_department.ingest.quota import Quota, cost
from vigie_department.ingest.receipts import Mark, Taken
from vigie_department.ingest.rows import Rows

MARKS_MAX: Final = 20_000
"""receipts held in memory; others are read again"""
ASIDE_MAX: Final = 5000
ASIDE_PER_BOX_HOUR: Final = 50
SEEN_EVERY: Final = timedelta(seconds=60)

Key = tuple[str, str]


@dataclass(slots=True)
class Totals:
    """What this process has done since it started."""

    messages: int = 0
    rows: int = 0
    duplicates: int = 0
    later: int = 0
    over: int = 0
    """beyond the share of their box: neither stored nor confirmed"""
    poison: int = 0
    batches: int = 0
    retries: int = 0
    published: int = 0


@dataclass(slots=True)
class _Batch:
    """What a transaction has worked out, to be adopted once it is committed."""

    marks: dict[Key, Mark] = field(default_factory=dict)
    moved: set[Key] = field(default_factory=set)
    answered: set[Key] = field(default_factory=set)
    rows: Rows = field(default_factory=Rows)
    poison: list[Poison] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    spent: dict[str, float] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    totals: Totals = field(default_factory=Totals)


class Store:
    """The only writer of receipts: one ingest runs per department (the service holds a lock)."""

    def __init__(self, quota: Quota | None = None) -> None:
        self.totals = Totals()
        self._quota = quota or Quota()
        self._marks: OrderedDict[Key, Mark] = OrderedDict()
        self._boxes: set[str] = set()
        self._seen: dict[str, datetime] = {}
        self._aside: dict[str, tuple[datetime, int]] = {}

    def write(self, items: Sequence[Report | Poison], now: datetime | None = None) -> dict[Key, int]:
        """Commit the items; returns what to confirm: (box, boot) -> upto.

        Raises django.db.DatabaseError with nothing committed and nothing remembered: the same items may come again.
        """
        now = now or timezone.now()
        batch = _Batch()
        with transaction.atomic():
            self._load(batch, {(item.box, header.boot) for item in items if (header := item.header) is not None})
            for item in items:
                self._take(batch, item, now)
            self._save(batch, now)
        self._adopt(batch, now)
        return {key: batch.marks[key].upto for key in batch.answered if batch.marks[key].upto}

    def forget(self) -> None:
        """Drop what is remembered of the database: after a failure it may be another one."""
        self._marks.clear()
        self._boxes.clear()
        self._seen.clear()

    # -- receipts

    def _load(self, batch: _Batch, keys: Iterable[Key]) -> None:
        missing: dict[str, list[str]] = {}
        for key in keys:
            known = self._marks.get(key)
            if known is not None:
                batch.marks[key] = known.copy()
            else:
                batch.marks[key] = Mark()
                missing.setdefault(key[0], []).append(key[1])
        if not missing:
            return
        boots = {boot for boots in missing.values() for boot in boots}
        for receipt in Receipt.objects.filter(box__in=missing, boot__in=boots):
            key = (receipt.box, receipt.boot)
            if key in batch.marks and key not in self._marks:
                batch.marks[key] = Mark.load(receipt.upto, receipt.beyond)

    def _take(self, batch: _Batch, item: Report | Poison, now: datetime) -> None:
        batch.totals.messages += 1
        header = item.header
        if header is not None and not self._afford(batch, item, header, now):
            batch.totals.over += 1
            return
        if header is not None and not self._account(batch, item.box, header):
            return
        if isinstance(item, Poison):
            batch.poison.append(item)
            return
        if not isinstance(item.message.body, Offline):
            # a last will is retained: each subscription brings it again, and the box is no nearer for that
            batch.seen.add(item.box)
        batch.rows.add(item.box, item.message, now)
        batch.totals.rows += 1

    def _afford(self, batch: _Batch, item: Report | Poison, header: Header, now: datetime) -> bool:
        """Whether the box's share allows it; what is stored already costs nothing."""
        mark = batch.marks[item.box, header.boot]
        if header.seq <= mark.upto or header.seq in mark.beyond:
            return True
        spent = batch.spent.get(item.box, 0.0) + cost(item, new_boot=not mark.upto and not mark.beyond)
        if spent > self._quota.left(item.box, now.timestamp()):
            batch.over.add(item.box)
            return False
        batch.spent[item.box] = spent
        return True

    @staticmethod
    def _account(batch: _Batch, box: str, header: Header) -> bool:
        """True when the row is new."""
        key = (box, header.boot)
        taken = batch.marks[key].take(header.seq, header.prev)
        if taken is Taken.LATER:
            batch.totals.later += 1
            return False
        batch.answered.add(key)
        batch.moved.add(key)
        if taken is Taken.DUPLICATE:
            batch.totals.duplicates += 1
            return False
        return True

    def _adopt(self, batch: _Batch, now: datetime) -> None:
        """The transaction is committed: remember."""
        for box, rows in batch.spent.items():
            self._quota.spend(box, rows, now.timestamp())
        for box in batch.over:
            self._quota.tell(box, now.timestamp())
        for key, mark in batch.marks.items():
            self._marks[key] = mark
            self._marks.move_to_end(key)
        while len(self._marks) > MARKS_MAX:
            self._marks.popitem(last=False)
        self._boxes |= batch.rows.boxes()
        for box in batch.seen:
            if self._stale(box, now):
                self._seen[box] = now
        for poison in batch.poison:
            since, count = self._aside_count(poison.box, now)
            self._aside[poison.box] = (since, count + 1)
        batch.totals.poison = len(batch.poison)
        totals = self.totals
        totals.batches += 1
        for name in ("messages", "rows", "duplicates", "later", "over", "poison"):
            setattr(totals, name, getattr(totals, name) + getattr(batch.totals, name))

    # -- rows

    def _save(self, batch: _Batch, now: datetime) -> None:
        rows = batch.rows
        self._know(rows.boxes() | batch.seen)
        with connection.cursor() as cursor:
            sql.insert(cursor, sql.ALERTS, list(rows.alerts.values()))
            sql.insert(cursor, sql.COUNTERS, [(*key, value) for key, value in rows.counters.items()])
            sql.insert(cursor, sql.OBSERVATIONS, [(*key, *value) for key, value in rows.observations.items()])
            sql.insert(cursor, sql.REQUESTS, rows.requests)
            sql.insert(cursor, sql.DIAGNOSTICS, rows.diagnostics)
            sql.insert(cursor, sql.STATES, [_state(box, *state, now) for box, state in rows.states.items()])
            sql.insert(cursor, sql.OFFLINE, [_offline(box, session) for box, session in rows.offline.items()])
            marks = [(*key, batch.marks[key].upto, batch.marks[key].dump(), now) for key in sorted(batch.moved)]
            sql.insert(cursor, sql.RECEIPTS, marks)
        self._answers(rows, now)
        stale = [box for box in batch.seen if self._stale(box, now)]
        if stale:
            BoxStatus.objects.filter(box__in=stale).update(seen=now)
        self._set_aside(batch.poison, now)

    def _know(self, boxes: set[str]) -> None:
        """A box that the register does not hold (yet) gets a row of its own: what it says is not lost."""
        unknown = boxes - self._boxes
        if not unknown:
            return
        found = set(Box.objects.filter(id__in=unknown).values_list("id", flat=True))
        for box in sorted(unknown - found):
            made = Box.objects.create(id=box, state=Box.State.UNKNOWN)
            audit.record(audit.INGEST, "box.unknown", made)

    @staticmethod
    def _answers(rows: Rows, now: datetime) -> None:
        for box, ack in rows.command_acks():
            Command.objects.filter(box=box, id=ack.id, state__in=(Command.State.SENT, Command.State.SILENT)).update(
                state=_COMMAND_STATES.get(ack.result.value, Command.State.FAILED),
                answered=now,
                code=ack.code.value if ack.code else "",
                detail=list(ack.detail),
            )
        for box, ack in rows.desired_acks():
            documents = DesiredState.objects.filter(box=box, version=ack.id)
            if ack.result is Result.REFUSED:
                # What was in force stays so in the history: a broker may repeat an old document, and boxes refuse it.
                documents = documents.filter(result__in=("", Result.REFUSED.value, Result.FAILED.value))
            documents.update(
                answered=now,
                result=ack.result.value,
                code=ack.code.value if ack.code else "",
                detail=list(ack.detail),
            )

    def _stale(self, box: str, now: datetime) -> bool:
        return now - self._seen.get(box, datetime.min.replace(tzinfo=now.tzinfo)) >= SEEN_EVERY

    # -- what cannot be read

    def _aside_count(self, box: str, now: datetime) -> tuple[datetime, int]:
        since, count = self._aside.get(box, (now, 0))
        return (now, 0) if now - since >= timedelta(hours=1) else (since, count)

    def _set_aside(self, poison: list[Poison], now: datetime) -> None:
        """Keep what could not be read, within limits; one audit entry per box and hour, not one per message."""
        new: dict[str, int] = {}
        for item in poison:
            before = self._aside_count(item.box, now)[1] + new.get(item.box, 0)
            new[item.box] = new.get(item.box, 0) + 1
            if before >= ASIDE_PER_BOX_HOUR:
                continue
            Aside.objects.create(
                at=now, topic=item.topic[:200], payload=item.payload, size=len(item.payload), reason=item.reason
            )
            if before == 0:
                audit.record(audit.INGEST, "message.aside", box=item.box, topic=item.topic[:200], reason=item.reason)
        if not new:
            return
        edge = Aside.objects.order_by("-id").values_list("id", flat=True)[ASIDE_MAX : ASIDE_MAX + 1]
        for oldest in edge:
            Aside.objects.filter(id__lte=oldest).delete()


_COMMAND_STATES: Final = {
    "done": Command.State.DONE,
    "in_force": Command.State.DONE,
    "failed": Command.State.FAILED,
    "refused": Command.State.REFUSED,
    "expired": Command.State.EXPIRED,
}


def _state(box: str, message: Any, state: Any, now: datetime) -> tuple[Any, ...]:
    base, refused = state.base, state.desired.refused
    return (
        box,
        True,
        state.session,
        message.seq,
        now,
        state.version,
        base.version if base else None,
        base.entries if base else None,
        state.candidate,
        state.desired.version,
        state.desired.status.value,
        refused.value if refused else "",
        state.isolation,
        state.quarantined,
        state.exceptions,
        state.inbound.value,
        state.filter.value,
        state.uptime_s,
        state.disk_free_mb,
        state.mem_free_mb,
        state.load,
        state.roles_known,
        state.losses,
        *_firmware(state.firmware),
    )


def _firmware(told: FirmwareState | None) -> tuple[Any, ...]:
    """Columns `firmware_*`: version, order, phase, code, check, tries, floor."""
    if told is None:
        return ("", 0, "", "", "", 0, "")
    return (
        str(told.version or ""),
        told.order,
        told.phase.value,
        told.code.value if told.code else "",
        told.check.value if told.check else "",
        told.tries,
        str(told.floor or ""),
    )


def _offline(box: str, session: int) -> tuple[Any, ...]:
    return (box, False, session, 0, None, "", "", 0, 0, 0, "", "", "", 0, *_firmware(None))
