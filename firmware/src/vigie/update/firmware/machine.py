"""This box, for the firmware part: versions, slots as last told, figures for the health checks, requests to restart."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vigie.contract.firmware import Version, running_version
from vigie.errors import DaemonError, HostError, UsageError
from vigie.filter import client
from vigie.host.boxconfig import BoxConfig
from vigie.host.files import read_json, read_small, remove, write_atomic
from vigie.host.trusted_clock import ClockReader, boot_id
from vigie.update.boot.opening import Places, Said, read
from vigie.update.boot.outcome import Outcome
from vigie.update.firmware.health import Ports, Seen

RESTART: Final = "restart"
"""Folder of requests in the updater's folder of /run: an empty file `trial` or `back`, taken away when it is done."""
_SELFTEST_S: Final = 60.0
_LINE: Final = re.compile(r'^(\w+)="?([^"\n]*)"?$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class System:
    """Files of the machine that are not the box configuration's."""

    release: Path = Path("/etc/os-release")
    net: Path = Path("/sys/class/net")
    meminfo: Path = Path("/proc/meminfo")
    boot: Places = field(default_factory=Places)


class Machine:
    """Reading never raises: what cannot be read counts as not there, and that is what the checks then say."""

    def __init__(self, config: BoxConfig, clock: ClockReader, system: System = System()) -> None:
        self._config = config
        self._clock = clock
        self._system = system
        self._first: dict[str, tuple[int, int]] = {}
        self._selftest: bool | None = None
        self._selftest_at = -_SELFTEST_S

    # ---- what runs ----------------------------------------------------------------------------------------------

    def boot(self) -> str:
        """The kernel's name for this start."""
        return boot_id()

    def boottime(self) -> float:
        """CLOCK_BOOTTIME in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def running(self) -> Version:
        """Of the system that runs."""
        return running_version(self._release().get("VERSION_ID", ""))

    def board(self) -> str:
        """As descriptors name it; "" on a machine that is no box."""
        return self._release().get("VARIANT_ID", "")

    def slots(self) -> Said | None:
        """What root last said of the slots; None on a machine without slots, or before its word."""
        with contextlib.suppress(HostError):
            return read(self._system.boot)
        return None

    def outcome(self, said: Said | None) -> Outcome:
        """Of the trial; a trial that was committed or given up since the start is none any more."""
        if said is None or (said.outcome is Outcome.ON_TRIAL and said.trial != said.current):
            return Outcome.NONE
        return said.outcome

    def _release(self) -> dict[str, str]:
        with contextlib.suppress(HostError, UnicodeDecodeError):
            return dict(_LINE.findall((read_small(self._system.release) or b"").decode()))
        return {}

    # ---- figures ------------------------------------------------------------------------------------------------

    def free(self) -> int:
        """Bytes on /data."""
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self._config.paths.update).free
        return 0

    def base(self) -> int:
        """Version of the base in force."""
        value = self._heartbeat().get("base")
        return value if isinstance(value, int) and value > 0 else 0

    def cables(self) -> tuple[str, ...]:
        """Ports of the bridge with a carrier."""
        return tuple(port for port in self._ports() if self._number(port, "carrier") == 1)

    def frames(self) -> int:
        """Frames received by both ports since the start."""
        return sum(self._number(port, "statistics/rx_packets") for port in self._ports())

    def seen(self, *, thorough: bool) -> Seen:
        """Everything that the health checks judge. thorough: with the self-test when it is due, a file that is written
        and read, and the filter asked whether it isolates."""
        ports = self._ports()
        now = {p: (self._number(p, "statistics/rx_packets"), self._number(p, "statistics/tx_packets")) for p in ports}
        self._first = {port: self._first.get(port, value) for port, value in now.items()}
        grown = {
            port: tuple(max(0, a - b) for a, b in zip(now[port], self._first[port], strict=True)) for port in ports
        }
        ways: tuple[Ports, ...] = ()
        if thorough and len(ports) == 2 and not self._isolated():
            one, two = (grown[port] for port in ports)
            ways = (Ports(one[0], two[1]), Ports(two[0], one[1]))
        bridge = self._system.net / self._config.bridge / "brif"
        return Seen(
            uptime=time.monotonic(),
            heartbeat=self._heartbeat(),
            forwarding=tuple(port for port in ports if _int(bridge / port / "state") == 3),
            cables=self.cables(),
            ways=ways,
            linked=self._linked(),
            selftest=self._tested() if thorough else self._selftest,
            disk=self._disk() if thorough else self.free(),
            memory=self._memory(),
            signed=self._clock.time().known,
        )

    def _ports(self) -> tuple[str, ...]:
        with contextlib.suppress(OSError):
            return tuple(sorted(path.name for path in (self._system.net / self._config.bridge / "brif").iterdir()))
        return ()

    def _number(self, port: str, name: str) -> int:
        return _int(self._system.net / port / name)

    def _heartbeat(self) -> dict[str, Any]:
        return _json(self._config.paths.run / "heartbeat.json")

    def _linked(self) -> bool:
        return _json(self._config.paths.run_link / "link-status.json").get("code") == "connected"

    def _isolated(self) -> bool:
        """A box that was told to isolate forwards nothing, and that is right."""
        with contextlib.suppress(DaemonError, UsageError):
            level = client.call(self._config.paths.filter_socket, "status").get("isolation", {}).get("level", 0)
            return isinstance(level, int) and level > 1
        return False

    def _tested(self) -> bool | None:
        """The last self-test; a new one after a while until one passes."""
        now = time.monotonic()
        if self._selftest is not True and now - self._selftest_at >= _SELFTEST_S:
            self._selftest_at = now
            with contextlib.suppress(DaemonError, UsageError):
                self._selftest = client.call(self._config.paths.filter_socket, "self-test").get("passed") is True
        return self._selftest

    def _disk(self) -> int:
        """Bytes free on /data; -1 when what is written cannot be read again."""
        path, data = self._config.paths.update / "firmware" / "probe", os.urandom(4096)
        try:
            write_atomic(path, data)
            same = read_small(path) == data
            remove(path)
        except HostError:
            return -1
        return self.free() if same else -1

    def _memory(self) -> int:
        with contextlib.suppress(HostError, ValueError, IndexError):
            for line in (read_small(self._system.meminfo) or b"").splitlines():
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) << 10
        return 0

    # ---- restarts -----------------------------------------------------------------------------------------------

    def restart(self, how: str) -> None:
        """Asks root for a restart: `trial` into the slot on trial, `back` into the committed one. HostError."""
        write_atomic(self._config.paths.run_update / RESTART / how, b"", 0o644)


def _json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(HostError):
        return read_json(path) or {}
    return {}


def _int(path: Path) -> int:
    with contextlib.suppress(HostError, ValueError):
        return int(read_small(path, 64) or b"")
    return 0
