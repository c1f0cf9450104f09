"""What the commands show: plain data for programs, and the same as text for people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from vigie_department.console.models import (
    Alert,
    AuditEntry,
    Box,
    BoxStatus,
    Command,
    Commune,
    ExceptionRequest,
    PolicyException,
)
from vigie_department.texts import _

HISTORY = 20


def _status(one: Box) -> BoxStatus | None:
    return BoxStatus.objects.filter(box=one).first()


def boxes(*, state: str = "", offline: bool = False) -> list[dict[str, Any]]:
    """One line per box."""
    found = Box.objects.select_related("commune", "status")
    if state:
        found = found.filter(state=state)
    if offline:
        found = found.filter(Q(status=None) | Q(status__online=False))
    rows = []
    for one in found:
        status = getattr(one, "status", None)
        rows.append(
            {
                "id": one.pk,
                "serial": one.serial,
                "commune": str(one.commune) if one.commune else "",
                "state": one.state,
                "online": bool(status and status.online),
                "base": status.base_version if status else None,
                "seen": status.seen if status else None,
            }
        )
    return rows


def box(one: Box) -> dict[str, Any]:
    """Everything about one box that fits on a page."""
    status = _status(one)
    document = one.documents.order_by("-version").first()
    since = timezone.now() - timedelta(days=7)
    return {
        "id": one.pk,
        "serial": one.serial,
        "claim_id": one.claim_id,
        "model": one.model,
        "lot": one.lot,
        "warranty_until": one.warranty_until,
        "location": one.location,
        "spare": one.spare,
        "commune": str(one.commune) if one.commune else None,
        "state": one.state,
        "replaced_by": one.replaced_by_id,
        "status": None
        if status is None
        else {
            field.name: getattr(status, field.name)
            for field in BoxStatus._meta.concrete_fields
            if field.name not in ("box", "state_seq")
        },
        "document": None
        if document is None
        else {
            "version": document.version,
            "expires": document.expires,
            "result": document.result,
            "code": document.code,
            "detail": document.detail,
        },
        "certificates": [
            {"number": row.number, "state": row.state, "not_after": row.not_after} for row in one.certificates.all()[:5]
        ],
        "alerts_7_days": Alert.objects.filter(box=one, received__gte=since).count(),
        "history": [
            {"at": row.at, "actor": row.actor, "action": row.action, "detail": row.detail}
            for row in AuditEntry.objects.filter(box=one.pk).order_by("-id")[:HISTORY]
        ],
    }


def communes() -> list[dict[str, Any]]:
    """One line per commune."""
    found = Commune.objects.annotate(number=Count("boxes"))
    return [{"insee": row.insee, "name": row.name, "epci": row.epci, "boxes": row.number} for row in found]


def scope(row: Any) -> str:
    """Whom a rule is for."""
    if row.box_id:
        return str(row.box_id)
    return str(row.commune) if row.commune_id else _("toutes les communes")


def exceptions() -> list[dict[str, Any]]:
    """Those in force."""
    found = PolicyException.objects.filter(removed=None, until__gt=timezone.now()).select_related("commune")
    return [
        {
            "id": row.pk,
            "action": row.action,
            "target": row.target,
            "device": row.device,
            "scope": scope(row),
            "until": row.until,
            "note": row.note,
        }
        for row in found
    ]


def requests() -> list[dict[str, Any]]:
    """Those that wait for an answer."""
    found = ExceptionRequest.objects.filter(state=ExceptionRequest.State.OPEN).select_related("box__commune")
    return [
        {
            "id": row.pk,
            "box": row.box_id,
            "commune": str(row.box.commune) if row.box.commune else row.box_id,
            "indicator": row.indicator,
            "days": row.days,
            "words": row.words,
        }
        for row in found
    ]


def wait_answer(row: Command, how_long: timedelta) -> None:
    """Read the command again until the box has answered, or the time is over."""
    deadline = time.monotonic() + how_long.total_seconds()
    while row.state == Command.State.SENT and time.monotonic() < deadline:
        time.sleep(0.1)
        row.refresh_from_db()


def cell(value: Any) -> str:
    """One value as people read it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return _("oui") if value else _("non")
    if isinstance(value, datetime):
        return f"{timezone.localtime(value):%d/%m/%Y %H:%M}"
    return str(value)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Columns side by side."""
    lines = [list(columns), *([cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def box_table(rows: Sequence[dict[str, Any]]) -> str:
    """The list of boxes in words."""
    states = dict(Box.State.choices)
    headings = {
        "id": _("identifiant"),
        "commune": _("commune"),
        "state": _("état"),
        "online": _("en ligne"),
        "base": _("base"),
        "seen": _("vu le"),
    }
    said = [{**row, "state": states.get(row["state"], row["state"])} for row in rows]
    return table([{text: row[name] for name, text in headings.items()} for row in said], tuple(headings.values()))


def text(shown: dict[str, Any], indent: str = "") -> str:
    """Nested data, one line per value."""
    lines = []
    for name, value in shown.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", text(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{name}:")
            lines += [f"{indent}  " + "  ".join(cell(part) for part in item.values()) for item in value]
        else:
            lines.append(f"{indent}{name}: {cell(value)}")
    return "\n".join(lines)
