"""What is inside the box: a plain Linux bridge (the yardstick), or the product."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import plan
from lab.clients.leak import Leak
from lab.errors import LabError
from lab.netns import Process, Result
from lab.topology import LAN_PORT, ROOT, WAN_PORT, Topology
from vigie.errors import VigieError
from vigie.filter import client

BRIDGE = "br0"
# Bits 3 and 14 of the link-local group: EAPOL (01:80:c2:00:00:03) and LLDP (..:0e).
GROUP_FORWARD = (1 << 3) | (1 << 14)
OBJECT = ROOT / "firmware/bpf/build/filter.bpf.o"
EARLY = ROOT / "firmware/bpf/build/vigie-early"
LEARNING_S = 15.0


def make_plain_bridge(lab: Topology) -> None:
    """Bridge both ports and give the bridge its address and default route; forwards what the product must forward."""
    box = lab.box
    box.bridge(BRIDGE, LAN_PORT, WAN_PORT)
    box.ip("link", "set", BRIDGE, "address", plan.MACS["box"])
    box.ip("link", "set", BRIDGE, "type", "bridge", "group_fwd_mask", str(GROUP_FORWARD))
    give_address(lab)


def give_address(lab: Topology) -> None:
    """Static address of the office range and default route, on an existing `br0`."""
    box = lab.box
    box.sysctl(f"net/ipv6/conf/{BRIDGE}/accept_ra", 2)
    box.links.add(BRIDGE)
    box.address(BRIDGE, f"{plan.BOX4}/24", f"{plan.BOX6}/64")
    box.route("default", "via", plan.GATEWAY4)


def _built(path: Path) -> Path:
    if not path.exists():
        raise LabError(f"{path} is not built: run `make setup` (or `make -C firmware/bpf`)")
    return path


@dataclass
class Product:
    """`vigie filter run` in the box's namespace, with all its files in the lab's temporary folder."""

    lab: Topology
    base: Path
    learning_s: float = LEARNING_S
    settings: dict[str, Any] = field(default_factory=dict)
    address: Callable[[], list[Process]] | None = None
    """how the bridge gets its address at power-on, and which processes see to it; None: the static one"""
    services: Callable[[], list[Process]] | None = None
    """what starts beside the filter at the second power-on"""
    process: Process | None = None
    beside: list[Process] = field(default_factory=list)
    plugged_at: float = 0.0
    """when it was last plugged in (time.time)"""

    def __post_init__(self) -> None:
        self.folder = self.lab.world.temp / "box"
        self.folder.mkdir(exist_ok=True)
        self.socket = self.folder / "filter.sock"
        self.pins = self.lab.world.mount_bpffs() / "vigie"
        self.vigie = str(Path(self.lab.world.python).parent / "vigie")
        self.configuration = self.folder / "filter.yaml"
        self.image = self.folder / "base.img"
        (self.folder / "state").mkdir()
        # Copies: a build that goes on meanwhile must not change the box under test.
        self.object, self.early = (Path(shutil.copy2(_built(path), self.folder)) for path in (OBJECT, EARLY))
        self.configuration.write_text(yaml.safe_dump(self._settings()))

    def _settings(self) -> dict[str, Any]:
        return {
            "ports": [LAN_PORT, WAN_PORT],
            "bridge": BRIDGE,
            "early_loader": True,
            "image": str(self.image),
            "object": str(self.object),
            "pin_dir": str(self.pins),
            "state_dir": str(self.folder / "state"),
            "socket": str(self.socket),
            "base": str(self.folder / "base.vgb"),
            "builtin_base": str(self.base),
            "journal": {"path": str(self.folder / "journal.db")},
            "page_ports": ["80/tcp"],
            "inbound": {"mode": "learn", "learning_days": self.learning_s / 86400, "grace_s": 0},
            "loop": {"interval_ms": 200, "reopen_s": 2},
            **self.settings,
        }

    def power_on(self) -> dict[str, Any]:
        """Boot as the box does: the early loader, the address, then the daemon. Returns the early loader's account."""
        images = [word for path in [self.image] if path.exists() for word in ("--image", str(path))]
        ports = ["--ports", f"{LAN_PORT},{WAN_PORT}", "--bridge", BRIDGE]
        result = self.lab.box.run(
            str(self.early), *ports, "--object", str(self.object), "--pin", str(self.pins), *images
        )
        if result.code not in (0, 3):
            raise AssertionError(f"the early loader failed:\n{result.evidence}")
        if self.address is None:
            give_address(self.lab)
        else:
            self.beside += self.address()
        said: dict[str, Any] = json.loads(result.out.splitlines()[-1])["early"]
        return said

    def power_off(self) -> None:
        """As if unplugged: the daemon dies, nothing stays in the kernel; files stay."""
        if self.process is not None and self.process.running:
            self.process.kill()
        for process in self.beside:
            process.kill()
        self.beside.clear()
        box = self.lab.box
        for port in (LAN_PORT, WAN_PORT):
            box.run("tc", "qdisc", "del", "dev", port, "clsact")
        box.ip("link", "del", BRIDGE)
        box.links.discard(BRIDGE)
        shutil.rmtree(self.pins, ignore_errors=True)

    def bring_up(self, times: dict[str, float]) -> None:
        """First boot (no image of a base yet), then a second one during which nothing may pass unfiltered."""
        self.power_on()
        times["first_start_s"] = self.start()
        deadline = time.monotonic() + 20
        while not self.image.exists():
            if time.monotonic() > deadline:
                raise AssertionError(f"the daemon wrote no image for the next start:\n{self.log}")
            time.sleep(0.05)
        self.power_off()
        with Leak(self.lab) as leak:
            self.plugged_at = time.time()
            early = self.power_on()
            times["early_filter"], times["early_forward"] = early["filter_ms"], early["forward_ms"]
            if self.services is not None:
                self.beside += self.services()
            times["second_start_s"] = self.start()
        if not leak.clean:
            raise AssertionError(f"the line did not open at the second start:\n{self.log}")
        times["unfiltered_ms"] = leak.unfiltered_ms

    def start(self, seconds: float = 30.0) -> float:
        """Start the daemon and wait until it answers `status`; returns how long that took (s)."""
        start = time.monotonic()
        self.process = self.lab.box.start("filter", self.vigie, "filter", "run", "--config", str(self.configuration))
        while not self.answers():
            if not self.process.running or time.monotonic() - start > seconds:
                raise AssertionError(f"vigie filter run does not answer:\n{self.process.tail(40)}")
            time.sleep(0.02)
        return time.monotonic() - start

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._running().kill()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The daemon gets no time at all (SIGSTOP)."""
        os.kill(self._running().pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._running().pid, signal.SIGCONT)

    def stop(self) -> None:
        code = self._running().stop(10)
        if code != 0:
            raise AssertionError(f"vigie filter run must end with 0 when told to, ended with {code}:\n{self.log}")

    def _running(self) -> Process:
        if self.process is None or not self.process.running:
            raise AssertionError(f"the daemon is not running:\n{self.log}")
        return self.process

    @property
    def log(self) -> str:
        return self.process.tail(40) if self.process else ""

    def status(self) -> dict[str, Any]:
        """The daemon's own account, over its socket (no new process: fit for polling)."""
        try:
            return client.call(self.socket, "status")
        except VigieError as error:
            raise AssertionError(f"status: {error}\n{self.log}") from error

    def base_version(self) -> int:
        """Of the base in force."""
        return int((self.status()["base"] or {}).get("version", 0))

    def answers(self) -> bool:
        """The daemon answers on its socket."""
        try:
            client.call(self.socket, "status")
        except VigieError:
            return False
        return True

    def alerts(self, *kinds: str) -> list[dict[str, Any]]:
        """Alerts of these kinds, as `status` lists them."""
        return [alert for alert in self.status()["alerts"] if alert["kind"] in kinds]

    def wait_alert(self, kind: str, seconds: float = 3.0, since: float = 0.0) -> dict[str, Any]:
        """The newest alert of that kind: the daemon writes them down a moment after it has acted. since: time.time."""
        deadline = time.monotonic() + seconds
        while not (found := [alert for alert in self.alerts(kind) if float(alert["last"]) >= since]):
            if time.monotonic() > deadline:
                raise AssertionError(f"no alert {kind!r} within {seconds} s: {self.status()['alerts']}\n{self.log}")
            time.sleep(0.05)
        return max(found, key=lambda alert: float(alert["last"]))

    def cli(self, *argv: str, timeout: float = 30.0) -> Result:
        """A command as an operator types it."""
        return self.lab.box.run(self.vigie, "--socket", str(self.socket), *argv, timeout=timeout)

    def json(self, *argv: str) -> Any:
        return json.loads(self.cli(*argv, "--json").require().out)

    def roles(self) -> dict[str, str]:
        """Port name -> "lan", "wan" or "unknown"."""
        return {port["name"]: port["role"] for port in self.status()["ports"]}

    def wait_roles(self, wan: str = WAN_PORT, seconds: float = 20.0) -> float:
        """Until the daemon knows which port is the internet side; returns how long it took (s)."""
        start = time.monotonic()
        while self.roles().get(wan) != "wan":
            if time.monotonic() - start > seconds:
                raise AssertionError(f"{wan} is not the WAN port after {seconds} s: {self.roles()}\n{self.log}")
            time.sleep(0.05)
        return time.monotonic() - start

    def wait_holding(self, seconds: float = 20.0) -> float:
        """Until names over several frames are read (by a process of its own); returns the time (s)."""
        start = time.monotonic()
        while not self.status()["hold"]["alive"]:
            if time.monotonic() - start > seconds:
                raise AssertionError(f"names are not held after {seconds} s\n{self.log}")
            time.sleep(0.02)
        return time.monotonic() - start

    def wait_learning_over(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while (inbound := self.status()["inbound"])["mode"] != 2:
            if time.monotonic() > deadline:
                raise AssertionError(f"inbound is not refused {seconds} s later: {inbound}\n{self.log}")
            time.sleep(0.1)

    def wait_learnt(self, port: int, seconds: float = 20.0) -> str:
        """Until the daemon has noted that this published port is in use."""
        deadline = time.monotonic() + seconds
        while True:
            learnt = self.status()["learned"]
            for use in learnt:
                if use["port"] == port:
                    return f"{use['mac']} {use['proto']} {use['port']}"
            if time.monotonic() > deadline:
                raise AssertionError(f"port {port} in use is not learnt after {seconds} s: {learnt}\n{self.log}")
            time.sleep(0.1)
