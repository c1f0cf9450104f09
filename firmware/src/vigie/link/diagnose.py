"""Diagnostic texts: collected from the box, reduced to what is listed here, redacted, bounded."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from vigie import __version__
from vigie.contract.upward import ITEM_MAX
from vigie.errors import HostError
from vigie.host.files import read_json
from vigie.link.redact import redact
from vigie.link.report import Machine

ITEMS: Final = ("versions", "machine", "filter", "link", "enrol", "update", "log")
LOG_COMMAND: Final = (
    "journalctl",
    "--quiet",
    "--no-pager",
    "-o",
    "short-iso",
    "-p",
    "warning",
    "-n",
    "100",
    "-u",
    "vigie-*",
)
LOG_TIMEOUT_S: Final = 10.0
SMALL_ITEM: Final = 2048
# Of the filter's status: figures and states. Not its neighbours, gateways, rules, quarantines, learnt ports and alerts.
FILTER_KEYS: Final = (
    "uptime_s",
    "base",
    "candidate",
    "boot",
    "ports",
    "inbound",
    "counters",
    "hold",
    "journal",
    "outbox",
    "department",
    "problems",
)


Runner = Callable[[tuple[str, ...]], str]


def run_command(argv: tuple[str, ...]) -> str:
    """The output of a program, "" when it is missing, fails or takes too long."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=LOG_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[-4 * ITEM_MAX :].decode(errors="replace")


def collect(
    wanted: Collection[str],
    *,
    status: dict[str, Any] | None,
    link: dict[str, Any],
    enrol_status: Path,
    update_status: Path,
    machine: Machine,
    keep: Collection[str],
    run: Runner = run_command,
) -> dict[str, str]:
    """Redacted texts by name; those `wanted`, all when it is empty. Blocks for as long as `run` does."""
    uname = os.uname()
    sources: dict[str, Callable[[], str]] = {
        "versions": lambda: (
            f"vigie {__version__}\npython {platform.python_version()}\nkernel {uname.release} {uname.machine}"
        ),
        "machine": lambda: (
            f"uptime_s {machine.uptime_s}\ndisk_free_mb {machine.disk_free_mb}\n"
            f"mem_free_mb {machine.mem_free_mb}\nload {machine.load}"
        ),
        "filter": lambda: _json({k: status[k] for k in FILTER_KEYS if k in status} if status else {"answer": False}),
        "link": lambda: _json(link),
        "enrol": lambda: _file(enrol_status),
        "update": lambda: _file(update_status),
        "log": lambda: run(LOG_COMMAND),
    }
    names = (uname.nodename, uname.nodename.partition(".")[0])
    out = {}
    for name in ITEMS:
        if wanted and name not in wanted:
            continue
        most = ITEM_MAX if name in ("filter", "log") else SMALL_ITEM
        out[name] = redact(sources[name](), names, keep)[-most:]
    return out


def _file(path: Path) -> str:
    try:
        return _json(read_json(path) or {})
    except HostError:
        return "{}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, default=str)
