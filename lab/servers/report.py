"""One JSON line per observation, on standard output (the lab reads the log)."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

_lock = threading.Lock()


def say(kind: str, **fields: Any) -> None:
    line = json.dumps({"kind": kind, **fields}, ensure_ascii=False)
    with _lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def heard(log: Path, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    """Observations of that kind in a server's log, with these values."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if not line.startswith("{") or not line.endswith("}"):
            continue  # a line being written, or a traceback
        entry = json.loads(line)
        if entry.get("kind") == kind and all(entry.get(key) == value for key, value in wanted.items()):
            found.append(entry)
    return found
