"""The queue of what goes to boxes. The ingest process publishes it within a fraction of a second, in order."""

from __future__ import annotations

from typing import Final

from django.db import connection, transaction
from django.utils import timezone

from vigie_department.console.models import Outgoing

CHANNEL: Final = "vigie_outgoing"
PAYLOAD_MAX: Final = 64 * 1024


def enqueue(
    topic: str,
    payload: bytes,
    retain: bool = False,
    *,
    response_topic: str = "",
    correlation: str = "",
    expiry_s: int | None = None,
) -> None:
    """Publish at QoS 1 once the current transaction commits.

    response_topic, correlation, expiry_s: MQTT 5 properties of commands (correlation data is sent as ASCII).
    """
    if len(payload) > PAYLOAD_MAX:
        raise ValueError(f"{topic}: {len(payload)} bytes, more than the broker lets through ({PAYLOAD_MAX})")
    Outgoing.objects.create(
        topic=topic,
        payload=payload,
        retain=retain,
        response_topic=response_topic,
        correlation=correlation,
        expiry_s=expiry_s,
        created=timezone.now(),
    )
    transaction.on_commit(wake)


def wake() -> None:
    """Tell the ingest at once, where the database can (PostgreSQL); with SQLite it looks often."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
