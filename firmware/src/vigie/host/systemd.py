"""What a service tells systemd, when it listens (sd_notify(3)): that it is ready, and that it is alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping


def notify(text: str) -> None:
    """Sends `READY=1`, `STATUS=...`, `WATCHDOG=1`; nothing happens without systemd."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), address)


class Watchdog:
    """Tells systemd that a loop turns (WatchdogSec=), at a third of the period it asks for. Between, `turn` is free."""

    SHARE = 3

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        text = environment.get("WATCHDOG_USEC", "")
        self.every_s = int(text) / 1e6 / self.SHARE if text.isdigit() and int(text) else 0.0
        self._next = 0.0

    def turn(self) -> None:
        """To be called wherever the loop, or work that takes long in it, goes on."""
        now = time.monotonic()
        if self.every_s and now >= self._next:
            self._next = now + self.every_s
            notify("WATCHDOG=1")

    async def keep(self) -> None:
        """The same, of an asyncio loop; returns at once when nobody asks."""
        while self.every_s:
            notify("WATCHDOG=1")
            await asyncio.sleep(self.every_s)
