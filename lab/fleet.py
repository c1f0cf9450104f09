"""The box of the lab as a member of the fleet: its identity, and its services beside the filter."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import plan
from lab.box import BRIDGE, Product
from lab.department import Department
from lab.loopback import tool
from lab.netns import Namespace, Process

SERVICES = ("enrol", "link", "update")
COMMANDS = {"enrol": ("enrol", "run"), "link": ("link", "run"), "update": ("update", "base", "run")}
MODEL = "vigie-cm4"
SERIAL = "VG-LABO-0001"
OPERATOR = "atelier"
INTERVALS = {
    # Shorter than in the fleet, where a box waits 5 s after its first failure and a thousand may come back at once.
    "enrol": {"first_s": 0.5, "most_s": 2.0, "refused_s": 3.0, "look_s": 0.5, "hourly_s": 3.0},
    "link": {"first_s": 0.5, "most_s": 2.0, "spread_s": 0.0, "poll_s": 0.2, "confirm_s": 5.0, "reconcile_s": 2.0},
    "update": {"first_s": 0.5, "most_s": 2.0, "poll_s": 30.0},
}


@dataclass
class Member:
    """The box's files of the fleet, in the lab's temporary folder, and its services as processes in its namespace."""

    namespace: Namespace
    folder: Path
    department: Department
    identity: dict[str, Any] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def box(self) -> str:
        """Its id."""
        return str(self.identity["box"])

    @property
    def state(self) -> Path:
        return self.folder / "data"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def configuration(self) -> Path:
        return self.folder / "box.yaml"

    def filter_settings(self) -> dict[str, Any]:
        """Of the filter's configuration: where the box's other files are."""
        return {"trust": str(self.folder / "trust"), "box_state": str(self.state), "run_dir": str(self.run)}

    # -- before it is sent --------------------------------------------------------------------------

    def flash(self, filter_socket: Path) -> None:
        """What is on the board when it leaves the workshop: trust bundle, identity, configuration."""
        for place in (self.state, self.run):
            place.mkdir(parents=True)
        shutil.copytree(self.department.config.paths.trust, self.folder / "trust")
        self.identity = _factory("identity", str(self.folder / "identity"), "--serial", SERIAL, "--model", MODEL)
        self.configuration.write_text(
            yaml.safe_dump(
                {
                    "domain": plan.DOMAIN,
                    "model": MODEL,
                    "bridge": BRIDGE,
                    "set_clock": False,  # it is the clock of the machine that runs the lab
                    "paths": {
                        "trust": str(self.folder / "trust"),
                        "identity": str(self.folder / "identity"),
                        "state": str(self.state),
                        "filter_socket": str(filter_socket),
                        "run": str(self.run),
                    },
                    "intervals": INTERVALS,
                }
            )
        )

    def register(self) -> None:
        """The workshop's operator signs the box into the register, the department imports it."""
        workshop = self.folder / "workshop"
        workshop.mkdir()
        key = workshop / "operator.key"
        line = _factory("operator-key", str(key), "--operator", OPERATOR)
        operators = self.department.config.paths.etc / "operators.json"
        operators.write_text(json.dumps({"v": 1, "operators": [line]}) + "\n")
        register = workshop / "register.jsonl"
        _factory(
            "register", str(register), "--department", plan.DOMAIN, "--identity", str(self.folder / "identity"),
            "--operator-key", str(key), "--operator", OPERATOR,
        )  # fmt: skip
        self.department.authority("import", str(register)).require()

    # -- at the town hall -----------------------------------------------------------------------------

    def start(self, *names: str) -> list[Process]:
        """Its services, all of them when none is named."""
        vigie = tool("vigie")
        for name in names or SERVICES:
            argv = [vigie, *COMMANDS[name], "--config", str(self.configuration)]
            self.processes[name] = self.namespace.start(name, *argv)
        return [self.processes[name] for name in names or SERVICES]

    def stop(self, name: str, *, kill: bool = False) -> None:
        process = self.processes.pop(name)
        if kill:
            process.kill()
        else:
            process.stop(10)

    @staticmethod
    def since(path: Path) -> float:
        """When that file or link was made (time.time())."""
        return path.lstat().st_mtime

    def enrol_status(self) -> dict[str, Any]:
        return _read(self.state / "enrol" / "status.json")

    def link_status(self) -> dict[str, Any]:
        return _read(self.run / "link" / "link-status.json")

    def update_status(self) -> dict[str, Any]:
        return _read(self.state / "update" / "status.json")

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
        """Seconds until it holds; the evidence is what the services say."""
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > seconds:
                logs = "\n".join(f"--- {name}\n{process.tail(15)}" for name, process in self.processes.items())
                said = f"enrol {self.enrol_status()}\nlink {self.link_status()}\nupdate {self.update_status()}"
                raise AssertionError(f"not within {seconds} s: {what}\n{said}\n{logs}")
            time.sleep(0.02)
        return time.monotonic() - start

    def wait_enrolled(self, seconds: float = 30.0) -> float:
        return self.wait(lambda: self.enrol_status().get("state") == "enrolled", "enrolled", seconds)

    def wait_linked(self, seconds: float = 20.0) -> float:
        return self.wait(lambda: self.link_status().get("code") == "connected", "linked", seconds)


def start_dhcp(product: Product) -> Process:
    """The box asks the operator's router for its address, as it does at a town hall; returns the client.

    Its IPv6 address has a fixed interface part, so that the scenario can name it.
    """
    lab = product.lab
    lab.box.sysctl(f"net/ipv6/conf/{BRIDGE}/accept_ra", 2)
    lab.box.links.add(BRIDGE)
    lab.box.address(BRIDGE, f"{plan.BOX6}/64")
    script = product.folder / "udhcpc.sh"
    resolv = product.folder / "resolv.conf"
    resolv.touch()
    lab.box.resolv_conf = resolv
    script.write_text(
        f"""#!/bin/sh
case "$1" in
deconfig) ip -4 address flush dev "$interface" ;;
bound|renew)
    ip address replace "$ip/$mask" dev "$interface"
    ip route replace default via "${{router%% *}}" dev "$interface"
    : > {resolv}
    for one in $dns; do echo "nameserver $one" >> {resolv}; done ;;
esac
"""
    )
    script.chmod(0o755)
    return lab.box.start("udhcpc", "udhcpc", "-i", BRIDGE, "-f", "-t", "20", "-T", "1", "-A", "1", "-s", str(script))


def _factory(*argv: str) -> dict[str, Any]:
    """`vigie-factory --json ...`, run outside the lab's networks: a workshop has none."""
    command = [tool("vigie-factory"), "--json", *argv]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={"VIGIE_OPERATOR_PASSPHRASE": ""}
    )
    if done.returncode != 0:
        raise AssertionError(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}-> exit {done.returncode}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
