"""`vigie-department retain`: delete what has been kept long enough, table by table, in small transactions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import models
from django.db.models import Max
from django.utils import timezone

from vigie_department.config import Retention
from vigie_department.console.models import (
    Alert,
    Aside,
    AuditEntry,
    Command,
    Counter,
    DesiredState,
    Diagnostic,
    ExceptionRequest,
    Observation,
    Outgoing,
    Receipt,
)
from vigie_department.console.services import audit
from vigie_department.console.services.audit import Actor

AT_ONCE: Final = 2000
FUTURE: Final = timedelta(days=2)
"""how far a box's clock may be ahead before what it dated is of no use"""
AUDIT_MIN_DAYS: Final = 180
"""the database itself refuses to delete younger entries"""


def old(kept: Retention, now: datetime) -> Iterator[tuple[str, models.QuerySet[Any]]]:
    """(table, rows that have been kept long enough)."""

    def edge(days: int) -> datetime:
        return now - timedelta(days=days)

    # a box that says it is the year 9999 does not have its rows kept until then
    future = now + FUTURE
    told = models.Q(last__lt=edge(kept.alerts)) | models.Q(last__gt=future)
    yield "alerts", Alert.objects.filter(told, received__lt=edge(kept.alerts))
    yield "counters", Counter.objects.filter(models.Q(hour__lt=edge(kept.counters)) | models.Q(hour__gt=future))
    yield "observed", Observation.objects.filter(models.Q(last__lt=edge(kept.observed)) | models.Q(last__gt=future))
    yield "requests", ExceptionRequest.objects.filter(received__lt=edge(kept.requests))
    yield "diagnostics", Diagnostic.objects.filter(received__lt=edge(kept.diagnostics))
    yield "commands", Command.objects.filter(issued__lt=edge(kept.commands))
    # the newest document of a box is the one in force, however old
    newest = DesiredState.objects.values("box").annotate(top=Max("pk")).values("top")
    yield "documents", DesiredState.objects.filter(issued__lt=edge(kept.documents)).exclude(pk__in=newest)
    yield "outgoing", Outgoing.objects.filter(sent__lt=edge(kept.outgoing))
    yield "aside", Aside.objects.filter(at__lt=edge(kept.aside))
    # a box that was away for longer says so itself: its oldest row has no row before it
    yield "receipts", Receipt.objects.filter(updated__lt=edge(kept.alerts))
    yield "audit", AuditEntry.objects.filter(at__lt=edge(max(kept.audit, AUDIT_MIN_DAYS + 1)))


def run(actor: Actor, kept: Retention, *, now: datetime | None = None, dry: bool = False) -> dict[str, int]:
    """Delete; returns rows per table. dry: count only."""
    done: dict[str, int] = {}
    for name, rows in old(kept, now or timezone.now()):
        if dry:
            done[name] = rows.count()
            continue
        done[name] = 0
        while keys := list(rows.order_by("pk").values_list("pk", flat=True)[:AT_ONCE]):
            done[name] += rows.model._default_manager.filter(pk__in=keys).delete()[0]
    if not dry and any(done.values()):
        audit.record(actor, "retain", rows={name: count for name, count in done.items() if count})
    return done
