"""Messages as boxes send them, for tests of the department."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

HOUR = 3600


def box_id(name: str) -> str:
    """A well-formed box id for a test's name."""
    import base64

    return "vg-" + base64.b32encode(hashlib.sha256(name.encode()).digest()).decode().lower()[:16]


def alert(ident: int = 1, **changes: Any) -> dict[str, Any]:
    """Fields of an alert."""
    hour = int(time.time()) // HOUR * HOUR
    return {
        "id": ident,
        "rule": "toxic-name",
        "reason": 36,
        "severity": 2,
        "category": 1,
        "direction": 1,
        "indicator": "toxic.example",
        "device": "d-0123456789abcdef",
        "device_class": 0,
        "count": 1,
        "first": hour,
        "last": hour,
        "incident": False,
    } | changes


def metric(**changes: Any) -> dict[str, Any]:
    """Fields of a metric."""
    return {
        "hour": int(time.time()) // HOUR,
        "blocked": {"35": 3, "36": 1},
        "observed": {},
        "candidate": None,
        "frames": {"in": 12, "out": 9},
        "drops": 0,
    } | changes


def state(session: int = 1, **changes: Any) -> dict[str, Any]:
    """Fields of a state."""
    return {
        "online": True,
        "session": session,
        "version": "1.0.0",
        "base": {"version": 3, "entries": 1000},
        "candidate": None,
        "desired": {"version": 0, "status": "none", "refused": None},
        "isolation": 0,
        "quarantined": 0,
        "exceptions": 0,
        "inbound": "learn",
        "filter": "ok",
        "uptime_s": 60,
        "disk_free_mb": 900,
        "mem_free_mb": 400,
        "load": 0.2,
        "link": {"roles_known": True},
        "losses": 0,
    } | changes


@dataclass
class Outbox:
    """A box's numbering: each message takes the next number."""

    box: str
    boot: str = "ab" * 16
    seq: int = 0
    clock: str = "ntp"
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    def message(self, kind: str, body: dict[str, Any], *, prev: int | None = None) -> tuple[str, bytes]:
        """(topic, payload) of the next row."""
        self.seq += 1
        head = {"v": 1, "boot": self.boot, "seq": self.seq, "ts": int(time.time()), "clock": self.clock}
        if kind != "state":
            head["prev"] = self.seq - 1 if prev is None else prev
        made = (f"vigie/v1/{self.box}/up/{kind}", json.dumps(head | body).encode())
        self.sent.append(made)
        return made
