"""A box of the fleet on this machine: real enrolment, real filter, real link and updater as processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from lab.department import Department
from lab.loopback import tool
from lab.netns import Process
from tests.integration.enrol.boxes import Box
from tests.integration.fleet.filter_side import FilterSide
from tests.support.certificates import Client
from tests.support.mqtt import Session
from tests.support.servers import eventually
from vigie.enrol import credentials
from vigie.enrol.codes import Code
from vigie.host.files import read_json

COMMANDS = {"enrol": ("enrol", "run"), "link": ("link", "run"), "update": ("update", "base", "run")}
TIMES: dict[str, dict[str, float]] = {
    "enrol": {"first_s": 0.2, "most_s": 1.0, "refused_s": 1.0, "look_s": 0.2, "hourly_s": 2.0},
    "link": {
        "first_s": 0.2, "most_s": 1.0, "spread_s": 0.0, "drain_per_s": 5000.0, "keepalive_s": 5, "state_s": 5.0,
        "poll_s": 0.05, "confirm_s": 1.0, "reconcile_s": 0.5, "connect_s": 5.0, "renewed_s": 0.2,
    },
    "update": {"first_s": 0.2, "most_s": 1.0, "poll_s": 600.0},
}  # fmt: skip
"""Much shorter, and the drain much faster, than in the fleet."""


@dataclass
class BoxSide:
    """`enrolled` is its identity and the enrolment in this process; the services are processes of their own."""

    department: Department
    enrolled: Box
    filter: FilterSide
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.enrolled.box_id

    @property
    def folder(self) -> Path:
        return self.enrolled.config.paths.run.parent

    @property
    def configuration(self) -> Path:
        return self.folder / "box.yaml"

    def write_configuration(self, **times: dict[str, float]) -> None:
        """box.yaml; `times` of a service in place of the usual ones."""
        config = self.enrolled.config
        paths = {one.name: str(getattr(config.paths, one.name)) for one in fields(config.paths)}
        said = {
            "domain": config.domain, "model": config.model, "bridge": "lo", "set_clock": False, "paths": paths,
            "ports": {"https": config.ports.https, "http": 1},
            "addresses": dict(config.addresses) | {f"maj.{config.domain}": "127.0.0.1"},
            "intervals": {name: TIMES[name] | times.get(name, {}) for name in TIMES},
        }  # fmt: skip
        self.configuration.write_text(yaml.safe_dump(said))

    # -- services ---------------------------------------------------------------------------------------------

    def enrol(self) -> None:
        """A member when this returns."""
        self.enrolled.until(Code.MEMBER)

    def start(self, *names: str) -> None:
        for name in names:
            argv = [tool("vigie"), *COMMANDS[name], "--config", str(self.configuration)]
            label = f"{self.enrolled.serial}-{name}"
            self.processes[name] = self.department.place.start(label, *argv)

    def stop(self, *names: str) -> None:
        """All of them when none is named."""
        for name in names or tuple(self.processes):
            self.processes.pop(name).stop(10)

    def look(self, ahead_days: int = 0) -> dict[str, Any]:
        """`vigie update base once`; the wall clock of this one process may be ahead."""
        environment = os.environ | {"VIGIE_LANG": "fr"}
        if ahead_days:
            environment |= ahead(ahead_days)
        argv = [tool("vigie"), "update", "base", "once", "--config", str(self.configuration), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environment)
        said = self.update_status
        assert done.returncode in (0, 1) and said, f"{done}"
        return said

    # -- what they say ----------------------------------------------------------------------------------------

    @property
    def link_status(self) -> dict[str, Any]:
        return read_json(self.enrolled.config.paths.run_link / "link-status.json") or {}

    @property
    def update_status(self) -> dict[str, Any]:
        return read_json(self.enrolled.config.paths.update / "status.json") or {}

    def evidence(self) -> str:
        """What the box and the department say."""
        lines = [f"link {self.link_status}", f"update {self.update_status}", f"enrol {self.enrolled.status}"]
        lines += [f"outbox {self.filter.journal.outbox.stats}"]
        lines += [f"--- {process.label}\n{process.tail(12)}" for process in self.processes.values()]
        lines += [f"--- {name}\n{self.department.log(name, 12)}" for name in self.department.processes]
        return "\n".join(lines)

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Until it holds; a failure shows what everybody said."""
        eventually(holds, lambda: f"{self.name}: not within {seconds:g} s: {what}\n{self.evidence()}", seconds)

    def until_code(self, code: str, seconds: float = 60.0) -> None:
        """Until this is where the link stands."""
        self.until(lambda: self.link_status.get("code") == code, f"link: {code}", seconds)

    def session(self, *topics: str, expect: bool = True) -> Session:
        """A second MQTT client with the box's own key: what a thief of its disk has."""
        found = credentials.load(self.enrolled.config.paths)
        client = Client(self.name, found.cert_chain_path, found.key_path, None)  # type: ignore[arg-type]
        config = self.department.config
        return Session(
            client, str(config.paths.pki / "roots.pem"), config.mqtt_host, config.ports.mqtt, topics=topics,
            expect=expect,
        )  # fmt: skip


def ahead(days: int) -> dict[str, str]:
    """Environment of a process whose wall clock is so many days ahead; it measures time rightly all the same."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME": f"+{days}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@contextmanager
def running(box: BoxSide) -> Iterator[BoxSide]:
    """Its filter runs inside; the services that were started end with it."""
    box.write_configuration()
    box.filter.start()
    try:
        yield box
    finally:
        box.stop()
        box.filter.stop()
