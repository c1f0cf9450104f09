"""Statements of the ingest, the same for SQLite and PostgreSQL. Django's ORM costs ten times as much per row.

Each takes rows of Python values in the order of its columns. Date and JSON values are adapted to the database here.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connection

_CHUNK: Final = 10_000  # values per statement; SQLite takes 32,766, PostgreSQL 65,535

_ALERT_COLUMNS: Final = (
    "box_id",
    "boot",
    "seq",
    "received",
    "alert_id",
    "sent",
    "clock",
    "rule",
    "reason",
    "severity",
    "category",
    "direction",
    "indicator",
    "device",
    "device_class",
    "count",
    "first",
    "last",
    "incident",
    "handled_by",
)
_ALERT_GROWS: Final = ("seq", "sent", "clock", "severity", "count", "first", "last", "incident")
_FIRMWARE_COLUMNS: Final = (
    "firmware_version",
    "firmware_order",
    "firmware_phase",
    "firmware_code",
    "firmware_check",
    "firmware_tries",
    "firmware_floor",
)
_STATE_COLUMNS: Final = (
    "box_id",
    "online",
    "session",
    "state_seq",
    "seen",
    "version",
    "base_version",
    "base_entries",
    "candidate",
    "desired_version",
    "desired_status",
    "desired_refused",
    "isolation",
    "quarantined",
    "exceptions",
    "inbound",
    "filter",
    "uptime_s",
    "disk_free_mb",
    "mem_free_mb",
    "load",
    "roles_known",
    "losses",
    *_FIRMWARE_COLUMNS,
)


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _grow(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}" = excluded."{column}"' for column in columns)


ALERTS: Final = (
    "console_alert",
    _ALERT_COLUMNS,
    f"ON CONFLICT (box_id, boot, alert_id) DO UPDATE SET {_grow(_ALERT_GROWS)} WHERE console_alert.seq < excluded.seq",
)
COUNTERS: Final = (
    "console_counter",
    ("box_id", "hour", "name", "value"),
    "ON CONFLICT (box_id, hour, name) DO UPDATE SET value = console_counter.value + excluded.value",
)
OBSERVATIONS: Final = (
    "console_observation",
    ("box_id", "candidate", "indicator", "count", "last"),
    "ON CONFLICT (box_id, candidate, indicator) DO UPDATE "
    'SET "count" = console_observation."count" + excluded."count", "last" = excluded."last"',
)
REQUESTS: Final = (
    "console_exceptionrequest",
    (
        "box_id",
        "boot",
        "seq",
        "received",
        "indicator",
        "device",
        "days",
        "words",
        "consent",
        "consent_by",
        "state",
        "answered_by",
    ),
    "ON CONFLICT (box_id, boot, seq) DO NOTHING",
)
DIAGNOSTICS: Final = (
    "console_diagnostic",
    ("box_id", "boot", "seq", "received", "command", "consent", "items"),
    "ON CONFLICT (box_id, boot, seq) DO NOTHING",
)
STATES: Final = (
    "console_boxstatus",
    _STATE_COLUMNS,
    f"ON CONFLICT (box_id) DO UPDATE SET {_grow(_STATE_COLUMNS[1:])} "
    "WHERE (console_boxstatus.session, console_boxstatus.state_seq) < (excluded.session, excluded.state_seq)",
)
OFFLINE: Final = (
    # a last will ends its own session; a box that was never seen has a row all the same
    "console_boxstatus",
    (
        *("box_id", "online", "session", "state_seq", "seen"),
        *("desired_status", "desired_refused", "isolation", "quarantined", "exceptions", "inbound", "filter"),
        *("version", "losses"),
        *_FIRMWARE_COLUMNS,
    ),
    "ON CONFLICT (box_id) DO UPDATE SET online = excluded.online, session = excluded.session, "
    "state_seq = CASE WHEN console_boxstatus.session < excluded.session THEN 0 ELSE console_boxstatus.state_seq END "
    "WHERE console_boxstatus.session <= excluded.session",
)
RECEIPTS: Final = (
    "console_receipt",
    ("box", "boot", "upto", "beyond", "updated"),
    f"ON CONFLICT (box, boot) DO UPDATE SET {_grow(('upto', 'beyond', 'updated'))}",
)

Statement = tuple[str, tuple[str, ...], str]
_JSON: Final = json.JSONEncoder(ensure_ascii=False).encode
_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


def insert(cursor: Any, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows, in as few round trips as the database takes. No key may stand twice in `rows`.

    SQLite compiles one short statement and runs it for each row, which has no round trip; to a PostgreSQL server many
    rows go in each statement.
    """
    if not rows:
        return
    adapted: dict[datetime, Any] = {}
    if connection.vendor == "sqlite":
        cursor.executemany(
            _text(statement, 1),
            [[v if type(v) in _PLAIN else adapt(v, adapted) for v in row] for row in rows],
        )
        return
    most = max(1, _CHUNK // len(statement[1]))
    for start in range(0, len(rows), most):
        chunk = rows[start : start + most]
        values = [v if type(v) in _PLAIN else adapt(v, adapted) for row in chunk for v in row]
        cursor.execute(_text(statement, len(chunk)), values)


@functools.lru_cache(maxsize=256)
def _text(statement: Statement, rows: int) -> str:
    table, columns, conflict = statement
    one = f"({', '.join(['%s'] * len(columns))})"
    return f"INSERT INTO {table} ({_names(columns)}) VALUES {', '.join([one] * rows)} {conflict}"  # noqa: S608 - constants of this file


def adapt(value: Any, adapted: dict[datetime, Any]) -> Any:
    """A value as this database's driver takes it. `adapted`: moments of this call, which repeat."""
    if isinstance(value, datetime):
        found = adapted.get(value)
        if found is None:
            found = adapted[value] = connection.ops.adapt_datetimefield_value(value)
        return found
    if isinstance(value, (dict, list)):
        return _JSON(value)
    return value
