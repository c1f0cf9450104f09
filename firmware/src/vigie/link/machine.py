"""Figures of the machine the link runs on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from vigie.link.report import Machine

_MEMINFO_MAX = 16 * 1024


def look(state: Path) -> Machine:
    """Figures now; `state` is on the disk that is measured."""
    disk = 0
    with contextlib.suppress(OSError):
        volume = os.statvfs(state)
        disk = volume.f_bavail * volume.f_frsize >> 20
    return Machine(int(time.clock_gettime(time.CLOCK_BOOTTIME)), disk, _memory_mb(), os.getloadavg()[0])


def _memory_mb() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), Path("/proc/meminfo").open("rb") as stream:
        for line in stream.read(_MEMINFO_MAX).splitlines():
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) >> 10
    return 0
