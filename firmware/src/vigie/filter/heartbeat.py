"""Proof of life for the guardian, which shares no code with this program: one small file on a tmpfs.

`heartbeat.json`, beside the daemon's socket, at least every 2 s: {"at": CLOCK_MONOTONIC in seconds, "base": version of
the base in force (0: none), "attached": the programs were on both ports and the bridge when last looked (at most 6 s
ago), "loop": a port is closed because of a cabling loop}. No fsync: it is memory, and a heartbeat of before a power cut
means nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final

from vigie.errors import HostError, KernelError
from vigie.filter.engine import Engine

NAME: Final = "heartbeat.json"
EVERY_S: Final = 1.0
LOOK_BEATS: Final = 5


class Heartbeat:
    """Writes it, from the daemon's loop: when that hangs, it stops."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._path = folder / NAME
        self._engine = engine
        self._attached = False
        self._beats = 0

    async def keep(self) -> None:
        """Until cancelled. HostError when it cannot be written."""
        while True:
            await self.beat()
            await asyncio.sleep(EVERY_S)

    async def beat(self) -> None:
        """Once. Raises HostError."""
        if self._beats % LOOK_BEATS == 0:  # six conversations with the kernel: not in the loop, and not each second
            self._attached = await asyncio.to_thread(attached, self._engine)
        self._beats += 1
        write(self._path, self._content())

    def _content(self) -> dict[str, Any]:
        info = self._engine.base.info
        return {
            "at": round(time.monotonic(), 3),
            "base": 0 if info is None else info.serial,
            "attached": self._attached,
            "loop": int(self._engine.datapath.control["loop_port"]) != 0,
        }


def attached(engine: Engine) -> bool:
    """Whether the kernel has our programs where they belong."""
    try:
        return engine.datapath.attached(*engine.ports, engine.config.bridge)
    except KernelError:
        return False


def write(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file in one step. Raises HostError."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(json.dumps(value, sort_keys=True) + "\n", encoding="ascii")
        temporary.chmod(0o644)  # whatever the umask says: the guardian is another user
        temporary.replace(path)
    except OSError as e:
        raise HostError(f"{path}: cannot be written ({e.strerror}); is there a {path.parent}?") from e
