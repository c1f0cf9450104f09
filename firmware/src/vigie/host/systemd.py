"""A line to systemd, when it listens (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(text: str) -> None:
    """Sends `READY=1`, `STATUS=...`, `WATCHDOG=1`; nothing happens without systemd."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), address)
